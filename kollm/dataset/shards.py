"""Shards: the inputs of a build cut by file and row range, so that each can be worked on by itself, anywhere.

Where an input is cut depends on the input alone. Local JSON Lines and parquet files are read in place. What can only be
read as one stream (a JSON list, a sample over many files, the Hub, rows of a user's own) is copied into shards first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa

from kollm.core.files import whole_file, write_atomic
from kollm.core.parquet import open_parquet
from kollm.core.reading import foreign_errors
from kollm.sources.rows import BATCH_ROWS, Batch, Lines, first_rows, line_batches, row_batches

SHARD_ROWS = 10_000
"""Rows of a shard: some seconds of work, so that a kill loses little and a thousand workers find something to do."""
SHARD_BYTES = 64 << 20
"""Bytes of JSON Lines at which a shard ends before it has that many rows."""
_CHUNK = 4 << 20


class Shard(NamedTuple):
    """Rows of a source that follow each other.

    Attributes:
        source: number of the source in the build.
        first: position of the first row in its source, from 0.
        rows: most rows; blank lines count.
        form: `lines` of a JSON Lines file, a row range of a `parquet` file, or a copy: `values`, one JSON value a line,
            or `arrow`.
        path: the file.
        start: first byte, or first row of a parquet file.
        end: first byte or row behind.
        name: what the file is called in messages.
        line: number of the first line in its file.
    """

    source: int
    first: int
    rows: int
    form: str
    path: str
    start: int = 0
    end: int = 0
    name: str = ""
    line: int = 1


def cut_file(source: int, path: Path, limit: int | None = None) -> list[Shard] | None:
    """The shards of a local file that can be read from anywhere; None for one that is a single stream.

    Args:
        source: number of the source.
        path: the file.
        limit: rows that are read.
    """
    if path.suffix == ".jsonl":
        return list(_cut_lines(source, path.absolute(), limit))
    if path.suffix == ".parquet":
        return list(_cut_parquet(source, path.absolute(), limit))
    return None


def copy_shards(source: int, batches: Iterator[Batch], folder: Path) -> Iterator[Shard]:
    """Copy a stream of rows into shards, each written whole.

    Args:
        source: number of the source.
        batches: the stream.
        folder: where the copies go.
    """
    copy = _Copy(source, folder)
    for batch in batches:
        yield from copy.add(batch)
    yield from copy.end()


def read_shard(shard: Shard, limit: int | None = None) -> Iterator[Batch]:
    """The rows of a shard in batches.

    Raises:
        InputError: malformed content; the message names file and line.
    """
    return first_rows(_READERS[shard.form](shard), limit)


def save_shards(shards: Sequence[Shard], path: Path) -> None:
    """Write a list of shards, whole or not at all."""
    write_atomic(path, json.dumps(shards))


def load_shards(path: Path) -> list[Shard]:
    """Read what `save_shards` wrote."""
    return [Shard(*values) for values in json.loads(path.read_text(encoding="utf-8"))]


def _cut_lines(source: int, path: Path, limit: int | None) -> Iterator[Shard]:
    first = start = line = offset = 0  # of the shard: its first line and byte; lines and bytes seen so far
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            ends = np.flatnonzero(np.frombuffer(chunk, dtype=np.uint8) == ord("\n")) + (offset + 1)
            offset += len(chunk)
            used = 0
            while True:
                by_rows = first + SHARD_ROWS - line - 1
                by_bytes = int(np.searchsorted(ends, start + SHARD_BYTES))
                last = max(used, min(by_rows, by_bytes))
                if last >= len(ends) or (limit is not None and first >= limit):
                    break
                end, after = int(ends[last]), line + last + 1
                yield Shard(source, first, after - first, "lines", str(path), start, end, str(path), first + 1)
                first, start, used = after, end, last + 1
            line += len(ends)
            if limit is not None and first >= limit:
                return
    if offset > start:
        yield Shard(source, first, line + 1 - first, "lines", str(path), start, offset, str(path), first + 1)


def _cut_parquet(source: int, path: Path, limit: int | None) -> Iterator[Shard]:
    rows = open_parquet(path, path).metadata.num_rows
    for start in range(0, rows if limit is None else min(rows, limit), SHARD_ROWS):
        end = min(start + SHARD_ROWS, rows)
        yield Shard(source, start, end - start, "parquet", str(path), start, end, str(path))


class _Copy:
    """Batches of a stream that wait to become a shard: of one form, and of Arrow batches of one schema."""

    def __init__(self, source: int, folder: Path) -> None:
        self._source, self._folder = source, folder
        self._waiting: list[Batch] = []
        self._bytes = self._rows = self._number = 0
        self._kind: object = None

    def add(self, batch: Batch) -> Iterator[Shard]:
        kind = _kind(batch)
        if kind != self._kind or self._rows + len(batch) > SHARD_ROWS or self._bytes >= SHARD_BYTES:
            yield from self.end()
        self._kind = kind
        self._waiting.append(batch)
        self._rows += len(batch)
        self._bytes += sum(map(len, batch.content.texts)) if isinstance(batch.content, Lines) else 0

    def end(self) -> Iterator[Shard]:
        if not self._waiting:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        form = "arrow" if isinstance(self._waiting[0].content, pa.RecordBatch) else "jsonl"
        path = self._folder / f"{self._source}-{self._number:05d}.{form}"
        with whole_file(path) as file:
            shard = _write_copy(self._source, self._waiting, file, path)
        yield shard
        self._waiting, self._rows, self._bytes = [], 0, 0
        self._number += 1


def _kind(batch: Batch) -> object:
    if isinstance(batch.content, Lines):
        return batch.content.name
    return batch.content.schema if isinstance(batch.content, pa.RecordBatch) else list


def _write_copy(source: int, batches: list[Batch], file: Any, path: Path) -> Shard:
    first, content = batches[0].first, batches[0].content
    rows = batches[-1].first + len(batches[-1]) - first
    if isinstance(content, pa.RecordBatch):
        with pa.ipc.new_file(file, content.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
            for batch in batches:
                writer.write_batch(batch.content)
        return Shard(source, first, rows, "arrow", str(path))
    if isinstance(content, Lines):
        line = number = content.numbers[0]
        for batch in batches:
            lines = batch.content
            assert isinstance(lines, Lines), "a copy holds batches of one form"
            for at, text in zip(lines.numbers, lines.texts, strict=True):
                file.write(b"\n" * (at - number) + text + b"\n")  # blank lines, which were left out, keep their numbers
                number = at + 1
        return Shard(source, first, number - line, "lines", str(path), 0, file.tell(), content.name, line)
    for batch in batches:
        for row in batch.content:
            file.write(json.dumps(row, default=str).encode("ascii") + b"\n")
    return Shard(source, first, rows, "values", str(path))


def _read_lines(shard: Shard) -> Iterator[Batch]:
    with Path(shard.path).open("rb") as file:
        file.seek(shard.start)
        yield from line_batches(file, shard.name, shard.first, shard.line, shard.end - shard.start)


def _read_values(shard: Shard) -> Iterator[Batch]:
    with Path(shard.path).open("rb") as file:
        yield from row_batches(map(json.loads, file), shard.first)


def _read_arrow(shard: Shard) -> Iterator[Batch]:
    first = shard.first
    with pa.OSFile(shard.path) as file:
        reader = pa.ipc.open_file(file)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            yield Batch(first, batch)
            first += batch.num_rows


def _read_parquet(shard: Shard) -> Iterator[Batch]:
    with Path(shard.path).open("rb") as file:
        yield from _row_range(file, shard)


def _row_range(file: BinaryIO, shard: Shard) -> Iterator[Batch]:
    opened = open_parquet(file, shard.name)
    groups, before, place = [], 0, 0
    for number in range(opened.metadata.num_row_groups):
        rows = opened.metadata.row_group(number).num_rows
        if place + rows <= shard.start:
            before += rows
        elif place < shard.end:
            groups.append(number)
        place += rows
    place = before
    batches = opened.iter_batches(batch_size=BATCH_ROWS, row_groups=groups)
    while place < shard.end:
        with foreign_errors(f"The parquet file '{shard.name}'", "build or download it again"):
            batch = next(batches, None)
        if batch is None:
            return
        start, end = max(shard.start - place, 0), min(shard.end - place, batch.num_rows)
        if start < end:
            yield Batch(shard.first + place + start - shard.start, batch.slice(start, end - start))
        place += batch.num_rows


_READERS = {"lines": _read_lines, "values": _read_values, "arrow": _read_arrow, "parquet": _read_parquet}
