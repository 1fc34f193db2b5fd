from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import pytest

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


def import_path() -> str:
    return os.pathsep.join(place or os.getcwd() for place in sys.path)


def wait_for(what, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)
