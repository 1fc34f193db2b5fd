"""One task, whoever runs it: its files in the work folder say that it runs, is done, or failed.

stages/STAGE          how many tasks there are, and who runs them
running/STAGE/TASK    where it runs; touched while it does, so that one that was killed is told from one at work
done/STAGE/TASK       the marker: rows and seconds; written last
failed/STAGE/TASK     the error in one sentence, until the task is tried again
log/STAGE/TASK.log    the error with its traceback
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from kollm.core import errors
from kollm.core.errors import InputError, KollmError, StateError, one_line
from kollm.core.files import disk_errors
from kollm.dataset.executors import Stage

HEARTBEAT = 5.0
"""Seconds between two signs of life of a running task."""
_NEW_OBJECTS = 100_000
"""Objects between two looks for cycles; Python's own 700 take a tenth of a build's processor time, 10,000 a fiftieth."""
STALE = 60.0
"""Seconds without one after which a task counts as killed; clocks of two machines may differ by some."""


class Failure(NamedTuple):
    """Why a task failed.

    Attributes:
        task: its number.
        kind: name of the error's class.
        sentence: what to tell.
        log: where more stands; None where there is no more to tell.
    """

    task: int
    kind: str
    sentence: str
    log: str | None


def begin(stage: Stage, executor: str) -> list[int]:
    """Note that a stage is run; gives the tasks without a marker."""
    for kind in ("stages", f"done/{stage.name}", f"running/{stage.name}"):
        (stage.folder / kind).mkdir(parents=True, exist_ok=True)
    about = stage.folder / "stages" / stage.name
    if not about.is_file():
        _write(about, {"tasks": stage.tasks, "executor": executor, "started": time.time()})
    return missing(stage)


def pack(stage: Stage) -> bytes:
    """A stage as bytes that a worker reads.

    Raises:
        InputError: something in it, a translator of one's own for instance, cannot go to a worker.
    """
    try:
        return pickle.dumps(stage)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise InputError(
            f"What this build uses cannot go to a worker ({error}) - have it hold nothing that cannot be pickled, such as an "
            "open connection, or build with the executor 'local'."
        ) from error


def missing(stage: Stage) -> list[int]:
    """The tasks without a marker."""
    done = {entry.name for entry in os.scandir(stage.folder / "done" / stage.name)}
    return [task for task in range(stage.tasks) if str(task) not in done]


def run_task(stage: Stage, task: int, job: str = "") -> bool:
    """Run one task here and leave its marker, or its failure.

    Args:
        stage: what it belongs to.
        task: its number.
        job: what the cluster engine calls the job that runs it.

    Returns:
        Whether it is done.
    """
    path = stage.folder / "done" / stage.name / str(task)
    if path.exists():
        return True
    forget_failure(stage, task)
    begun = time.monotonic()
    try:
        with _running(stage, task, job), _rare_collections():
            rows = stage.work(task)
    except Exception as error:
        _record(stage, task, error)
        return False
    _write(path, {"rows": rows, "seconds": round(time.monotonic() - begun, 3), "ended": time.time()})
    return True


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Look for cycles of dead objects less often: a task makes many objects that live for a batch, and hardly a cycle."""
    thresholds = gc.get_threshold()
    gc.set_threshold(_NEW_OBJECTS, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


def record_lost(stage: Stage, task: int, sentence: str, log: Path | None = None) -> None:
    """Note that a task ended without a word, e.g. since its process was killed."""
    failure = Failure(task, "StateError", sentence, str(log) if log else None)
    _write(_made(stage.folder / "failed" / stage.name) / str(task), failure._asdict())


def forget_failure(stage: Stage, task: int) -> None:
    """A task is tried again."""
    (stage.folder / "failed" / stage.name / str(task)).unlink(missing_ok=True)


def failures(folder: Path, stage: str) -> list[Failure]:
    """The failed tasks of a stage, by number."""
    place = folder / "failed" / stage
    found = (read_note(path) for path in place.glob("[0-9]*")) if place.is_dir() else iter(())
    return sorted(Failure(**note) for note in found if note is not None)


def raise_failed(stage: Stage) -> None:
    """Raise what the first failed task of a stage raised, naming the others.

    Raises:
        KollmError: of the same kind; StateError for what is no KollmError.
    """
    failed = failures(stage.folder, stage.name)
    if not failed:
        return
    first = failed[0]
    known = getattr(errors, first.kind, None)
    kind = known if isinstance(known, type) and issubclass(known, KollmError) else StateError
    error = kind.__new__(kind)
    error.args = (f"{first.sentence}{_which(stage, failed)}",)
    raise error


def _which(stage: Stage, failed: Sequence[Failure]) -> str:
    """` (stage 'prepare': tasks 3 and 7 of 64 failed; log: PATH)`; nothing for a stage's only task that said all."""
    log = f"; log: {failed[0].log}" if failed[0].log else ""
    if stage.tasks == 1:
        return f" ({log.removeprefix('; ')})" if log else ""
    numbers = [str(failure.task) for failure in failed[:5]]
    shown = ", ".join(numbers) + (f" and {len(failed) - 5:,} more" if len(failed) > 5 else "")
    return f" (stage '{stage.name}': task{'s' if len(failed) > 1 else ''} {shown} of {stage.tasks:,} failed{log})"


def read_note(path: Path) -> dict[str, Any] | None:
    """What a file of this module says; None where it is gone, or is being written on a slow shared disk."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def is_running(path: Path) -> bool:
    """Whether the task of a file in `running` shows signs of life."""
    try:
        return time.time() - path.stat().st_mtime < STALE
    except FileNotFoundError:
        return False


@contextmanager
def _running(stage: Stage, task: int, job: str) -> Iterator[None]:
    path = stage.folder / "running" / stage.name / str(task)
    _write(path, {"host": socket.gethostname(), "pid": os.getpid(), "job": job})
    ended = threading.Event()
    threading.Thread(target=_beat, args=(path, ended.wait), daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        path.unlink(missing_ok=True)


def _beat(path: Path, ended: Callable[[float], bool]) -> None:
    while not ended(HEARTBEAT):
        try:
            os.utime(path)
        except OSError:
            return


def _record(stage: Stage, task: int, error: Exception) -> None:
    log = None
    if not isinstance(error, KollmError):  # a KollmError has said all in its sentence
        log = _made(stage.folder / "log" / stage.name) / f"{task}.log"
        log.write_text("".join(traceback.format_exception(error)), encoding="utf-8", errors="backslashreplace")
    failure = Failure(task, type(error).__name__, one_line(error), str(log) if log else None)
    _write(_made(stage.folder / "failed" / stage.name) / str(task), failure._asdict())


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write(path: Path, note: dict[str, Any]) -> None:
    """Write a note whole; it need not survive a power cut, after which the task is done again."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    with disk_errors(path):
        temporary.write_text(json.dumps(note), encoding="utf-8")
        temporary.replace(path)
