"""The system's locks on files, and what stands for them on a disk that has none: Lustre without `flock`, some network disks.

There a lock's file stands in this machine's folder for temporary files, named by the hash of its place. Processes of one machine
still know of each other. Those of two do not, which is said once.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from pathlib import Path
from typing import IO

from kollm.core.errors import StateError
from kollm.core.progress import say

_MISSING = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
_without: set[int] = set()
"""Devices that were found to have no locks."""


def lock_file(file: IO[bytes], operation: int) -> bool:
    """Lock an open file as `fcntl.flock` does.

    Returns:
        Whether its disk has locks.

    Raises:
        BlockingIOError: another process holds it, and LOCK_NB says not to wait.
    """
    try:
        fcntl.flock(file, operation)
    except OSError as error:
        if error.errno not in _MISSING:
            raise
        return False
    return True


def place_of(lock: Path) -> Path:
    """Where a lock's file stands: where it belongs or, on a disk that was found to have no locks, on this machine.

    Raises:
        StateError: this machine's folder for it belongs to another user.
    """
    if not _without or _device(lock) not in _without:
        return lock
    import tempfile

    folder = Path(tempfile.gettempdir()) / f"kollm-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    about = folder.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
        raise StateError(f"'{folder}' is not yours, and kollm's locks belong there - set TMPDIR to a folder of yours.")
    return folder / f"{hashlib.sha256(os.fsencode(lock)).hexdigest()}.lock"


def note_missing(lock: Path) -> None:
    """Note that the disk on which a lock belongs has none.

    Raises:
        StateError: neither has the one of the folder for temporary files.
    """
    if place_of(lock) != lock:
        raise StateError(
            f"Neither the disk of '{lock.parent}' nor TMPDIR's has file locks - set TMPDIR to one that has."
        )
    _without.add(_device(lock))
    say(
        f"The disk of '{lock.parent}' has no file locks: kollm sees other commands of this machine alone - start none for "
        "the same output on another."
    )


def _device(path: Path) -> int:
    return next(folder.stat().st_dev for folder in path.parents if folder.exists())
