"""Batches in worker processes: in order, with their errors, and gone with their parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kollm.core.errors import InputError
from kollm.dataset.pool import Pool


class Worker:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    def times(self, number: int) -> int:
        if number == 7:
            raise InputError("Seven is not taken - leave it out.")
        return self.factor * number


@pytest.mark.parametrize("processes", [0, 2])
def test_results_come_in_order(processes: int) -> None:
    with Pool(Worker(3), processes) as pool:
        assert list(pool.map(Worker.times, [5, 1, 4, 2])) == [15, 3, 12, 6]
        assert list(pool.map(Worker.times, iter(()))) == []


@pytest.mark.parametrize("processes", [0, 2])
def test_an_error_arrives_as_it_was(processes: int) -> None:
    with Pool(Worker(3), processes) as pool, pytest.raises(InputError, match="Seven is not taken"):
        list(pool.map(Worker.times, [1, 7, 2]))


PARENT = """
import sys, time
from kollm.dataset.pool import Pool

def busy(worker, number):
    import os
    print(os.getpid(), flush=True)
    time.sleep(60)

with Pool(object(), 1) as pool:
    list(pool.map(busy, [1]))
"""


def test_workers_end_when_their_parent_is_killed() -> None:
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root}
    ) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    for _ in range(200):
        if not _runs(worker):
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker outlived its parent")


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")  # one that ended but was not collected is there still, as a zombie
    return not (status.exists() and status.read_text(encoding="utf-8").split()[2] == "Z")


BUILDS = """
import os, shutil, sys
import kollm
from kollm.dataset.settings import SourceInput

for processes in (0, 2, 0, 2):
    shutil.rmtree(sys.argv[2], ignore_errors=True)
    report = kollm.build_dataset(
        [SourceInput("gpt4_llm", sys.argv[1])], translator="none", filters="none", output=sys.argv[2], processes=processes
    )
    print(report.rows["gpt4-llm"], flush=True)
"""


def test_builds_with_and_without_workers_in_one_process(tmp_path: Path) -> None:
    """A notebook: no build leaves threads behind that the workers of the next one would wait for."""
    rows = [
        {"instruction": f"Explain the number {n} to me.", "input": "", "output": f"It is {n} * {n}."}
        for n in range(1200)
    ]
    source = tmp_path / "rows.json"
    source.write_text(json.dumps(rows), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", BUILDS, str(source), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    assert len(done.stdout.split()) == 4 and len(set(done.stdout.split())) == 1, done.stderr
