"""Lines that people's decisions are: appended, on the disk before the call returns, readable after any kill."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kollm.core.errors import InputError
from kollm.core.file_lock import lock_file
from kollm.core.files import json_line


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Add a line and wait until it is on the disk.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            lock_file(file, fcntl.LOCK_EX)  # another process's line is a moment's work: it is waited for
            if _ends_in_the_middle(file.fileno()):
                file.write(b"\n")
            file.write(json_line(row).encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InputError(
            f"Nothing was written: '{path}' cannot be ({error.strerror or error}) - open a folder that you may write in."
        ) from error


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a log; what a kill cut off was never acknowledged and is left out."""
    for line in path.read_bytes().split(b"\n"):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row


def _ends_in_the_middle(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
