"""Rows that repeat others, and ids that two rows have: found by bucket, so that no task ever holds the prints of all rows.

Each shard writes its hashes sorted by bucket. One task a bucket takes that bucket's part of all shards: first equal texts
and equal ids, then near duplicates, for which it looks at the signatures of candidates alone. Rows are told by `row_number`,
which orders them as the build does: the first row of a group stays.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kollm.core.files import whole_file
from kollm.dataset.build import Build
from kollm.dataset.work import arrow_table, whole_arrow
from kollm.quality.dedup import Numbers, Prints, Repeats, Signatures, exact_repeats, lowest, near_repeats
from kollm.quality.shingles import Hashes
from kollm.sources import id_with_place

ROWS = pa.schema([("id", pa.string()), ("place", pa.int64())])
"""Of each row of a shard, those that can be used first: its id, and its place in the source."""
_KEYS = pa.schema([("kind", pa.uint8()), ("key", pa.uint64()), ("row", pa.uint32())])
_BANDS = pa.schema([("kind", pa.uint8()), ("key", pa.uint32()), ("row", pa.uint32())])
_REPEATS = pa.schema([("row", pa.int64()), ("first", pa.int64()), ("rank", pa.uint8())])
_NAMES = pa.schema([("row", pa.int64()), ("id", pa.string())])
_TEXT, _ID, _LEFT_OUT, _STEM = range(4)
"""Kinds of a key: of the text; of the id of a row, or of one that cannot be used; of what an id like `x-r7` adds to."""
_STEMMED = re.compile(r"(.*)-r\d+r*", re.DOTALL)
_LEFT_OUT_LAST = 1 << 62


class Ids(NamedTuple):
    """The ids of a shard's rows and those of rows that cannot be used."""

    used: Sequence[str]
    left_out: Sequence[str]


def row_number(shard: int, row: int) -> int:
    """The number by which a row is told in the whole build."""
    return shard << 32 | row


def write_keys(build: Build, shard: int, ids: Ids, exact: Hashes | None) -> None:
    """Write the hashes of a shard's ids and texts by bucket."""
    source = build.shard(shard).source
    names = [*ids.used, *ids.left_out]
    rows = np.arange(len(names))
    stems = [(row, found[1]) for row, name in enumerate(names) if (found := _STEMMED.fullmatch(name))]
    kinds: list[npt.NDArray[Any]] = [np.where(rows < len(ids.used), _ID, _LEFT_OUT), np.full(len(stems), _STEM)]
    keys = [_hashes(source, names), _hashes(source, [stem for _, stem in stems])]
    numbers = [rows, np.array([row for row, _ in stems], dtype=np.int64)]
    if exact is not None:
        kinds.append(np.full(len(exact), _TEXT))
        keys.append(exact)
        numbers.append(np.arange(len(exact)))
    key = np.concatenate(keys)
    buckets = bucket_of(build, key)
    write_buckets(build, "keys", shard, _KEYS, buckets, [np.concatenate(kinds), key, np.concatenate(numbers)])


def bucket_of(build: Build, keys: Hashes) -> Hashes:
    """The bucket of each 64-bit hash."""
    return ((keys >> np.uint64(32)) * np.uint64(build.buckets)) >> np.uint64(32)


def write_bands(build: Build, shard: int, found: Prints) -> None:
    """Write the hashes of a shard's bands by bucket, and its signatures."""
    rows = np.flatnonzero(found.sketched)
    bands = found.buckets.shape[1]
    key = found.buckets[rows].T.ravel()
    buckets = (key.astype(np.uint64) * np.uint64(build.buckets)) >> np.uint64(32)
    columns: list[npt.NDArray[Any]] = [np.repeat(np.arange(bands), len(rows)), key, np.tile(rows, bands)]
    write_buckets(build, "bands", shard, _BANDS, buckets, columns)
    with whole_file(build.path("signatures", shard, "npy"), build.sync) as file:
        np.save(file, found.signatures)


def find_repeats(build: Build, bucket: int) -> None:
    """Task: the rows of a bucket whose text or whose id an earlier row has."""
    entries = _read_bucket(build, "keys", bucket)
    texts = entries.kind == _TEXT
    found = exact_repeats(entries.key[texts], entries.row[texts])
    _write_repeats(build, "repeats", bucket, found)
    names = sorted(_settled(build, entries))
    with whole_arrow(build.path("names", bucket), _NAMES, None, build.sync) as file:
        file.write_table(pa.table([[row for row, _ in names], [name for _, name in names]], schema=_NAMES))


def find_near(build: Build, bucket: int) -> None:
    """Task: the rows of a bucket that are nearly the same as an earlier one."""
    repeated = np.sort(np.concatenate([_column(build, "repeats", part, "row") for part in range(build.buckets)]))
    entries = _read_bucket(build, "bands", bucket)
    places = np.minimum(np.searchsorted(repeated, entries.row), max(len(repeated) - 1, 0))
    once = repeated[places] != entries.row if len(repeated) else np.ones(len(entries.row), dtype=bool)
    found = near_repeats(
        entries.kind[once],
        entries.key[once],
        entries.row[once],
        build.near,
        functools.partial(_signatures, build),
    )
    _write_repeats(build, "near", bucket, found)


def repeats_of(build: Build, shard: int, kind: str) -> tuple[Numbers, list[str]]:
    """The rows of a shard that repeat others, and the ids of those.

    Args:
        build: the build.
        shard: number of the shard.
        kind: `repeats` or `near`.
    """
    parts = [_of_shard(build, kind, bucket, shard) for bucket in range(build.buckets)]
    found = lowest(*(np.concatenate([part[column] for part in parts]) for column in range(3)))
    return found.row & 0xFFFFFFFF, list(_ids_of(build, found.first))


class Names:
    """The rows that got another id."""

    def __init__(self, build: Build) -> None:
        tables = (arrow_table(build.path("names", bucket)) for bucket in range(build.buckets))
        self._tables = [table for table in tables if table.num_rows]

    def of(self, shard: int) -> dict[int, str]:
        """The rows of a shard that got another id, with that."""
        found: dict[int, str] = {}
        for table in self._tables:
            part = of_shard(table, shard)
            rows = part.column("row").to_numpy() & 0xFFFFFFFF
            found |= zip(rows.tolist(), part.column("id").to_pylist(), strict=True)
        return found


class _Entries(NamedTuple):
    kind: npt.NDArray[np.uint8]
    key: npt.NDArray[Any]
    row: Numbers


def _hashes(source: int, names: Sequence[str]) -> Hashes:
    digests = (
        hashlib.blake2b(f"{source}\n{name}".encode("utf-8", "surrogatepass"), digest_size=8).digest() for name in names
    )
    return np.fromiter((int.from_bytes(digest, "little") for digest in digests), dtype=np.uint64, count=len(names))


def write_buckets(
    build: Build, folder: str, shard: int, schema: pa.Schema, buckets: npt.NDArray[Any], columns: list[npt.NDArray[Any]]
) -> None:
    """Write entries of a shard, one batch a bucket."""
    order = np.argsort(buckets, kind="stable")
    table = pa.table(
        [pa.array(column[order]).cast(field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )
    ends = np.searchsorted(buckets[order], np.arange(1, build.buckets + 1))
    with whole_arrow(build.path(folder, shard), schema, None, build.sync) as file:
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            part = table.slice(start, end - start)
            file.write_batch(part.to_batches()[0] if part.num_rows else _empty(schema))


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def _read_bucket(build: Build, folder: str, bucket: int) -> _Entries:
    """A bucket's part of all shards, in their order."""
    parts = []
    for shard in range(build.shards):
        path = build.path(folder, shard)
        if not path.is_file():
            continue  # an evaluation set has no bands
        with pa.OSFile(str(path)) as file:  # not mapped: pages of thousands of files would stay in memory
            batch = pa.ipc.open_file(file).get_batch(bucket)
        rows = batch.column(2).to_numpy().astype(np.int64) | row_number(shard, 0)
        parts.append(_Entries(batch.column(0).to_numpy(), batch.column(1).to_numpy(), rows))
    if not parts:
        return _Entries(np.zeros(0, np.uint8), np.zeros(0, np.uint64), np.zeros(0, np.int64))
    return _Entries(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _settled(build: Build, entries: _Entries) -> Iterator[tuple[int, str]]:
    """Rows whose id an earlier row of their source has, with one of their own; rows that are kept go first."""
    order = entries.row + np.where(entries.kind == _LEFT_OUT, _LEFT_OUT_LAST, 0)
    ids = np.flatnonzero((entries.kind == _ID) | (entries.kind == _LEFT_OUT))
    ids = ids[np.argsort(order[ids], kind="stable")]
    keys, counts = np.unique(entries.key[ids], return_counts=True)
    keys = keys[counts > 1]
    if not len(keys):
        return
    members = ids[np.isin(entries.key[ids], keys)]
    stems = np.flatnonzero((entries.kind == _STEM) & np.isin(entries.key, keys))
    names = list(_given(build, entries.row[members]))
    taken = {name for name, _ in names} | {name for name, _ in _given(build, entries.row[stems])}
    seen = set[str]()
    for row, (name, place) in zip(entries.row[members].tolist(), names, strict=True):
        if name in seen:
            name = id_with_place(name, place, taken)
            taken.add(name)
            yield row, name
        seen.add(name)


def _given(build: Build, rows: Numbers) -> Iterator[tuple[str, int]]:
    """The ids and places of rows, as they were read; looked up shard by shard."""
    order = np.argsort(rows, kind="stable")
    found: list[tuple[str, int]] = [("", 0)] * len(rows)
    for shard, places in _by_shard(rows[order]):
        table = arrow_table(build.path("rows", shard)).take(pa.array(rows[order][places] & 0xFFFFFFFF))
        values = zip(table.column("id").to_pylist(), table.column("place").to_pylist(), strict=True)
        for place, value in zip(order[places].tolist(), values, strict=True):
            found[place] = value
    yield from found


def _ids_of(build: Build, rows: Numbers) -> Iterator[str]:
    """The ids of rows, as they are settled."""
    order = np.argsort(rows, kind="stable")
    given = [name for name, _ in _given(build, rows)]
    all_names = Names(build)
    for shard, places in _by_shard(rows[order]):
        if names := all_names.of(shard):
            for place in order[places].tolist():
                given[place] = names.get(int(rows[place]) & 0xFFFFFFFF, given[place])
    yield from given


def _by_shard(rows: Numbers) -> Iterator[tuple[int, slice]]:
    """The shards of ascending row numbers, and where those of each stand."""
    shards = rows >> 32
    starts = np.flatnonzero(np.diff(shards, prepend=-1))
    for start, end in pairwise([*starts.tolist(), len(rows)]):
        yield int(shards[start]), slice(start, end)


def _signatures(build: Build, rows: Numbers) -> Signatures:
    order = np.argsort(rows, kind="stable")
    found: Signatures | None = None
    for shard, places in _by_shard(rows[order]):
        of_shard = np.load(build.path("signatures", shard, "npy"), mmap_mode="r")
        if found is None:
            found = np.empty((len(rows), of_shard.shape[1]), dtype=np.uint8)
        found[order[places]] = of_shard[rows[order][places] & 0xFFFFFFFF]
    return found if found is not None else np.zeros((0, 1), dtype=np.uint8)


def _write_repeats(build: Build, folder: str, bucket: int, found: Repeats) -> None:
    with whole_arrow(build.path(folder, bucket), _REPEATS, None, build.sync) as file:
        file.write_table(pa.table(list(found), schema=_REPEATS))


def _column(build: Build, folder: str, bucket: int, name: str) -> Numbers:
    column: Numbers = arrow_table(build.path(folder, bucket)).column(name).to_numpy()
    return column


def _of_shard(build: Build, folder: str, bucket: int, shard: int) -> Repeats:
    return Repeats(*(column.to_numpy() for column in of_shard(arrow_table(build.path(folder, bucket)), shard).columns))


def of_shard(table: pa.Table, shard: int) -> pa.Table:
    """The part of a table, sorted by its column `row`, that is of a shard."""
    start, end = np.searchsorted(table.column("row").to_numpy(), [row_number(shard, 0), row_number(shard + 1, 0)])
    return table.slice(start, end - start)
