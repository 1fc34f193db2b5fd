"""One lock a folder: two commands that write one folder would mix their files.

A lock is taken by the process that writes, held while it writes, and dies with it. Every command may take it:

    with folder_lock(folder): ...
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from kollm.core.errors import StateError

NAME = ".kollm.lock"
"""The lock's file in the folder; it is there while the lock is held, and after a kill, when it means nothing."""
PATIENCE = 5.0
"""Seconds to wait for a lock: the children of a command that was killed end within them."""


@contextmanager
def folder_lock(folder: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Hold a folder that exists.

    Raises:
        StateError: another process holds it, and has not let it go after `patience` seconds.
    """
    path = folder / NAME
    deadline = time.monotonic() + patience
    while (file := _take(path)) is None:
        if time.monotonic() >= deadline:
            raise StateError(
                f"Another kollm process{_holder(path)} is at work in '{folder}' - wait for it, or use another folder."
            )
        time.sleep(0.05)
    try:
        yield
    finally:
        path.unlink(
            missing_ok=True
        )  # while it is held: whoever waits for this file finds that it is not there any more
        file.close()


def _take(path: Path) -> IO[str] | None:
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        file.close()
        raise
    file.close()
    return None


def _holder(path: Path) -> str:
    try:
        number = path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
    return f" ({number})" if number else ""
