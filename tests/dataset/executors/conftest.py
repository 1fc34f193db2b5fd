from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import pytest

from kollm.dataset import shards
from tests.dataset.executors import toy
from tests.servers.slurm import Slurm, missing_programs


@pytest.fixture(scope="session")
def slurm():
    """A real Slurm of one node, in this process's environment while a test uses it."""
    if missing := missing_programs():
        told = f"no Slurm here ({', '.join(missing)} missing): apt-get install slurm-wlm munge"
        if os.environ.get("KOLLM_REQUIRE_SLURM"):
            pytest.fail(told)
        pytest.skip(told)
    with tempfile.TemporaryDirectory(prefix="sl", dir="/tmp") as folder, Slurm(Path(folder)) as started:
        yield started


@pytest.fixture
def on_slurm(slurm, monkeypatch):
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", import_path())
    return slurm


@pytest.fixture(scope="session")
def rows(tmp_path_factory):
    """80 rows, some of them twice: two shards of `toy.SHARD_ROWS`."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    lines = [
        {"id": f"row{number}", "instruction": f"Name {number % 37} rivers of the land.", "input": "", "output": f"River {number % 41} " * 9}
        for number in range(80)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="session")
def expected(rows, tmp_path_factory):
    """The files of their build in one process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_ROWS", toy.SHARD_ROWS)
        return toy.build(rows, tmp_path_factory.mktemp("whole") / "out")


def import_path() -> str:
    return os.pathsep.join(place or os.getcwd() for place in sys.path)


def wait_for(what, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)
