"""One writer an output: two commands that write one folder or one file would mix what they write.

A lock is taken by the process that writes, held while it writes, and dies with it. There are two kinds, which know of
each other: `folder_lock` is for a folder that is written over hours and stands in it, `output_lock` is for a file, or a folder
that is replaced as a whole, and stands beside it. A command of kollm's with `-o` holds that output from its beginning (see `kollm.cli`);
what writes files from Python (`JsonlAppender`, `Replacement`) holds them too.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from kollm.core.errors import InputError, StateError
from kollm.core.file_lock import lock_file, note_missing, place_of

NAME = ".kollm.lock"
"""A lock's file in the folder, and the end of its name beside an output. It is there while the lock is held, and after
a kill, when it means nothing."""
PARENT = "KOLLM_PARENT"
"""Environment variable: the process that this one works for and ends with; what that one holds is no obstacle."""
PATIENCE = 5.0
"""Seconds to wait for a lock: the children of a command that was killed end within them."""
_held: set[Path] = set()
"""Locks that this process holds."""


@contextmanager
def folder_lock(folder: Path, patience: float | None = None, command: str = "") -> Iterator[None]:
    """Hold a folder, by a file in it. One that is made for the lock goes with it where nothing came into it.

    Args:
        folder: the folder, which need not exist.
        patience: seconds to wait for it; None for PATIENCE.
        command: who holds it, in words.

    Raises:
        InputError: it cannot be written.
        StateError: another process holds it, or what it is in, and has not let it go after `patience` seconds.
    """
    folder = folder.resolve()
    with _lock(folder / NAME, [_beside(folder), *_above(folder)], folder, patience, command):
        yield


@contextmanager
def output_lock(path: Path, patience: float | None = None, command: str = "") -> Iterator[None]:
    """Hold an output, a file or a folder that is replaced as a whole, by a file beside it.

    Held by this process already, it is held on. Folders that are made for the lock go with it where nothing came into them.

    Args:
        path: the output, which need not exist.
        patience: seconds to wait for it; None for PATIENCE.
        command: who holds it, in words.

    Raises:
        InputError: the folder that it is in cannot be written.
        StateError: another process holds it, or what it is in, and has not let it go after `patience` seconds.
    """
    path = path.resolve()
    is_device = path.exists() and not path.is_file() and not path.is_dir()
    if is_device or _beside(path) in _held or path == path.parent:
        yield
        return
    with _lock(_beside(path), [path / NAME, *_above(path)], path, patience, command):
        yield


def is_lock(name: str) -> bool:
    """Whether a file of that name is a lock, which is nobody's content."""
    return name.endswith(NAME)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name[:200]}{NAME}")


def _above(path: Path) -> list[Path]:
    """The locks of the folders that an output is in."""
    return [folder / NAME for folder in path.parents]


@contextmanager
def _lock(mine: Path, others: list[Path], output: Path, patience: float | None, command: str) -> Iterator[None]:
    deadline = time.monotonic() + (PATIENCE if patience is None else patience)
    made = [folder for folder in mine.parents if not folder.exists()]
    try:
        while isinstance(taken := _take(mine, others, command), Path):
            if time.monotonic() >= deadline:
                raise StateError(_sentence(taken, output))
            time.sleep(0.05)
        _held.add(mine)
        try:
            yield
        finally:
            _held.discard(mine)
            # While it is held: who waits for this file finds that it is not there any more.
            place_of(mine).unlink(missing_ok=True)
            taken.close()
    finally:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _take(mine: Path, others: list[Path], command: str) -> BinaryIO | Path:
    """The lock, or the one that stands in the way.

    A lock is taken before others are looked at: of two that meet, both may give way, but never none.
    """
    place = place_of(mine)
    try:
        mine.parent.mkdir(parents=True, exist_ok=True)
        file = place.open("ab", buffering=0)
    except FileNotFoundError:  # the folder's maker has just taken it away
        return mine
    except OSError as error:
        raise InputError(
            f"The folder '{mine.parent}' cannot be written ({error.strerror or error}) - choose another or change its permissions."
        ) from error
    try:
        if not lock_file(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
            place.unlink(missing_ok=True)
            note_missing(mine)
            file.close()
            return _take(mine, others, command)
        if place.stat().st_ino != os.fstat(file.fileno()).st_ino:
            raise FileNotFoundError
    except (BlockingIOError, FileNotFoundError):
        file.close()
        return mine
    except BaseException:
        file.close()
        raise
    if (other := next(filter(_is_held, others), None)) is not None:
        place.unlink(missing_ok=True)
        file.close()
        return other
    with contextlib.suppress(OSError):  # a full disk: the lock holds without a word
        file.truncate(0)
        lines = (str(os.getpid()), time.strftime("%Y-%m-%d %H:%M:%S"), socket.gethostname(), command or _program())
        file.write("".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))
    return file


def _is_held(lock: Path) -> bool:
    """Whether another process holds a lock, none that this one works for."""
    if lock in _held:
        return False
    try:
        with place_of(lock).open("rb") as file:
            lock_file(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return _read(lock)[:1] != [os.environ.get(PARENT)]
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM):
            return False
        raise


def _program() -> str:
    """The program without its arguments, in which addresses may stand."""
    return Path(sys.argv[0]).name if sys.argv and sys.argv[0] not in ("", "-c") else "python"


def _read(lock: Path) -> list[str]:
    try:
        return place_of(lock).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []


def _sentence(lock: Path, output: Path) -> str:
    """Who holds it, since when, and what to do."""
    of = lock.parent if lock.name == NAME else output
    who, stop = "", ""
    if len(lines := _read(lock)) >= 4:
        pid, since, host, command = lines[:4]
        here = host == socket.gethostname()
        who = f" ({command}, process {pid}{'' if here else f' on {host}'}, since {since})"
        stop = f", end that process (kill {pid})" if here and pid.isdecimal() else ""
    return f"Another kollm process{who} is at work in '{of}' - wait for it{stop}, or use another output."
