"""Who runs the tasks of a build: this process, processes of this machine, Slurm or Ray.

A Stage is a list of tasks that do not know of each other; an Executor runs those that have no marker yet. task.py has
what all of them do with one task, local.py, slurm.py and ray.py are the executors, settings.py chooses one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Stage:
    """A list of tasks, in any order and any number of them at once.

    Attributes:
        name: a word that can name a folder.
        tasks: how many; they are numbered from 0.
        work: does one task and writes its result whole; may give the number of rows it dealt with. It can be pickled.
        folder: the build's work folder, which every worker sees under this path.
    """

    name: str
    tasks: int
    work: Callable[[int], int | None]
    folder: Path


class Executor(Protocol):
    """Runs stages."""

    name: str

    def run(self, stage: Stage) -> None:
        """Run the tasks that have no marker; where one fails, the others are finished all the same.

        Raises:
            KollmError: tasks failed, or cannot be run here; of the first failed task's kind.
        """

    def close(self) -> None:
        """Let the workers go; the executor can be used again."""
