"""One build on every executor: the same bytes, killed or not."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from kollm.dataset import shards
from kollm.dataset.executors.settings import make_executor, read_settings
from kollm.dataset.pipeline import SourceInput, build_dataset
from kollm.dataset.work import work_place
from tests.dataset.executors.conftest import import_path, wait_for
from tests.dataset.executors.test_slurm import FAST

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    lines = [
        {"id": f"row{number}", "instruction": f"Name {number % 37} rivers of the land.", "input": "", "output": f"River {number % 41} " * 9}
        for number in range(80)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(shards, "SHARD_ROWS", 40)


def build(path, output, executor=None):
    options = {"translator": "none", "filters": "none", "processes": 0}
    build_dataset([SourceInput("gpt4_llm", path)], output=output, executor=executor, **options)
    assert not work_place(output).exists()
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in output.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def expected(rows, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_ROWS", 40)
        return build(rows, tmp_path_factory.mktemp("whole") / "out")


def test_on_two_processes_and_on_ray(rows, expected, tmp_path):
    pytest.importorskip("ray")
    manifest = json.loads(expected["manifest.json"])
    assert manifest["rows"]["gpt4-llm"] > 30 and any(name.startswith("rejected/") for name in manifest["files"])
    for name in ("local", "ray"):
        assert build(rows, tmp_path / name, make_executor(read_settings(None, name, 2, {}))) == expected


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
    wait_for(lambda: any((work_place(output) / "done" / "prepare").glob("[0-9]*")), 60)
    process.kill()
    process.wait()
    assert build(rows, output, make_executor(read_settings(None, "slurm", 2, FAST))) == expected
