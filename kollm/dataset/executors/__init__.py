"""Executors run the tasks of a stage: in this process, in processes of this machine, on Slurm, on Ray."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol


class Stage(NamedTuple):
    name: str
    tasks: int
    work: Callable[[int], None]
    folder: Path


class Executor(Protocol):
    name: str

    def run(self, stage: Stage) -> None: ...
