"""Files that survive a kill: whole or absent, appended line by line, and errors that name file and line."""

from __future__ import annotations

import contextlib
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

from kollm.core.errors import InputError, StateError, disk_sentence, os_sentence
from kollm.core.lock import output_lock
from kollm.core.reading import as_object, bounded, decode, lines_of, parse_json, parse_yaml
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
def whole_file(path: Path, sync: bool = True) -> Iterator[IO[bytes]]:
    """Write a whole file or nothing: a temporary file beside it, flushed to disk, then renamed over it.

    Args:
        path: the file.
        sync: whether it survives a power cut too, which takes some milliseconds; a kill it survives in any case.

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
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(path)
    except BaseException:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing; as `whole_file`. A lone surrogate, which UTF-8 cannot hold, becomes U+FFFD."""
    with whole_file(path) as file:
        file.write(encodable(content).encode("utf-8") if isinstance(content, str) else content)


def encodable(text: str) -> str:
    """The text with every lone surrogate as U+FFFD."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Say in one sentence what a disk objects to: that it is full, say, and which file was being written.

    Raises:
        StateError: it did.
    """
    try:
        yield
    except OSError as error:
        raise StateError(os_sentence(error, path)) from error


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """Say in one sentence that the disk is full, whichever library meets it; other errors pass.

    Raises:
        StateError: it is.
    """
    try:
        yield
    except Exception as error:
        if (sentence := disk_sentence(error, path)) is not None:
            raise StateError(sentence) from error
        raise


def json_text(value: Any, path: Path) -> str:
    """Readable JSON with sorted keys, and a newline.

    Raises:
        InputError: it would hold NaN or infinity.
    """
    try:
        return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError as error:
        raise InputError(
            f"'{path}' would hold NaN or infinity, which JSON has not - look through what it is made of."
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON with sorted keys, atomically; NaN and infinity are refused, since JSON has no such numbers."""
    text = json_text(value, path)
    if text != encodable(text):
        text = json.dumps(value, indent=2, sort_keys=True) + "\n"
    write_atomic(path, text)


def read_json(path: Path) -> Any:
    """Read one JSON file.

    Raises:
        InputError: the file is missing, too large or malformed; the message gives the line.
    """
    with _open(path) as file:
        return parse_json(bounded(file, path), path)


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        InputError: as `read_json`, or it holds something else.
    """
    return as_object(read_json(path), path)


def read_jsonl(path: Path, growing: bool = False) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON Lines file, one a line; blank lines are skipped.

    Args:
        path: the file.
        growing: whether another process may be writing it, or was killed at it: a last line that is not whole is left out.

    Raises:
        InputError: the file is missing, or a line is not a JSON object; the message gives file and line number.
    """
    with _open(path) as file:
        for number, line in lines_of(file, path):
            try:
                row = parse_json(line, path, number)
            except InputError:
                if growing and not line.endswith(b"\n"):
                    return
                raise
            if not isinstance(row, dict):
                raise InputError(
                    f"{path}, line {number}: a {type(row).__name__}, not an object - each line must be one {{...}}."
                )
            yield row


def read_yaml(path: Path) -> Any:
    """Read one YAML file.

    Raises:
        InputError: the file is missing, no UTF-8, malformed or too large.
    """
    return parse_yaml(read_text(path), path)


def read_text(path: Path) -> str:
    """Read a text file; its lines end in newlines alone.

    Raises:
        InputError: the file is missing, no UTF-8 or too large.
    """
    with _open(path) as file:
        return decode(bounded(file, path), path)


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    found = require_file(path, "The file")
    try:
        file = found.open("rb")
    except OSError as error:
        raise InputError(f"'{path}' cannot be read ({error.strerror or error}) - check its permissions.") from error
    with file:
        yield file


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
    opening made and that got no row. Use as a context manager.

    Raises:
        StateError: another process writes the file, or the disk refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with contextlib.ExitStack() as stack:
            stack.enter_context(output_lock(path))
            self._made = not path.exists()
            if not self._made:
                _drop_torn_line(path)
            with disk_errors(path):
                self._file = path.open("ab", buffering=0)
            self._lock = stack.pop_all()

    def append(self, row: Mapping[str, Any]) -> None:
        """Append a row, whole or not at all.

        Raises:
            StateError: the disk is full, or refuses.
        """
        data = json_line(row).encode("utf-8")
        written = 0
        try:
            with disk_errors(self.path):
                while written < len(data):
                    written += self._file.write(data[written:])
        except StateError:
            self._file.truncate(self._file.tell() - written)
            raise

    def close(self) -> None:
        with self._lock:
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
