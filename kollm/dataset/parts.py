"""The files of a dataset, made of finished shards: shards in their order, a fixed number of rows a file.

Which shard has a text first is known when all are translated, which may be after a shard is finished: what its rows cost less
for it is taken off here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from kollm.core.files import file_sha256, write_atomic
from kollm.dataset.build import Build
from kollm.dataset.decide import read_summary, summaries, write_summary
from kollm.dataset.folder import SHARD_ROWS, Part, part_file, write_part
from kollm.dataset.settings import REJECTED_PART
from kollm.dataset.tables import REJECTED_SCHEMA, SCHEMA
from kollm.dataset.tasks import KEPT, LEFT_OUT, REJECTED
from kollm.dataset.work import arrow_batches

_LIST = "files.json"


def list_files(build: Build) -> int:
    """Write down which rows each file of the dataset gets.

    Returns:
        How many files there are.
    """
    files = list(_files(build))
    write_atomic(build.folder / _LIST, json.dumps(files))
    return len(files)


def write_file(build: Build, number: int) -> int:
    """Task: one parquet file of the dataset.

    Returns:
        Its rows.
    """
    item = _File(*json.loads((build.folder / _LIST).read_text(encoding="utf-8"))[number])
    path = build.folder / "dataset" / item.config / part_file(item.split, item.number)
    path.parent.mkdir(exist_ok=True)
    schema = REJECTED_SCHEMA if item.config == REJECTED_PART.config else SCHEMA
    write_part(path, (table for piece in item.pieces for table in _piece(build, *piece)), schema, build.sync)
    write_summary(build, "written", number, {"name": f"{item.config}/{path.name}", "sha256": file_sha256(path)})
    return sum(piece[-1] for piece in item.pieces)


def checksums(build: Build) -> dict[str, str]:
    """Of the dataset's files, by name."""
    files = len(json.loads((build.folder / _LIST).read_text(encoding="utf-8")))
    written = (read_summary(build, "written", number) for number in range(files))
    return {item["name"]: item["sha256"] for item in written}


def part_of(build: Build, number: int) -> Part:
    """The config and split of a shard's rows."""
    source = build.preparing[build.shard(number).source].source
    return Part(source.config, source.split)


class _File(NamedTuple):
    """One file of the dataset: its part, its number there, and its rows as (shard, kind, first row, rows)."""

    config: str
    split: str
    number: int
    pieces: list[tuple[int, str, int, int]]


def _files(build: Build) -> Iterator[_File]:
    """The files that hold the finished rows: shards in their order, a fixed number of rows a file."""
    parts: dict[Part, list[tuple[int, str, int]]] = {REJECTED_PART: []}
    counts = list(summaries(build, "finished"))
    parts[REJECTED_PART] += [(number, LEFT_OUT, found[LEFT_OUT]) for number, found in enumerate(counts)]
    parts[REJECTED_PART] += [(number, REJECTED, found[REJECTED]) for number, found in enumerate(counts)]
    for number, found in enumerate(counts):
        parts.setdefault(part_of(build, number), []).append((number, KEPT, found[KEPT]))
    for part, pieces in parts.items():
        waiting: list[tuple[int, str, int, int]] = []
        room, file = SHARD_ROWS, 0
        for number, kind, rows in pieces:
            start = 0
            while start < rows:
                taken = min(room, rows - start)
                waiting.append((number, kind, start, taken))
                start, room = start + taken, room - taken
                if not room:
                    yield _File(*part, file, waiting)
                    waiting, room, file = [], SHARD_ROWS, file + 1
        if waiting:
            yield _File(*part, file, waiting)


def _piece(build: Build, number: int, kind: str, start: int, rows: int) -> Iterator[pa.Table]:
    elsewhere = _elsewhere(build, number)
    place, end = 0, start + rows
    for batch in arrow_batches(build.path("finished", number, f"{kind}.arrow")):
        first, last = max(start - place, 0), min(end - place, batch.num_rows)
        if first < last:
            table = pa.Table.from_batches([batch]).slice(first, last - first)
            yield _less(table, elsewhere) if elsewhere else table
        place += batch.num_rows


def _elsewhere(build: Build, number: int) -> dict[str, int]:
    """Of rows of a shard, by id, the characters that a row of an earlier shard is billed with, since it needs the same text."""
    there = build.path("elsewhere", number, "json").is_file()
    return read_summary(build, "elsewhere", number) if there else {}


def _less(table: pa.Table, characters: Mapping[str, int]) -> pa.Table:
    """Rows of which some cost so many characters less."""
    less = [characters.get(name, 0) for name in table.column("id").to_pylist()]
    if not any(less):
        return table
    known = table.column("provenance").combine_chunks()
    place = known.type.get_field_index("characters")
    columns = [*known.flatten()]
    columns[place] = pc.subtract(columns[place], pa.array(less, pa.int64()))
    changed = pa.StructArray.from_arrays(columns, fields=list(known.type))
    return table.set_column(table.schema.get_field_index("provenance"), "provenance", changed)
