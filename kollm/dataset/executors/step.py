"""Tasks as a step of datatrove's pipelines, and what its executors for clusters have in common."""

from __future__ import annotations

import math
import os
import pickle
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep
from loguru import logger

from kollm.core.errors import StateError
from kollm.core.progress import Progress
from kollm.core.version import __version__
from kollm.dataset.executors import Stage
from kollm.dataset.executors.local import LocalExecutor
from kollm.dataset.executors.task import begin, failures, missing, pack, read_note, record_lost, run_task

CHUNKS = 2
"""Jobs a worker: enough that all end at about the same time, few enough that starting them costs little."""


class TaskStep(PipelineStep):  # type: ignore[misc]
    """Runs a chunk of a stage's tasks a rank.

    It is pickled. The stage inside is so apart, that a worker with another kollm can say so before it fails to read it.
    """

    type = "kollm"

    def __init__(self, stage: Stage, chunks: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.name = stage.name
        self.folder = str(stage.folder)
        self.chunks = [list(chunk) for chunk in chunks]
        self.version = __version__
        self.packed = pack(stage)

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Run the chunk with the number `rank`.

        Raises:
            StateError: a task failed, which its note says, or this worker does not fit the build.
        """
        host = socket.gethostname()
        if not Path(self.folder).is_dir():
            raise StateError(
                f"The worker {host} cannot see '{self.folder}' - name an output on a disk that all machines share."
            )
        if self.version != __version__:
            self._refuse(
                rank,
                f"The worker {host} has kollm {__version__}, and the build was started with {self.version} - install the same version everywhere.",
            )
        stage: Stage = pickle.loads(self.packed)  # noqa: S301 - the process that started the build made it
        failed = [task for task in self.chunks[rank] if not run_task(stage, task, job_name())]
        if failed:
            raise StateError(f"Of stage '{stage.name}', tasks {failed} failed - {stage.folder / 'failed'} says why.")

    def _refuse(self, rank: int, sentence: str) -> None:
        stage = Stage(self.name, 0, int, Path(self.folder))
        for task in self.chunks[rank]:
            record_lost(stage, task, sentence)
        raise StateError(sentence)


class ClusterExecutor(ABC):
    """Runs a stage's tasks on other machines, but a stage of one task here, since a job takes longer to start."""

    name: str

    def run(self, stage: Stage) -> None:
        """As Executor."""
        todo = begin(stage, self.name)
        if stage.tasks == 1:
            LocalExecutor().run(stage)
        elif todo:
            self._run(Stage(stage.name, stage.tasks, stage.work, stage.folder.absolute()), todo)

    @abstractmethod
    def _run(self, stage: Stage, todo: list[int]) -> None:
        """Run these tasks; the stage's folder is a whole path."""


def job_name() -> str:
    """What Slurm calls the job that this process is part of; empty outside it."""
    job, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{job}_{index}" if job and index else ""


def chunked(tasks: Sequence[int], workers: int, single: bool) -> list[list[int]]:
    """Tasks as chunks, one a job.

    Args:
        tasks: their numbers.
        workers: jobs at once.
        single: one task a job, so that one that kills its process takes no other with it.
    """
    size = 1 if single else math.ceil(len(tasks) / (workers * CHUNKS))
    return [list(tasks[start : start + size]) for start in range(0, len(tasks), size)]


def lost(stage: Stage, todo: Sequence[int]) -> list[int]:
    """The tasks of `todo` that are neither done nor said to have failed."""
    failed = {failure.task for failure in failures(stage.folder, stage.name)}
    return sorted(set(missing(stage)) & set(todo) - failed)


def running_note(stage: Stage, task: int) -> dict[str, Any]:
    """Where a task ran that ended without a word; empty where it did not begin."""
    return read_note(stage.folder / "running" / stage.name / str(task)) or {}


def forget_running(stage: Stage, tasks: Sequence[int]) -> None:
    """Take away the notes of tasks whose jobs have ended."""
    for task in tasks:
        (stage.folder / "running" / stage.name / str(task)).unlink(missing_ok=True)


@contextmanager
def watched(stage: Stage, todo: Sequence[int], seconds: float = 1.0) -> Iterator[None]:
    """Show how many of the tasks are done while others run them."""
    ended = threading.Event()
    before = len(todo)

    def look(progress: Progress) -> None:
        while not ended.wait(seconds):
            done = before - len(missing(stage))
            if done > progress.done:
                progress.advance(done - progress.done)

    with Progress(stage.name, before, "task") as progress:
        watcher = threading.Thread(target=look, args=(progress,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()


def quiet_datatrove() -> None:
    """Leave standard error to kollm in the process that starts the jobs; theirs have datatrove's log files."""
    logger.disable("datatrove")
