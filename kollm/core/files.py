"""Files that survive a kill: whole or absent, appended line by line, and errors that name file and line."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from kollm.core.errors import InputError, StateError
from kollm.core.text import existing_path


def require_file(path: Path, what: str) -> Path:
    """The path, if a file is there; a Korean name is found in either form of Unicode.

    Raises:
        InputError: there is none.
    """
    found = existing_path(path)
    if not found.is_file():
        raise InputError(f"{what} '{path}' does not exist or is not a file - check the path.")
    return found


def ensure_folder(path: Path) -> Path:
    """The folder, made if needed and proven writable.

    Raises:
        InputError: it cannot be made or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(
            f"The folder '{path}' cannot be written ({error.strerror or error}) - choose another or change its permissions."
        ) from error
    return path


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Write a whole file or nothing: a temporary file beside it, flushed to disk, then renamed over it.

    Raises:
        StateError: the disk is full, or refuses; nothing is left of the file then.
    """
    temporary: Path | None = None
    try:
        with disk_errors(path):
            temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}")
            handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)  # less the user's umask
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    except BaseException:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing; as `whole_file`."""
    with whole_file(path) as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Say in one sentence what a disk objects to: that it is full, say, and which file was being written.

    Raises:
        StateError: it did.
    """
    try:
        yield
    except OSError as error:
        if not isinstance(error.errno, int) or error.errno not in _DISK:
            raise
        raise StateError(
            f"'{error.filename or path}' cannot be written ({error.strerror}) - {_DISK[error.errno]}; what was finished is kept."
        ) from error


_DISK = {
    errno.ENOSPC: "make room on that disk and run the same command again",
    errno.EDQUOT: "your quota is used up: make room and run the same command again",
    errno.EROFS: "the disk takes no writing: choose another place",
    errno.EACCES: "change its permissions, or choose another place",
    errno.EPERM: "change its permissions, or choose another place",
    errno.EIO: "the disk has a fault: choose another place",
    errno.EFBIG: "the disk takes no file of that size: choose another place",
}


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON with sorted keys, atomically; NaN and infinity are refused, since JSON has no such numbers."""
    write_atomic(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read one JSON file.

    Raises:
        InputError: the file is missing or malformed; the message gives the line.
    """
    path = require_file(path, "The file")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}, line {error.lineno}: not valid JSON ({error.msg}) - mend the file or write it again."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start} - convert the file to UTF-8.") from error


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON Lines file, one a line; blank lines are skipped.

    Raises:
        InputError: the file is missing, or a line is not a JSON object; the message gives file and line number.
    """
    path = require_file(path, "The file")
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                reason = error.msg if isinstance(error, json.JSONDecodeError) else "not UTF-8"
                raise InputError(
                    f"{path}, line {number}: not valid JSON ({reason}) - mend or remove that line."
                ) from error
            if not isinstance(row, dict):
                raise InputError(
                    f"{path}, line {number}: a {type(row).__name__}, not an object - each line must be one {{...}}."
                )
            yield row


def json_line(row: Mapping[str, Any]) -> str:
    """One line of JSON Lines, with its newline.

    Korean stays readable; a lone surrogate, which UTF-8 cannot hold, falls back to ASCII escapes for its line.
    """
    text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = json.dumps(row, ensure_ascii=True, allow_nan=False)
    return text + "\n"


class JsonlAppender:
    """Appends rows to a JSON Lines file so that a kill loses at most the row being written.

    Opening drops a torn last line (one without its newline): its row was never acknowledged. Closing removes a file that
    opening made and that got no row.
    Use as a context manager.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._made = not path.exists()
        if not self._made:
            _drop_torn_line(path)
        self._file = path.open("ab")

    def append(self, row: Mapping[str, Any]) -> None:
        self._file.write(json_line(row).encode("utf-8"))
        self._file.flush()

    def close(self) -> None:
        self._file.close()
        if self._made and self.path.stat().st_size == 0:
            self.path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _drop_torn_line(path: Path) -> None:
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        position = end
        while position > 0:
            start = max(0, position - 65536)
            file.seek(start)
            newline = file.read(position - start).rfind(b"\n")
            if newline >= 0:
                position = start + newline + 1
                break
            position = start
        if position != end:
            file.truncate(position)


def file_sha256(path: Path) -> str:
    """`sha256:` and the hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return "sha256:" + digest.hexdigest()
