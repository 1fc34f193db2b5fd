"""Rows of one file of a user's own, whatever its form: JSON, JSON Lines, CSV, TSV, plain lines, parquet or Arrow.

Files may be packed by gzip or Zstandard. Text is UTF-8, UTF-16 with its mark, or CP949, which holds EUC-KR; which one is
said. Nothing is read whole but what has no other way.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePath
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from kollm.core.errors import InputError
from kollm.sources.own.forms import is_turn

PACKED = {".gz": "gzip", ".zst": "zstd"}
"""Suffix of a packed file -> pyarrow's name of the packing."""
LONGEST_ROW = 64 << 20
"""Bytes that one row may hold in its file; a longer one is no row, and would fill the memory."""
_CHUNK = 1 << 20
_MARKS = {
    (codecs.BOM_UTF8,): "utf-8-sig",
    (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE): "utf-16",
}
"""First bytes of a file -> its encoding."""
_WRAPPERS = ("data", "rows", "train", "examples", "instances", "records", "items", "dataset", "conversations")
"""Keys under which files that are one object keep their list of rows."""


class Located(NamedTuple):
    """A row as it stands in its file, and where: `line 3`, `row 7`; `error` says why it cannot be read."""

    where: str
    row: Any
    error: str = ""


@dataclass(frozen=True, slots=True)
class OwnFile:
    """A file that can be opened anew.

    Attributes:
        name: for messages; its suffixes tell its form.
        open: opens it for reading bytes.
    """

    name: str
    open: Callable[[], BinaryIO]

    @property
    def suffix(self) -> str:
        """The suffix that tells the form, without that of a packing."""
        path = PurePath(self.name)
        return PurePath(path.stem).suffix.lower() if path.suffix.lower() in PACKED else path.suffix.lower()


def read_rows(file: OwnFile, said: Callable[[str], None]) -> Iterator[Located]:
    """The rows of a file, each with its place.

    Args:
        file: the file.
        said: takes what a user should know of how it was read, such as its encoding.

    Raises:
        InputError: a form that kollm does not read, or content that is not of that form.
    """
    reader = READERS.get(file.suffix)
    if reader is None:
        raise InputError(
            f"'{file.name}' is not read ({_refusal(file.suffix)}) - kollm reads {', '.join(READERS)}, each also .gz and .zst."
        )
    return reader(file, said)


def _refusal(suffix: str) -> str:
    if suffix in (".xlsx", ".xls", ".ods"):
        return "a workbook: save its sheet as CSV UTF-8"
    if suffix in (".zip", ".tar", ".tgz", ".7z", ".rar"):
        return "an archive: unpack it and name the file or the folder"
    return f"its form '{suffix}' is not known" if suffix else "its name has no suffix that tells its form"


def _bytes(file: OwnFile) -> BinaryIO:
    packing = PACKED.get(PurePath(file.name).suffix.lower())
    opened = file.open()
    if packing is None:
        return opened
    return io.BufferedReader(_Unpacked(opened, packing))


class _Unpacked(io.RawIOBase):
    """The bytes of a packed file."""

    def __init__(self, file: BinaryIO, packing: str) -> None:
        self._file = file
        self._stream = pa.CompressedInputStream(pa.PythonFile(file, "r"), packing)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        self._file.close()
        super().close()


def find_encoding(file: OwnFile) -> str:
    """The encoding of a text file: by its mark, else UTF-8, else CP949.

    Raises:
        InputError: it is none of them, or no text.
    """
    with closing(_bytes(file)) as content:
        start = content.read(4)
        if start.startswith(b"PK\x03\x04"):
            raise InputError(
                f"'{file.name}' is a ZIP archive or a workbook - unpack it, or save the sheet as CSV UTF-8."
            )
    marked = next((name for marks, name in _MARKS.items() if start.startswith(marks)), None)
    for encoding in (marked,) if marked else ("utf-8", "cp949"):
        if (fault := _undecodable(file, encoding)) is None:
            return encoding
    raise InputError(f"'{file.name}' is neither UTF-8 nor CP949 (byte {fault}) - save it as UTF-8.")


def _undecodable(file: OwnFile, encoding: str) -> int | None:
    """Where the file is not of the encoding; None where it is."""
    decoder = codecs.getincrementaldecoder(encoding)()
    place = 0
    with closing(_bytes(file)) as content:
        while True:
            chunk = content.read(_CHUNK)
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                return place + error.start
            if encoding == "cp949" and "\x00" in text:
                return place
            if not chunk:
                return None
            place += len(chunk)


def _text(file: OwnFile, said: Callable[[str], None], newline: str | None) -> io.TextIOWrapper:
    encoding = find_encoding(file)
    if encoding not in ("utf-8", "utf-8-sig"):
        said(f"read as {encoding.upper()}")
    return io.TextIOWrapper(_bytes(file), encoding=encoding, newline=newline)


def _lines(file: OwnFile, said: Callable[[str], None]) -> Iterator[tuple[int, str]]:
    """Numbers and texts of the lines that are not blank; a longer line than LONGEST_ROW comes cut, and is no JSON then."""
    number = 0
    with closing(_text(file, said, newline=None)) as text:
        while line := text.readline(LONGEST_ROW):
            number += 1
            if len(line) == LONGEST_ROW and not line.endswith("\n"):
                while (rest := text.readline(LONGEST_ROW)) and not rest.endswith("\n"):
                    pass
                yield number, ""
            elif line.strip():
                yield number, line


def _json_lines(file: OwnFile, said: Callable[[str], None]) -> Iterator[Located]:
    for number, line in _lines(file, said):
        where = f"line {number}"
        if not line:
            yield Located(where, None, "line_too_long")
            continue
        try:
            yield Located(where, json.loads(line))
        except (ValueError, RecursionError) as error:
            raise _malformed(file, where, error) from error


def _malformed(file: OwnFile, where: str, error: Exception) -> InputError:
    reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deep or too long a number"
    return InputError(f"{file.name}, {where}: not valid JSON ({reason}) - mend or remove that line.")


def _json(file: OwnFile, said: Callable[[str], None]) -> Iterator[Located]:
    """One list of rows, an object that holds one or its columns, or objects one after the other (JSON Lines, too)."""
    with closing(_text(file, said, newline=None)) as text:
        values = _Values(file, text)
        if values.sign() == "[":
            yield from values.items()
            return
        rows = values.objects()
        first = next(rows, None)
        if first is None:
            return
        second = next(rows, None)
        if second is not None:
            yield first
            yield second
            yield from rows
            return
        yield from (Located(f"row {number}", row) for number, row in enumerate(_unwrap(first.row), start=1))


def _unwrap(value: Any) -> list[Any]:
    """The rows of a file that is one object: the list that it holds, or its columns turned around."""
    if not isinstance(value, dict):
        return [value]
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):  # pandas, orient="split"
        return [dict(zip(value["columns"], cells, strict=False)) for cells in value["data"] if isinstance(cells, list)]
    for key in _WRAPPERS:
        rows = value.get(key)
        if isinstance(rows, list) and rows and all(isinstance(row, dict | list) for row in rows):
            if key == "conversations" and all(isinstance(row, dict) and {"from", "role"} & row.keys() for row in rows):
                break
            return rows
    columns = list(value.values())
    alike = columns and all(isinstance(column, list) for column in columns) and len({len(c) for c in columns}) == 1
    if alike and not any(isinstance(cell, dict) for cell in columns[0]):
        return [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]
    if len(columns) > 1 and all(isinstance(column, dict) for column in columns):
        numbered = all(str(name).isdecimal() for column in columns for name in column)
        if numbered and len({tuple(c) for c in columns}) == 1:  # pandas, orient="columns"
            return [{name: column[number] for name, column in value.items()} for number in columns[0]]
        return [{"id": name, **row} for name, row in value.items()]
    lists = [rows for rows in columns if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows)]
    if len(lists) == 1 and not any(is_turn(row) for row in lists[0]):
        return lists[0]
    return [value]


class _Values:
    """JSON values of a text, one by one, so that no more than one row is held."""

    def __init__(self, file: OwnFile, text: io.TextIOWrapper) -> None:
        self._file, self._text = file, text
        self._decoder = json.JSONDecoder()
        self._buffer, self._place, self._line, self._ended = "", 0, 1, False

    def sign(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            while self._place < len(self._buffer):
                sign = self._buffer[self._place]
                if not sign.isspace() and sign != "\ufeff":
                    return sign
                self._line += sign == "\n"
                self._place += 1
            if not self._more():
                return ""

    def items(self) -> Iterator[Located]:
        """The members of the list that begins at the next sign."""
        self._place += 1
        number = 0
        while (sign := self.sign()) != "]":
            if not sign:
                raise self._error("the file ends inside of the list")
            number += 1
            yield Located(f"row {number}", self._value())
            if self.sign() not in (",", "]"):
                raise self._error("the file ends inside of the list" if not self.sign() else "no ',' between two rows")
            if self.sign() == ",":
                self._place += 1

    def objects(self) -> Iterator[Located]:
        """Values one after the other, to the end."""
        while self.sign():
            line = self._line
            yield Located(f"line {line}", self._value())

    def _value(self) -> Any:
        self.sign()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._place)
            except (ValueError, RecursionError) as error:
                if isinstance(error, json.JSONDecodeError):
                    cut = error.msg.startswith("Unterminated") or error.pos >= len(self._buffer) - 16
                    if cut and self._more():
                        continue
                    self._line += self._buffer.count("\n", self._place, error.pos)
                    raise self._error("the file ends inside of a row" if cut else error.msg) from error
                raise self._error("nested too deep, or too long a number") from error
            if end == len(self._buffer) and self._more():
                continue  # a number may go on
            self._line += self._buffer.count("\n", self._place, end)
            self._place = end
            return value

    def _more(self) -> bool:
        if self._ended:
            return False
        self._buffer, self._place = self._buffer[self._place :], 0
        if len(self._buffer) > LONGEST_ROW:
            raise self._error(f"a row is longer than {LONGEST_ROW >> 20} MiB")
        chunk = self._text.read(max(_CHUNK, len(self._buffer)))
        self._ended = not chunk
        self._buffer += chunk
        return bool(chunk)

    def _error(self, reason: str) -> InputError:
        return InputError(f"{self._file.name}, line {self._line}: not valid JSON ({reason}) - mend the file.")


def _csv(file: OwnFile, said: Callable[[str], None]) -> Iterator[Located]:
    csv.field_size_limit(min(sys.maxsize, LONGEST_ROW))
    with closing(_text(file, said, newline="")) as text:
        head = text.readline(_CHUNK)
        if head.strip().lower().startswith("sep=") and len(head.strip()) == 5:  # Excel's own first line
            delimiter, before = head.strip()[4], ""
        else:
            delimiter, before = ("\t" if file.suffix in (".tsv", ".txt") else _delimiter(head)), head
        rows = csv.reader(_lines_after(before, text), delimiter=delimiter)
        yield from _cells(file, rows)


def _lines_after(first: str, text: io.TextIOWrapper) -> Iterator[str]:
    """The first line, which is read already, and the others; a lone `\\r` ends a line too."""
    if first:
        yield from first.splitlines(keepends=True) if "\n" not in first and "\r" in first else [first]
    for line in text:
        yield line.replace("\x00", "")


def _cells(file: OwnFile, rows: Any) -> Iterator[Located]:
    names: list[str] | None = None
    while True:
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"{file.name}, line {rows.line_num}: not valid CSV ({error}) - mend that line.") from error
        where = f"line {rows.line_num}"
        if not any(cell.strip() for cell in cells):
            continue
        if names is None:
            names = [cell.strip().lstrip("\ufeff") for cell in cells]
            while names and not names[-1]:
                names.pop()
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise InputError(f"{file.name}, line 1: two columns are called '{twice}' - rename one.")
            continue
        extra = [cell for cell in cells[len(names) :] if cell.strip()]
        row: dict[str, Any] = dict(zip(names, cells, strict=False))
        yield Located(where, {**row, "": extra} if extra else row, "more_cells_than_columns" if extra else "")


def _delimiter(head: str) -> str:
    """The sign that parts the columns' names: the most frequent outside of quotes."""
    bare = "".join(head.split('"')[::2])
    return max(",;\t|", key=bare.count)


def _plain_lines(file: OwnFile, said: Callable[[str], None]) -> Iterator[Located]:
    """A row a line; a table where the first two lines have as many tabs, as Excel saves its "Unicode text"."""
    tabs = [line.count("\t") for _, line in islice(_lines(file, lambda _: None), 2)]
    if len(tabs) == 2 and tabs[0] == tabs[1] > 0:
        said("read as a table parted by tabs")
        yield from _csv(file, said)
        return
    for number, line in _lines(file, said):
        yield Located(f"line {number}", {"text": line.strip()}, "" if line else "line_too_long")


def _arrow(batches: Iterator[pa.RecordBatch], name: str) -> Iterator[Located]:
    number = 0
    try:
        for batch in batches:
            for row in batch.to_pylist():
                number += 1
                yield Located(f"row {number}", row)
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise InputError(
            f"'{name}' cannot be read ({' '.join(str(error).split())[:120]}) - write or download it again."
        ) from error


def _parquet(file: OwnFile, _: Callable[[str], None]) -> Iterator[Located]:
    with closing(_bytes(file)) as content:
        try:
            source = content if content.seekable() else io.BytesIO(content.read())
            opened = pq.ParquetFile(source)
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"'{file.name}' is no parquet file ({' '.join(str(error).split())[:120]}) - write or download it again."
            ) from error
        yield from _arrow(opened.iter_batches(batch_size=500), file.name)


def _feather(file: OwnFile, _: Callable[[str], None]) -> Iterator[Located]:
    """An Arrow stream, as `datasets` saves it, or an Arrow file, which begins with `ARROW1`."""
    with closing(_bytes(file)) as content:
        start = content.read(6)
    with closing(_bytes(file)) as content:
        try:
            if start == b"ARROW1":
                whole = pa.ipc.open_file(pa.py_buffer(content.read()))
                batches = (whole.get_batch(number) for number in range(whole.num_record_batches))
            else:
                batches = iter(pa.ipc.open_stream(content))
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"'{file.name}' is no Arrow file ({' '.join(str(error).split())[:120]}) - write or download it again."
            ) from error
        yield from _arrow(batches, file.name)


READERS: dict[str, Callable[[OwnFile, Callable[[str], None]], Iterator[Located]]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".csv": _csv,
    ".tsv": _csv,
    ".txt": _plain_lines,
    ".parquet": _parquet,
    ".arrow": _feather,
    ".feather": _feather,
}
"""Suffix -> what reads files of it."""
