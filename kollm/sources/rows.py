"""Raw rows from JSON, JSON Lines and parquet, in batches, without ever holding a whole file.

A batch of JSON Lines is cut but not parsed here, so that parsing can be done by another process.
"""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa

from kollm.core.errors import InputError
from kollm.core.files import require_file
from kollm.core.parquet import parquet_batches
from kollm.core.reading import MOST_LINE_BYTES, check_size, foreign_errors, parse_json, too_long
from kollm.sources.source import Row

SUFFIXES = (".json", ".jsonl", ".parquet")
BATCH_ROWS = 500
"""Rows of a batch: the arrays of its n-grams then stay in the second-level cache, which is a third faster than 2,000."""
BATCH_BYTES = 4 << 20
_CHUNK = 1 << 20


class Lines(NamedTuple):
    """Lines of a JSON Lines file, none of them blank.

    Attributes:
        name: the file, for messages.
        numbers: number of each line, from 1.
        texts: the lines.
    """

    name: str
    numbers: range | list[int]
    texts: list[bytes]


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that follow each other.

    Attributes:
        first: position of the first row in its source, from 0.
        content: unparsed lines, an Arrow batch, or the rows themselves.
    """

    first: int
    content: Lines | pa.RecordBatch | list[Any]

    def __len__(self) -> int:
        return len(self.content.texts) if isinstance(self.content, Lines) else len(self.content)

    def rows(self) -> list[Any]:
        """The rows; whatever the file holds, objects or not.

        Raises:
            InputError: a line is not JSON; the message names file and line.
        """
        if isinstance(self.content, Lines):
            return _parse_lines(self.content)
        if isinstance(self.content, pa.RecordBatch):
            return _parse_arrow(self.content)
        return self.content


def row_batches(rows: Iterable[Any], first: int = 0) -> Iterator[Batch]:
    """Rows that are parsed already, in batches."""
    iterator = iter(rows)
    while content := list(islice(iterator, BATCH_ROWS)):
        yield Batch(first, content)
        first += len(content)


def file_batches(file: BinaryIO, name: str, first: int = 0) -> Iterator[Batch]:
    """The rows of an open file, whose name tells its form.

    Args:
        file: JSON (one list), JSON Lines or parquet.
        name: its name, for the form and for messages.
        first: position of its first row in the source.

    Raises:
        InputError: unknown form, or malformed content; the message names the line.
    """
    if name.endswith(".jsonl"):
        return line_batches(file, name, first)
    if name.endswith(".json"):
        return row_batches(_json_array(_Text(file, name)), first)
    if name.endswith(".parquet"):
        return _parquet_batches(file, name, first)
    raise InputError(f"'{name}' is not a file that kollm reads - it reads {', '.join(SUFFIXES)}.")


def local_batches(path: Path) -> Iterator[Batch]:
    """The rows of a local file.

    Raises:
        InputError: as `file_batches`, or the file is missing.
    """
    path = require_file(path, "The file")
    with path.open("rb") as file:
        yield from file_batches(file, str(path))


def local_rows(path: Path) -> Iterator[Row]:
    """The rows of a local file, one after the other; see `local_batches`."""
    for batch in local_batches(path):
        yield from batch.rows()


def first_rows(batches: Iterable[Batch], limit: int | None) -> Iterator[Batch]:
    """The batches up to a number of rows; None for all."""
    for batch in batches:
        if limit is None or batch.first + len(batch) <= limit:
            yield batch
            continue
        if batch.first < limit:
            yield Batch(batch.first, batch.rows()[: limit - batch.first])
        return


def line_batches(
    file: BinaryIO, name: str, first: int = 0, number: int = 1, size: int | None = None
) -> Iterator[Batch]:
    """The rows of a JSON Lines file from where it stands.

    Args:
        file: open, at the beginning of a line.
        name: its name, for messages.
        first: position of the next row in its source.
        number: number of the next line.
        size: bytes to read, which end with a line; None for all.

    Raises:
        InputError: a line is too long.
    """
    rest, ended = b"", False
    left = sys.maxsize if size is None else size
    while not ended:
        chunk = file.read(min(BATCH_BYTES, left))
        left -= len(chunk)
        ended = not chunk
        lines = (rest + chunk).split(b"\n")
        rest = b"" if ended else lines.pop()
        if len(rest) > MOST_LINE_BYTES:
            raise too_long(f"{name}, line {number + len(lines)}")
        for start in range(0, len(lines), BATCH_ROWS):
            part = lines[start : start + BATCH_ROWS]
            numbers: range | list[int] = range(number, number + len(part))
            number += len(part)
            if not all(part) or any(line.isspace() for line in part):
                kept = [(at, line) for at, line in zip(numbers, part, strict=True) if line.strip()]
                numbers, part = [at for at, _ in kept], [line for _, line in kept]
            if part:
                yield Batch(first, Lines(name, numbers, part))
            first += len(part)


def _parse_lines(lines: Lines) -> list[Any]:
    return [
        parse_json(text, lines.name, number, constants=True)
        for number, text in zip(lines.numbers, lines.texts, strict=True)
    ]


def _parquet_batches(file: BinaryIO, name: str, first: int) -> Iterator[Batch]:
    for batch in parquet_batches(file, name, BATCH_ROWS):
        yield Batch(first, batch)
        first += batch.num_rows


def _parse_arrow(batch: pa.RecordBatch) -> list[Any]:
    with foreign_errors("A batch of the parquet file", "download or write it again"):
        rows: list[Any] = batch.to_pylist()
    return rows


def _json_array(text: _Text) -> Iterator[Any]:
    """The items of a list, parsed one by one from a buffer that grows only as far as the longest item needs."""
    if text.next_sign() != "[":
        raise text.error("it is no list of rows - kollm reads a list [{...}, ...] or one object a line (.jsonl)")
    for _ in _members(text, "]"):
        yield text.value()


def list_items(path: Path, *keys: str) -> Iterator[Any]:
    """The items of a JSON file that is a list, or an object with one under one of the keys, parsed one by one.

    Raises:
        InputError: no file, malformed content, or no such list.
    """
    path = require_file(path, "The file")
    with path.open("rb") as file:
        text, found = _Text(file, str(path)), False
        if text.next_sign() != "{":
            yield from _json_array(text)
            return
        for key in _keys(text):
            if not found and key in keys and text.next_sign() == "[":
                found = True
                yield from _json_array(text)
            else:
                text.value()
    if not found:
        names = " or ".join(f"'{key}'" for key in keys)
        raise InputError(f"'{path}' has no list of rows, {names} - name a file that has one.")


def _keys(text: _Text) -> Iterator[Any]:
    """The keys of the object that begins at the next sign; after each, the caller takes its value."""
    for _ in _members(text, "}"):
        key = text.value()
        if text.next_sign() != ":":
            raise text.error(f"no ':' after {key!r}")
        text.skip(1)
        yield key


def _members(text: _Text, end: str) -> Iterator[None]:
    """Stops before each member of the list or object that begins at the next sign, which the caller takes then."""
    text.skip(1)
    sign = text.next_sign()
    while sign != end:
        yield
        sign = text.next_sign()
        if sign not in (",", end):
            where = "list" if end == "]" else "object"
            raise text.error(
                f"{sign!r} where ',' or '{end}' should be" if sign else f"the file ends inside of the {where}"
            )
        if sign == ",":
            text.skip(1)
            sign = text.next_sign()
            if sign == end:
                raise text.error("a comma after the last row")
    text.skip(1)


class _Text:
    """A JSON text read piece by piece."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder()
        self._buffer, self._position, self._line = "", 0, 1
        self._ended = False

    def next_sign(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            while self._position < len(self._buffer) and self._buffer[self._position] in " \t\r\n":
                self._position += 1
            if self._position < len(self._buffer):
                return self._buffer[self._position]
            if not self._more():
                return ""

    def skip(self, count: int) -> None:
        self._position += count

    def value(self) -> Any:
        """The JSON value that begins at the next sign."""
        self.next_sign()
        while True:
            try:
                value, end = self._json.raw_decode(self._buffer, self._position)
            except json.JSONDecodeError as error:
                cut_off = error.msg.startswith("Unterminated") or error.pos >= len(self._buffer) - 16
                if cut_off and self._more():
                    continue
                self._line += self._buffer.count("\n", 0, error.pos)
                what = "the file ends inside of a row" if cut_off and self._ended else error.msg
                raise self.error(what, counted=True) from error
            except RecursionError as error:
                raise self.error("a row is nested too deep") from error
            except ValueError as error:  # Python's limit on the digits of a whole number
                raise self.error("a number of more than 4,300 digits") from error
            if self._buffer[end : end + 1] not in (*",]}:", " ", "\n", "\r", "\t") and self._more():
                continue  # a number at the end of the buffer may go on: 1, 1.5, 1.5e3
            check_size(value, f"{self._name}, line {self._line}")
            self._position = end
            return value

    def error(self, what: str, counted: bool = False) -> InputError:
        line = self._line if counted else self._line + self._buffer.count("\n", 0, self._position)
        return InputError(f"{self._name}, line {line}: not valid JSON ({what}) - mend the file or write it again.")

    def _more(self) -> bool:
        if self._ended:
            return False
        self._line += self._buffer.count("\n", 0, self._position)
        self._buffer, self._position = self._buffer[self._position :], 0
        if len(self._buffer) > MOST_LINE_BYTES:
            raise too_long(f"{self._name}, line {self._line}")
        chunk = self._file.read(max(_CHUNK, len(self._buffer)))
        try:
            self._buffer += self._decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            raise InputError(f"{self._name}: not UTF-8 ({error.reason}) - convert the file to UTF-8.") from error
        self._ended = not chunk
        return not self._ended
