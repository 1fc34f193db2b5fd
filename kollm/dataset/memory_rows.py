"""The Korean rows of a memory as a file, from which each shard takes those of its own rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from kollm.core.records import Record
from kollm.dataset.tables import SCHEMA, to_records, to_table
from kollm.dataset.work import arrow_table, whole_arrow
from kollm.quality.shingles import Hashes
from kollm.translate import MemoryTranslator
from kollm.translate.memory import place_of

_KEYED = SCHEMA.append(pa.field("key", pa.uint64()))
_BATCH = 1_000


def write_memory(rows: Iterable[Record], path: Path, by_place: bool) -> None:
    """Write the rows of a memory.

    Args:
        rows: the rows; of several with one key the last counts.
        path: the file.
        by_place: whether they are found by their place in the source rather than by their id.
    """
    iterator = iter(rows)
    with whole_arrow(path, _KEYED, compression=None) as file:
        while batch := list(islice(iterator, _BATCH)):
            keys = [place_of(record) if by_place else record.id for record in batch]
            file.write_table(to_table(batch).append_column("key", pa.array(_hashes(keys))))


def read_memory(path: Path, records: Sequence[Record], by_place: bool) -> MemoryTranslator:
    """The memory as far as these records need it."""
    table = arrow_table(path)
    wanted = np.unique(_hashes([place_of(record) if by_place else record.id for record in records]))
    there = np.flatnonzero(np.isin(table.column("key").to_numpy(), wanted))
    found = to_records(table.take(pa.array(there)))
    return MemoryTranslator({place_of(record) if by_place else record.id: record for record in found}, by_place)


def _hashes(keys: Sequence[str]) -> Hashes:
    digests = (hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest() for key in keys)
    return np.fromiter((int.from_bytes(digest, "little") for digest in digests), dtype=np.uint64, count=len(keys))
