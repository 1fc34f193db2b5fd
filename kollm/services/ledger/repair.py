"""A damaged ledger: what is wrong with it, and what of it can be saved.

Saving reads the file's pages themselves (https://www.sqlite.org/fileformat2.html) beside what SQLite still reads, so that a
broken header or index loses nothing. A row counts only if its key is the hash of its request.
"""

from __future__ import annotations

import json
import mmap
import sqlite3
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kollm.core.errors import InputError, StateError
from kollm.core.files import require_file
from kollm.core.lock import output_lock
from kollm.services.ledger.row import EXPORTED, read_purchase, row_fault
from kollm.services.ledger.store import Ledger
from kollm.services.purchase import Purchase

MOST_FAULTS = 20
"""Faults that are listed; the rest are counted."""
_COLUMNS = (
    "key",
    "request",
    "kind",
    "engine",
    "model",
    "sends",
    "sent_characters",
    "sent_cost",
    "content",
    "characters",
)
_LEAF, _PAGE, _HEADER, _WAL_HEADER, _FRAME = 0x0D, 4096, 100, 32, 24
_INTEGER_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_BATCH = 1000


class Checked(NamedTuple):
    """What a check found.

    Attributes:
        rows: rows that can be read.
        faults: what is wrong, the first MOST_FAULTS.
        more: how many faults beside those.
    """

    rows: int
    faults: list[str]
    more: int


class Salvaged(NamedTuple):
    """What was saved.

    Attributes:
        rows: rows in the new ledger.
        answered: those of them that are answered.
        left_out: rows that were found and are not sound.
    """

    rows: int
    answered: int
    left_out: int


def check_ledger(path: Path) -> Checked:
    """Look for damage: SQLite's own check, then every row.

    Raises:
        InputError: there is no such file.
    """
    faults: list[str] = []
    rows = 0
    try:
        connection = _read_only(path)
        try:
            found = [line for (line,) in connection.execute("PRAGMA integrity_check") if line != "ok"]
            faults += [f"the file: {' '.join(line.split())}" for line in found]
            for row in connection.execute(f"SELECT {', '.join(EXPORTED)} FROM purchases ORDER BY key"):
                rows += 1
                fault = row_fault(_values(row))
                if fault is not None:
                    faults.append(f"row {str(row[0])[:80]}: {fault}")
        finally:
            connection.close()
    except sqlite3.Error as error:
        faults.append(f"the file: {error}")
    return Checked(rows, faults[:MOST_FAULTS], max(0, len(faults) - MOST_FAULTS))


def salvage_ledger(path: Path, output: Path) -> Salvaged:
    """Save what is left of a ledger in a new one.

    Args:
        path: the damaged ledger, which stays as it is.
        output: the new ledger.

    Raises:
        InputError: there is no such ledger, or the output exists.
        StateError: nothing is left, or the new ledger cannot be written.
    """
    require_file(path, "The ledger")
    with output_lock(output):
        return _salvage(path, output)


def _salvage(path: Path, output: Path) -> Salvaged:
    if output.exists():
        raise InputError(f"'{output}' exists already - name a new file.")
    saved: dict[str, bool] = {}  # key -> whether it is answered
    left_out: set[str] = set()
    with Ledger.open(output) as ledger:
        batch: list[tuple[Purchase, Mapping[str, Any]]] = []
        for row in _all_rows(path):
            key, answered = str(row["key"]), row["content"] is not None
            if key in saved and saved[key] >= answered:
                continue
            purchase = read_purchase(row["request"])
            if purchase is None or row_fault(row) is not None:
                left_out.add(key)
                continue
            saved[key] = answered
            batch.append((purchase, row))
            if len(batch) == _BATCH:
                ledger.add_answered(batch)
                batch = []
        ledger.add_answered(batch)
    if not saved:
        for name in (output, Path(f"{output}-wal"), Path(f"{output}-shm")):
            name.unlink(missing_ok=True)
        raise StateError(f"Nothing of the ledger '{path}' can be read - restore it from a copy or an export.")
    return Salvaged(len(saved), sum(saved.values()), len(left_out - saved.keys()))


def _read_only(path: Path) -> sqlite3.Connection:
    require_file(path, "The ledger")
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=60)


def _values(row: Sequence[Any]) -> dict[str, Any]:
    """A row as an export has it; a text that is no JSON stays a text, which no check takes."""
    values = dict(zip(EXPORTED, row, strict=True))
    for name in ("request", "content"):
        try:
            values[name] = None if values[name] is None else json.loads(values[name])
        except (ValueError, TypeError, RecursionError):
            values[name] = str(values[name])[:80]
    return values


def _all_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Every row that can be found, some of them twice: those that SQLite reads, then those of the pages."""
    try:
        connection = _read_only(path)
        try:
            for row in connection.execute(f"SELECT {', '.join(EXPORTED)} FROM purchases"):
                yield _values(row)
        finally:
            connection.close()
    except sqlite3.Error:
        pass  # the pages hold the rest
    yield from _rows_of_pages(path)


def _rows_of_pages(path: Path) -> Iterator[dict[str, Any]]:
    log = Path(f"{path}-wal")
    with path.open("rb") as file:
        if not path.stat().st_size:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            pages = _Pages(data, log.read_bytes() if log.is_file() else b"")
            for number in pages.numbers():
                for values in pages.records(number):
                    if len(values) > len(_COLUMNS) and str(values[0]).startswith("sha256:"):
                        named = dict(zip((*_COLUMNS, "cost"), values, strict=False))
                        named["sent_cost"], named["cost"] = _float(named["sent_cost"]), _float(named["cost"])
                        yield _values([named[name] for name in EXPORTED])


def _float(value: Any) -> Any:
    return float(value) if isinstance(value, int) else value  # SQLite stores a whole REAL as an integer


class _Pages:
    """The pages of a database file, those in its write-ahead log in place of the older ones.

    Args:
        data: the file.
        log: the write-ahead log; empty for none.
    """

    def __init__(self, data: mmap.mmap, log: bytes) -> None:
        self._data, self._log = data, log
        size = struct.unpack(">H", data[16:18])[0] if data[:16] == b"SQLite format 3\0" else 0
        size = 65536 if size == 1 else size
        self._size = size if size >= 512 and size & (size - 1) == 0 else _PAGE
        self._usable = self._size - (data[20] if size else 0)
        self._newer: dict[int, int] = {}
        for start in range(_WAL_HEADER, len(log) - _FRAME - self._size + 1, _FRAME + self._size):
            self._newer[struct.unpack(">I", log[start : start + 4])[0]] = start + _FRAME

    def numbers(self) -> Iterator[int]:
        """Numbers of the pages, from 1."""
        count = -(-len(self._data) // self._size)
        yield from range(1, count + 1)
        yield from (number for number in self._newer if number > count)

    def records(self, number: int) -> Iterator[list[Any]]:
        """The rows of one page, if it is a leaf of a table; what cannot be read is left out."""
        page, head = self._page(number), _HEADER if number == 1 else 0
        if len(page) < head + 8 or page[head] != _LEAF:
            return
        (count,) = struct.unpack(">H", page[head + 3 : head + 5])
        for index in range(count):
            at = head + 8 + 2 * index
            try:
                (cell,) = struct.unpack(">H", page[at : at + 2])
                yield _record(self._payload(page, cell))
            except (struct.error, IndexError, ValueError):
                continue

    def _page(self, number: int) -> bytes:
        if number in self._newer:
            start = self._newer[number]
            return self._log[start : start + self._size]
        return self._data[(number - 1) * self._size : number * self._size]

    def _payload(self, page: bytes, cell: int) -> bytes:
        length, at = _varint(page, cell)
        _, at = _varint(page, at)
        if length > len(self._data) + len(self._log):
            raise ValueError("longer than the file")
        usable = self._usable
        local = length
        if length > usable - 35:
            least = (usable - 12) * 32 // 255 - 23
            more = least + (length - least) % (usable - 4)
            local = more if more <= usable - 35 else least
        parts, left = [page[at : at + local]], length - local
        following = struct.unpack(">I", page[at + local : at + local + 4])[0] if left else 0
        while left > 0 and following:
            page = self._page(following)
            parts.append(page[4 : 4 + min(left, usable - 4)])
            left -= len(parts[-1])
            (following,) = struct.unpack(">I", page[:4])
            if not parts[-1]:
                break
        if left:
            raise ValueError("the rest of the row is missing")
        return b"".join(parts)


def _record(payload: bytes) -> list[Any]:
    """The values of a row in SQLite's record format."""
    end, at = _varint(payload, 0)
    types = []
    while at < end:
        kind, at = _varint(payload, at)
        types.append(kind)
    values: list[Any] = []
    for kind in types:
        size = _INTEGER_BYTES.get(kind, 8 if kind == 7 else max(0, (kind - 12) // 2))
        part = payload[at : at + size]
        if len(part) < size:
            raise ValueError("cut off")
        at += size
        if kind in _INTEGER_BYTES:
            values.append(int.from_bytes(part, "big", signed=True))
        elif kind == 7:
            values.append(struct.unpack(">d", part)[0])
        elif kind >= 12:
            values.append(part.decode("utf-8") if kind % 2 else part)
        else:
            values.append({8: 0, 9: 1}.get(kind))
    return values


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """SQLite's variable-length integer: its value, and where the next begins."""
    value = 0
    for number in range(9):
        byte = data[at + number]
        if number == 8:
            return (value << 8) | byte, at + 9
        value = (value << 7) | (byte & 0x7F)
        if byte < 0x80:
            return value, at + number + 1
    raise AssertionError("nine bytes end it")
