"""Against a Ray that is started on this machine for all tests of this file: its start takes five seconds of processor time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from kollm.core.errors import InputError, StateError
from kollm.dataset import shards
from kollm.dataset.executors.settings import make_executor, read_settings
from tests.dataset.executors import toy
from tests.dataset.executors.conftest import import_path, wait_for

pytest.importorskip("ray")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def executor():
    made = make_executor(read_settings(None, "ray", 2, {}))
    yield made
    made.close()


@pytest.mark.nightly(
    "tests/dataset/executors/test_slurm.py::test_the_others_are_finished_when_some_fail_and_only_these_run_again"
)
def test_the_others_are_finished_when_some_fail_and_only_these_run_again(executor, tmp_path):
    with pytest.raises(InputError) as caught:
        executor.run(toy.stage(tmp_path, toy.fail_some))
    assert str(caught.value) == "Row 2 is empty - fill it. (stage 'toy': tasks 2, 5 of 6 failed)"
    assert sorted(toy.results(tmp_path)) == [0, 1, 3, 4]
    executor.run(toy.stage(tmp_path))
    assert toy.results(tmp_path) == toy.EXPECTED
    assert toy.runs(tmp_path) == list(range(6))


def test_a_build_has_the_bytes_of_one_process(executor, rows, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_ROWS", toy.SHARD_ROWS)
    monkeypatch.setattr(executor, "close", lambda: None)  # the other tests go on with it
    assert toy.build(rows, tmp_path / "out", executor) == expected


@pytest.mark.nightly(
    "tests/dataset/executors/test_slurm.py::test_a_killed_worker_is_replaced_and_a_task_that_kills_twice_fails_alone"
)
def test_a_killed_worker_is_replaced(executor, tmp_path):
    executor.run(toy.stage(tmp_path, toy.die, 3))
    assert toy.results(tmp_path) == toy.expected(3)


def test_workers_stay_for_the_next_stage(executor, tmp_path):
    for name in ("a", "b"):
        executor.run(toy.stage(tmp_path / name))
    pids = {line.split()[1] for name in "ab" for line in (tmp_path / name / "runs").read_text().splitlines()}
    assert len(pids) <= 2 and str(os.getpid()) not in pids


_PROGRAM = """
from pathlib import Path
from kollm.dataset.executors.settings import make_executor, read_settings
from tests.dataset.executors import toy
make_executor(read_settings(None, "ray", 2, {{}})).run(toy.stage(Path({folder!r}), toy.slow, 2))
"""


@pytest.mark.nightly(
    "tests/dataset/executors/test_slurm.py::test_jobs_outlive_the_process_that_submitted_them_and_are_not_run_twice"
)
def test_a_killed_process_takes_its_ray_with_it_and_the_build_goes_on(executor, tmp_path):
    environment = {**os.environ, "PYTHONPATH": import_path()}
    environment.pop("RAY_ADDRESS", None)
    program = _PROGRAM.format(folder=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(list(tmp_path.glob("begun-*"))) == 2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (tmp_path / "go").touch()
    executor.run(toy.stage(tmp_path, toy.slow, 2))
    assert toy.results(tmp_path) == toy.expected(2)


def test_no_room_and_no_cluster(executor, tmp_path):
    small = executor._settings
    executor._settings = small.model_copy(update={"cpus_per_task": 64})
    with pytest.raises(StateError, match="no room for a worker of 64 cores"):
        executor.run(toy.stage(tmp_path))
    executor._settings = small


def test_workers_with_another_kollm(executor, tmp_path, monkeypatch):
    from kollm.dataset.executors import ray

    monkeypatch.setattr(ray, "__version__", "9.9.9")
    with pytest.raises(StateError, match=r"has kollm 0\S+, and this process has 9.9.9"):
        executor.run(toy.stage(tmp_path))
