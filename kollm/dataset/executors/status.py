"""How far a build has come, read from the notes of its tasks: while it runs, after a kill, and from any machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kollm.core.errors import InputError
from kollm.dataset.executors.task import Failure, failures, is_running, read_note


class StageStatus(NamedTuple):
    """Where a stage stands.

    Attributes:
        name: of the stage.
        executor: who runs it.
        tasks: how many there are.
        done: those that are done.
        running: those that show signs of life.
        failed: those that failed when they were last tried.
        rows: that the done tasks dealt with.
        rate: of these a second, all workers together; None where nothing is known.
    """

    name: str
    executor: str
    tasks: int
    done: int
    running: int
    failed: tuple[Failure, ...]
    rows: int
    rate: float | None


def read_status(folder: Path) -> list[StageStatus]:
    """The stages of a work folder that have begun, in their order.

    Raises:
        InputError: no build has begun there, or it is another user's.
    """
    if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
        raise InputError(f"The work folder '{folder}' is closed to you - ask the user who builds there.")
    notes = {path.name: read_note(path) for path in (folder / "stages").glob("[!.]*")}
    begun = sorted((note["started"], name) for name, note in notes.items() if note is not None)
    if not begun:
        raise InputError(f"No build is under way in '{folder}' - name the --output of one that was begun.")
    return [_status(folder, name, notes[name] or {}) for _, name in begun]


def task_log(folder: Path, stage: str, task: int) -> str:
    """What is known of a task that failed: its sentence, and its log.

    Raises:
        InputError: it did not fail.
    """
    failure = next((item for item in failures(folder, stage) if item.task == task), None)
    if failure is None:
        failed = [f"{status.name}/{item.task}" for status in read_status(folder) for item in status.failed]
        there = f"those that did: {', '.join(failed[:10])}" if failed else "none did"
        raise InputError(f"Task {stage}/{task} has not failed - {there}.")
    if failure.log is None:
        return failure.sentence
    try:
        return f"{failure.sentence}\n\n{Path(failure.log).read_text(encoding='utf-8', errors='replace')}"
    except OSError:
        return f"{failure.sentence}\n\nIts log is gone: {failure.log}"


def _status(folder: Path, name: str, about: dict[str, object]) -> StageStatus:
    failed = failures(folder, name)
    known = {str(failure.task) for failure in failed}
    done = list(_notes(folder / "done" / name))
    finished = {task for task, _ in done}
    running = sum(
        is_running(path) for path in (folder / "running" / name).glob("[0-9]*") if path.name not in known | finished
    )
    rows = int(sum(note.get("rows") or 0 for _, note in done))
    ends = [note["ended"] for _, note in done if "ended" in note]
    starts = [note["ended"] - note["seconds"] for _, note in done if "ended" in note]
    seconds = max(ends) - min(starts) if ends else 0.0
    rate = rows / seconds if rows and seconds > 0 else None
    tasks = about.get("tasks")
    return StageStatus(
        name,
        str(about.get("executor")),
        tasks if isinstance(tasks, int) else 0,
        len(done),
        running,
        tuple(failed),
        rows,
        rate,
    )


def _notes(folder: Path) -> Iterator[tuple[str, dict[str, float]]]:
    for path in folder.glob("[0-9]*"):
        yield path.name, read_note(path) or {}
