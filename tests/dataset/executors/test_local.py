from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from kollm.core.errors import InputError, StateError
from kollm.dataset.executors import Stage
from kollm.dataset.executors.local import LocalExecutor
from kollm.dataset.executors.step import TaskStep
from tests.dataset.executors import toy


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_every_task_is_done_once_and_leaves_a_marker(tmp_path, workers):
    executor = LocalExecutor(workers)
    executor.run(toy.stage(tmp_path))
    executor.close()
    assert toy.results(tmp_path) == toy.EXPECTED
    assert toy.runs(tmp_path) == list(range(6))
    marker = json.loads((tmp_path / "done" / "toy" / "4").read_text())
    assert marker["rows"] == 10
    assert not any((tmp_path / "running" / "toy").iterdir())


def test_only_tasks_without_a_marker_are_run(tmp_path):
    LocalExecutor().run(toy.stage(tmp_path))
    (tmp_path / "done" / "toy" / "3").unlink()
    LocalExecutor().run(toy.stage(tmp_path))
    assert toy.runs(tmp_path) == [0, 1, 2, 3, 3, 4, 5]


def test_one_worker_or_one_task_starts_no_process(tmp_path):
    LocalExecutor(4).run(toy.stage(tmp_path, tasks=1))
    assert (tmp_path / "runs").read_text() == f"0 {os.getpid()}\n"


def test_workers_stay_for_the_next_stage_and_have_one_thread_each(tmp_path):
    executor = LocalExecutor(2)
    executor.run(toy.stage(tmp_path / "a"))
    executor.run(toy.stage(tmp_path / "b"))
    pids = {line.split()[1] for name in "ab" for line in (tmp_path / name / "runs").read_text().splitlines()}
    assert len(pids) <= 2 and str(os.getpid()) not in pids
    executor.run(toy.stage(tmp_path / "c", toy.threads))
    assert set(toy.results(tmp_path / "c").values()) == {b"1"}
    executor.close()


def test_cycles_are_looked_for_less_often_within_a_task_alone(tmp_path):
    before, within = (700, 10, 10), []
    gc.set_threshold(*before)  # a command that ran before may have set it
    LocalExecutor().run(Stage("toy", 1, lambda task: within.append(gc.get_threshold()), tmp_path))
    assert within[0][0] > before[0]
    assert gc.get_threshold() == before


@pytest.mark.parametrize("workers", [1, 2])
def test_the_others_are_finished_when_some_fail(tmp_path, workers):
    with pytest.raises(InputError) as caught:
        LocalExecutor(workers).run(toy.stage(tmp_path, toy.fail_some))
    assert str(caught.value) == "Row 2 is empty - fill it. (stage 'toy': tasks 2, 5 of 6 failed)"
    assert sorted(toy.results(tmp_path)) == [0, 1, 3, 4]
    LocalExecutor(workers).run(toy.stage(tmp_path))
    assert toy.results(tmp_path) == toy.EXPECTED
    assert not any((tmp_path / "failed" / "toy").iterdir())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_fault_of_ours_names_the_log(tmp_path, workers):
    with pytest.raises(StateError) as caught:
        LocalExecutor(workers).run(toy.stage(tmp_path, toy.crash_some))
    log = tmp_path / "log" / "toy" / "1.log"
    assert "ZeroDivisionError" in str(caught.value) and str(log) in str(caught.value)
    assert "crash_some" in log.read_text()


def test_a_killed_worker_is_replaced_and_a_task_that_kills_twice_fails_alone(tmp_path):
    with pytest.raises(StateError, match=r"was killed \(signal 9\), 2 times.*task 3 of 6 failed"):
        LocalExecutor(2).run(toy.stage(tmp_path, toy.die))
    assert sorted(toy.results(tmp_path)) == [0, 1, 2, 4, 5]
    assert toy.results(tmp_path)[2] == toy.EXPECTED[2]


def test_what_cannot_be_pickled_is_done_in_this_process_and_goes_to_no_cluster(tmp_path, capsys):
    lock = threading.Lock()

    def work(folder, task):
        with lock:
            return toy.write(folder, task)

    executor = LocalExecutor(2)
    for name in ("first", "second"):
        executor.run(toy.stage(tmp_path / name, work))
        assert toy.results(tmp_path / name) == toy.EXPECTED
        assert {line.split()[1] for line in (tmp_path / name / "runs").read_text().splitlines()} == {str(os.getpid())}
    assert capsys.readouterr().err.count("cannot go to a worker") == 1
    with pytest.raises(InputError, match=r"cannot go to a worker \(.*\) - have it hold nothing that cannot be pickled"):
        TaskStep(toy.stage(tmp_path / "third", work), [[0]])


_PROGRAM = """
from pathlib import Path
from kollm.dataset.executors.local import LocalExecutor
from tests.dataset.executors import toy
if __name__ == "__main__":
    LocalExecutor(2).run(toy.stage(Path({folder!r}), toy.slow))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent_and_what_was_done_stays(tmp_path, number):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(place or os.getcwd() for place in sys.path)}
    program = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM.format(folder=str(tmp_path))], env=environment, stderr=subprocess.DEVNULL
    )
    _wait_for(lambda: len(list(tmp_path.glob("begun-*"))) == 2)
    notes = [json.loads(path.read_text()) for path in (tmp_path / "running" / "toy").glob("[0-9]*")]
    program.send_signal(number)
    program.wait()
    _wait_for(lambda: not any(_alive(note["pid"]) for note in notes))
    (tmp_path / "go").touch()
    LocalExecutor(2).run(toy.stage(tmp_path, toy.slow))
    assert toy.results(tmp_path) == toy.EXPECTED
    assert toy.runs(tmp_path) == list(range(6))


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _wait_for(what):
    deadline = time.monotonic() + 120
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)
