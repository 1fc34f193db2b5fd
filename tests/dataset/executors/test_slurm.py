"""Against a real Slurm; where it is not installed they are skipped, unless KOLLM_REQUIRE_SLURM is set."""

from __future__ import annotations

import getpass
import os
import signal
import stat
import subprocess
import sys
import threading

import pytest

from kollm.core.errors import InputError, StateError
from kollm.dataset.executors import slurm, step
from kollm.dataset.executors.settings import make_executor, read_settings
from kollm.dataset.executors.slurm import job_name_of, keep_private
from tests.dataset.executors import toy
from tests.dataset.executors.conftest import wait_for

pytestmark = pytest.mark.slow
FAST = {"partition": "main", "mem_per_cpu_gb": "2", "poll_seconds": "0.3", "visible_seconds": "1"}

_PROGRAM = """
from pathlib import Path
from kollm.dataset.executors.settings import make_executor, read_settings
from tests.dataset.executors import toy
make_executor(read_settings(None, "slurm", 2, {settings!r})).run(toy.stage(Path({folder!r}), toy.slow, 2))
"""


def run(stage, workers: int = 2, **more: str) -> None:
    make_executor(read_settings(None, "slurm", workers, FAST | more)).run(stage)


def jobs(slurm, stage) -> str:
    return slurm.ask("squeue", "-h", "-n", job_name_of(stage), "-o", "%T")


def test_the_others_are_finished_when_some_fail_and_only_these_run_again(on_slurm, tmp_path):
    with pytest.raises(InputError) as caught:
        run(toy.stage(tmp_path, toy.fail_some))
    assert str(caught.value) == "Row 2 is empty - fill it. (stage 'toy': tasks 2, 5 of 6 failed)"
    assert sorted(toy.results(tmp_path)) == [0, 1, 3, 4]
    run(toy.stage(tmp_path))
    assert toy.results(tmp_path) == toy.EXPECTED
    assert toy.runs(tmp_path) == list(range(6))
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700, "what jobs unpickle nobody else may write"


def test_a_killed_worker_is_replaced_and_a_task_that_kills_twice_fails_alone(on_slurm, tmp_path):
    with pytest.raises(
        StateError, match=r"job \d+_\d ended before its task, 2 times.*Killed.*task 3 of 6 failed; log: "
    ):
        run(toy.stage(tmp_path, toy.die))
    assert sorted(toy.results(tmp_path)) == [0, 1, 2, 4, 5]


def _begin(slurm, folder) -> tuple[subprocess.Popen[bytes], object]:
    """A process that has submitted two tasks, which run and wait."""
    program = _PROGRAM.format(settings=FAST, folder=str(folder))
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    wait_for(lambda: len(list(folder.glob("begun-*"))) == 2)
    return process, toy.stage(folder, toy.slow, 2)


def test_jobs_outlive_the_process_that_submitted_them_and_are_not_run_twice(on_slurm, tmp_path, monkeypatch):
    process, stage = _begin(on_slurm, tmp_path)
    process.kill()
    process.wait()
    assert "RUNNING" in jobs(on_slurm, stage)
    told = []

    def say(sentence: str) -> None:
        told.append(sentence)
        (tmp_path / "go").touch()

    monkeypatch.setattr(slurm, "say", say)
    run(stage)
    assert "jobs of an earlier start are at work" in told[0]
    assert toy.results(tmp_path) == toy.expected(2)
    assert toy.runs(tmp_path) == [0, 1]


def test_ctrl_c_cancels_and_a_job_that_is_killed_whole_is_done_again(on_slurm, tmp_path):
    process, stage = _begin(on_slurm, tmp_path)
    process.send_signal(signal.SIGINT)
    process.wait()
    wait_for(lambda: not jobs(on_slurm, stage))
    assert toy.runs(tmp_path) == []
    for path in tmp_path.glob("begun-*"):
        path.unlink()

    def kill_then_go() -> None:
        wait_for(lambda: len(list(tmp_path.glob("begun-*"))) == 2)
        on_slurm.ask("scancel", "--signal=KILL", "--full", "-n", job_name_of(stage), "-u", getpass.getuser())
        (tmp_path / "go").touch()

    killer = threading.Thread(target=kill_then_go)
    killer.start()
    run(stage)
    killer.join()
    assert toy.results(tmp_path) == toy.expected(2)


def test_workers_that_do_not_see_the_folder(on_slurm):
    if not on_slurm.hides:
        pytest.skip("this system lets no process have its own mounts")
    with pytest.raises(
        StateError, match=r"nothing of them is to be seen in '.*hidden/build' - name an output on a disk"
    ):
        run(toy.stage(on_slurm.hidden / "build", tasks=2))


def test_workers_with_another_kollm(on_slurm, tmp_path, monkeypatch):
    monkeypatch.setattr(step, "__version__", "9.9.9")
    with pytest.raises(StateError, match=r"The worker \S+ has kollm 0\S+, and the build was started with 9.9.9"):
        run(toy.stage(tmp_path, tasks=2))
    assert toy.results(tmp_path) == {}


def test_a_partition_that_does_not_exist_and_a_limit_that_it_refuses(on_slurm, tmp_path):
    with pytest.raises(InputError, match=r"The partition 'gpu' does not exist on this cluster - it has: brief, main\."):
        run(toy.stage(tmp_path), partition="gpu")
    with pytest.raises(StateError, match=r"Slurm does not run the jobs of stage 'toy' \(PartitionTimeLimit\)"):
        run(toy.stage(tmp_path), partition="brief", time="02:00:00")
    assert jobs(on_slurm, toy.stage(tmp_path)) == ""
    with pytest.raises(StateError, match="Slurm took no job"):  # no InputError, which would end the work folder
        run(toy.stage(tmp_path), mem_per_cpu_gb="900")


def test_another_users_folder_gets_no_jobs(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(StateError, match=r"belongs to another user, who could give your jobs code to run"):
        keep_private(tmp_path)
