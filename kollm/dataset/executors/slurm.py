"""Tasks as arrays of Slurm jobs, through datatrove: submitted, waited for, reported."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kollm.core.errors import InputError, MissingExtraError, StateError
from kollm.core.progress import say
from kollm.dataset.executors import Stage
from kollm.dataset.executors.settings import SlurmSettings
from kollm.dataset.executors.task import forget_failure, missing, raise_failed, record_lost

try:
    from datatrove.executor.slurm import SlurmPipelineExecutor

    from kollm.dataset.executors import step
except ModuleNotFoundError as error:
    raise MissingExtraError("datatrove", "scale") from error

TRIES = 2
"""How often a task is submitted whose job ends without a word."""
SILENCE = 600.0
"""Seconds for which Slurm may fail to answer, e.g. while its controller is restarted."""
_FIRST_POLL = 0.2
_NEVER = ("held", "BadConstraints", "InvalidAccount", "InvalidQOS", "PartitionTimeLimit", "PartitionNodeLimit")
"""Reasons of waiting that no waiting ends."""


class SlurmExecutor(step.ClusterExecutor):
    """Runs tasks as Slurm jobs.

    The jobs of a stage have a name of their own: a process that was killed leaves them at work, and the next one finds
    them and waits. Ctrl-C cancels them.

    Args:
        workers: jobs at once.
        settings: what Slurm is told.

    Raises:
        InputError: Slurm's commands are not here, or the partition does not exist.
    """

    name = "slurm"

    def __init__(self, workers: int, settings: SlurmSettings) -> None:
        self._workers, self._settings = workers, settings
        if shutil.which("sbatch") is None:
            raise InputError(
                "The executor 'slurm' needs Slurm, and there is no 'sbatch' on this machine - start the build on a login "
                "node of the cluster, or use --executor local."
            )
        partitions = sorted({name.strip() for name in _ask("sinfo", "-h", "-o", "%R").split()})
        if settings.partition is not None and not set(settings.partition.split(",")) <= set(partitions):
            raise InputError(
                f"The partition '{settings.partition}' does not exist on this cluster - it has: {', '.join(partitions)}."
            )
        step.quiet_datatrove()

    def _run(self, stage: Stage, todo: list[int]) -> None:
        keep_private(stage.folder)
        name = job_name_of(stage)
        try:
            with step.watched(stage, todo, self._settings.poll_seconds):
                if _jobs(name):
                    say(f"{stage.name}: jobs of an earlier start are at work ({name}); waiting for them.")
                    self._wait(stage, name)
                todo = missing(stage)
                for task in todo:
                    forget_failure(stage, task)
                for attempt in range(TRIES):
                    if rest := step.lost(stage, todo):
                        self._attempt(stage, rest, last=attempt == TRIES - 1)
        except KeyboardInterrupt:
            _ask("scancel", "-n", name, "-u", getpass.getuser())
            raise
        raise_failed(stage)

    def close(self) -> None:
        """As Executor."""

    def _attempt(self, stage: Stage, tasks: Sequence[int], last: bool) -> None:
        chunks = step.chunked(tasks, self._workers, single=last)
        logs = stage.folder / "slurm" / stage.name
        array = _array(stage, chunks, self._workers, self._settings, logs)
        try:
            array.run()
        except subprocess.CalledProcessError as error:
            raise StateError(  # an InputError would end the build's work folder
                f"Slurm took no job (exit code {error.returncode}; its reason stands above) - mend the settings of --slurm."
            ) from error
        self._wait(stage, job_name_of(stage))
        deadline = time.monotonic() + self._settings.visible_seconds
        while step.lost(stage, tasks) and time.monotonic() < deadline:
            time.sleep(0.2)
        rest = step.lost(stage, tasks)
        if rest and not any(logs.glob("*.out")):
            raise StateError(
                f"Slurm's jobs ended, and nothing of them is to be seen in '{stage.folder}' - name an output on a disk that "
                "all machines of the cluster share, or look up the jobs with sacct."
            )
        if last:
            for task in rest:
                place = next(index for index, chunk in enumerate(chunks) if task in chunk)
                job = step.running_note(stage, task).get("job") or f"{array.job_id}_{place}"
                record_lost(stage, task, *_last_word(job, logs / f"{job}.out"))
        step.forget_running(stage, rest)

    def _wait(self, stage: Stage, name: str) -> None:
        """Wait until no job of that name is left.

        Raises:
            StateError: they never run, or Slurm does not answer.
        """
        pause, told, before = _FIRST_POLL, "", len(missing(stage))
        moved = time.monotonic()
        while jobs := _jobs(name):
            if not missing(stage):
                return
            states = Counter(state for state, _ in jobs)
            reasons = ", ".join(sorted({reason for state, reason in jobs if state == "PENDING"} - {"None"}))
            left = len(missing(stage))
            if "RUNNING" in states or "COMPLETING" in states or left < before:
                moved, before = time.monotonic(), left
            elif any(word in reasons for word in _NEVER) or (
                time.monotonic() - moved > self._settings.patience_hours * 3600
            ):
                _ask("scancel", "-n", name, "-u", getpass.getuser())
                raise StateError(
                    f"Slurm does not run the jobs of stage '{stage.name}' ({reasons or 'no reason is given'}); they are "
                    "cancelled - mend the settings of --slurm, or ask the cluster's administrators."
                )
            elif reasons not in ("", "JobArrayTaskLimit", told):
                told = reasons
                say(f"{stage.name}: {states['PENDING']:,} job entries wait in Slurm's queue ({reasons}).")
            time.sleep(pause)
            pause = min(pause * 1.5, self._settings.poll_seconds)


class TaskArray(SlurmPipelineExecutor):  # type: ignore[misc]
    """datatrove's executor, without a job that sums up statistics, and without options that were not given."""

    def launch_merge_stats(self) -> None:
        """Nothing: the markers have the figures."""

    def get_sbatch_args(self, max_array: int = 1) -> dict[str, Any]:
        given = super().get_sbatch_args(max_array)
        return {name: value for name, value in given.items() if value is not None}


def _array(
    stage: Stage, chunks: Sequence[Sequence[int]], workers: int, settings: SlurmSettings, logs: Path
) -> TaskArray:
    here = Path(sys.executable).parent
    more = {"account": settings.account} if settings.account else {}
    return TaskArray(
        [step.TaskStep(stage, chunks)],
        tasks=len(chunks),
        time=settings.time,
        partition=settings.partition,
        cpus_per_task=settings.cpus_per_task,
        mem_per_cpu_gb=settings.mem_per_cpu_gb,
        workers=workers,
        job_name=job_name_of(stage),
        qos=settings.qos,
        env_command=settings.env_command or f"export PATH='{here}':$PATH OMP_NUM_THREADS={settings.cpus_per_task}",
        sbatch_args={**more, **settings.sbatch_args},
        srun_args=settings.srun_args,
        max_array_size=settings.max_array_size,
        logging_dir=str(stage.folder / "engine" / stage.name),
        slurm_logs_folder=str(logs),
        skip_completed=False,  # the markers say what is done
    )


def keep_private(folder: Path) -> None:
    """Let nobody else write into a work folder: a job unpickles the pipeline that datatrove leaves there.

    Jobs run as the user who submits them, so that they need no other's rights.

    Args:
        folder: the work folder, on the cluster's disk.

    Raises:
        StateError: it belongs to another user.
    """
    if folder.stat().st_uid != os.geteuid():
        raise StateError(
            f"'{folder}' belongs to another user, who could give your jobs code to run - name an output in a folder of yours."
        )
    with contextlib.suppress(PermissionError):  # a disk without modes of its own, whose mount says who may write
        folder.chmod(0o700)


def job_name_of(stage: Stage) -> str:
    """The name of a stage's jobs: that of no other build."""
    return f"kollm-{hashlib.sha256(str(stage.folder.absolute()).encode()).hexdigest()[:12]}-{stage.name}"


def _jobs(name: str) -> list[tuple[str, str]]:
    """State and reason of the jobs of that name that Slurm still has."""
    answer = _ask("squeue", "-h", "-n", name, "-u", getpass.getuser(), "-o", "%T|%r")
    found = [line.partition("|") for line in answer.splitlines() if line]
    return [(state, reason) for state, _, reason in found]


def _ask(*command: str) -> str:
    """What a command of Slurm answers; asked again while its controller is away.

    Raises:
        StateError: it does not answer.
    """
    deadline = time.monotonic() + (SILENCE if command[0] == "squeue" else 0)
    while True:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout
        if time.monotonic() >= deadline:
            reason = " ".join(done.stderr.split())[:300]
            raise StateError(
                f"Slurm does not answer ({command[0]}: {reason}) - try again later; jobs that are at work go on, and the same "
                "command waits for them."
            )
        time.sleep(5)


def _last_word(job: str, log: Path) -> tuple[str, Path | None]:
    """What to tell of a job that ended without a word, and its log."""
    if not log.is_file():
        return f"Slurm's job {job} ended, and it left no log - look it up with: sacct -j {job}.", None
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    faults = [line for line in lines if "error" in line.lower() or "Killed" in line or "not found" in line]
    word = (faults or lines or ["nothing"])[-1][:200]
    return (
        f"Slurm's job {job} ended before its task, {TRIES} times, and says '{word}' - it may need more memory or "
        "time (--slurm mem_per_cpu_gb=8,time=04:00:00).",
        log,
    )
