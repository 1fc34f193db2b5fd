"""What is known of a shard's rows before anything is spent: which are left out and why, and which id each has."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa

from kollm.core.files import whole_file
from kollm.dataset.build import Build
from kollm.dataset.repeats import Names, repeats_of
from kollm.dataset.work import arrow_table, whole_arrow

_DECIDED = pa.schema([("row", pa.int64()), ("reason", pa.string()), ("id", pa.string())])


class Decided(NamedTuple):
    """What was decided of a shard's rows.

    Attributes:
        reasons: row -> why it is left out.
        names: row -> its id, where that is another than it was read with; rows that cannot be used follow the others.
    """

    reasons: dict[int, str]
    names: dict[int, str]


def decide(build: Build, shard: int) -> None:
    """Task: put together what is known of a shard's rows."""
    prepared = read_summary(build, "prepared", shard)
    source = build.preparing[build.shard(shard).source].source
    rows = arrow_table(build.path("rows", shard))
    names = Names(build).of(shard)
    leaks = prepared["leaks"]
    keeps = build.finishing[build.shard(shard).source].leaks == "keep"
    reasons = {} if keeps else {row: f"leak: {task}" for row, task in leaks}
    if source.split == "train":
        for kind, name in (("near", "duplicate_near"), ("repeats", "duplicate_exact")):
            if kind == "repeats" or build.near <= 1:
                repeated, firsts = repeats_of(build, shard, kind)
                reasons |= {row: f"{name}: {first}" for row, first in zip(repeated.tolist(), firsts, strict=True)}
    ids = rows.column("id")
    summary = {
        "reasons": Counter(reason.partition(":")[0] for reason in reasons.values()),
        "renamed": len(names),
        "leaks": [f"{names.get(row) or ids[row].as_py()}: {task}" for row, task in leaks],
        "kept": prepared["records"] - len(reasons),
    }
    said = sorted({*reasons, *names})
    with whole_arrow(build.path("decided", shard), _DECIDED, None, build.sync) as file:
        columns = [said, [reasons.get(row) for row in said], [names.get(row) for row in said]]
        file.write_table(pa.table(columns, schema=_DECIDED))
    write_summary(build, "decided", shard, summary)


def read_decided(build: Build, shard: int) -> Decided:
    """What `decide` found."""
    rows = arrow_table(build.path("decided", shard)).to_pylist()
    return Decided(
        {row["row"]: row["reason"] for row in rows if row["reason"] is not None},
        {row["row"]: row["id"] for row in rows if row["id"] is not None},
    )


def write_summary(build: Build, kind: str, shard: int, summary: dict[str, Any]) -> None:
    """Write what the whole build needs of a shard's result: counts, and leaks."""
    with whole_file(build.path(kind, shard, "json"), build.sync) as file:
        file.write(json.dumps(summary).encode("utf-8", "backslashreplace"))


def read_summary(build: Build, kind: str, shard: int) -> dict[str, Any]:
    """Read what `write_summary` wrote."""
    summary: dict[str, Any] = json.loads(build.path(kind, shard, "json").read_text(encoding="utf-8"))
    return summary


def summaries(build: Build, kind: str) -> Iterator[dict[str, Any]]:
    """Those of all shards, in order."""
    return (read_summary(build, kind, shard) for shard in range(build.shards))
