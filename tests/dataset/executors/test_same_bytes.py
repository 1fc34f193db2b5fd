"""One build on every executor: the same bytes, killed or not."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from kollm.dataset import shards
from kollm.dataset.executors.settings import make_executor, read_settings
from kollm.dataset.work import work_place
from tests.dataset.executors import toy
from tests.dataset.executors.conftest import import_path, wait_for
from tests.dataset.executors.test_slurm import FAST

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(shards, "SHARD_ROWS", toy.SHARD_ROWS)


def test_on_two_processes(rows, expected, tmp_path):
    """On Ray: test_ray.py, which has one running."""
    manifest = json.loads(expected["manifest.json"])
    assert manifest["rows"]["gpt4-llm"] > 30 and any(name.startswith("rejected/") for name in manifest["files"])
    assert toy.build(rows, tmp_path / "out", make_executor(read_settings(None, "local", 2, {}))) == expected


_PROGRAM = """
import sys
from pathlib import Path
from kollm.dataset import shards
from kollm.dataset.executors.settings import make_executor, read_settings
from kollm.dataset.pipeline import SourceInput, build_dataset
shards.SHARD_ROWS = 40
build_dataset([SourceInput("gpt4_llm", sys.argv[1])], translator="none", filters="none", output=sys.argv[2],
    executor=make_executor(read_settings(None, "slurm", 2, {settings!r})))
"""


def test_on_slurm_with_the_submitting_process_killed(rows, expected, tmp_path, on_slurm):
    output = tmp_path / "out"
    command = [sys.executable, "-c", _PROGRAM.format(settings=FAST), str(rows), str(output)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": import_path()})
    wait_for(lambda: any((work_place(output) / "done" / "prepare").glob("[0-9]*")))
    process.kill()
    process.wait()
    assert toy.build(rows, output, make_executor(read_settings(None, "slurm", 2, FAST))) == expected
