"""What texts cost, told of the first row that needs each: a text that stands in many rows is bought, and billed, once.

A shard knows which of its rows is the first of its own; one task a bucket finds the texts that an earlier shard has too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kollm.dataset.build import Build
from kollm.dataset.decide import write_summary
from kollm.dataset.repeats import bucket_of, of_shard, row_number, write_buckets
from kollm.dataset.work import arrow_table, whole_arrow
from kollm.services.budget import Budget, short_key
from kollm.services.ledger import Charge, Expense, Ledger
from kollm.translate.parts import Paid

_BILLS = pa.schema(
    [
        ("kind", pa.uint8()),
        ("key", pa.uint64()),
        ("row", pa.uint32()),
        ("characters", pa.int64()),
        ("cost", pa.float64()),
    ]
)
_REPAID = pa.schema([("row", pa.int64()), ("characters", pa.int64())])


def write_bills(build: Build, shard: int, paid: Sequence[tuple[int, tuple[Paid, ...]]]) -> None:
    """Write what the texts of a shard cost: row and attempts of each text that this shard has first."""
    keys = np.array([short_key(attempts[0].key) for _, attempts in paid], dtype=np.uint64)
    columns: list[npt.NDArray[Any]] = [
        np.zeros(len(paid), dtype=np.uint8),
        keys,
        np.array([row for row, _ in paid], dtype=np.uint32),
        np.array([sum(item.characters for item in attempts) for _, attempts in paid], dtype=np.int64),
        np.array([sum(item.cost for item in attempts) for _, attempts in paid], dtype=np.float64),
    ]
    write_buckets(build, "bills", shard, _BILLS, bucket_of(build, keys), columns)


def settle_bills(build: Build, bucket: int) -> None:
    """Task: the texts of a bucket that an earlier shard pays for, and what they cost in all."""
    seen, repaid, cost = set[int](), list[tuple[int, int]](), 0.0
    for shard in range(build.shards):
        for key, row, characters, paid in _entries(build, shard, [bucket]):
            if key in seen:
                repaid.append((row_number(shard, row), characters))
                continue
            seen.add(key)
            cost += paid
    with whole_arrow(build.path("repaid", bucket), _REPAID, None, build.sync) as file:
        rows = [np.array([item[place] for item in repaid], dtype=np.int64) for place in (0, 1)]
        file.write_table(pa.table(rows, schema=_REPAID))
    write_summary(build, "repaid", bucket, {"cost": cost})


def repaid_of(build: Build, shard: int) -> dict[int, int]:
    """Of the rows of a shard whose text an earlier shard pays for, the characters."""
    found: dict[int, int] = {}
    for bucket in range(build.buckets):
        part = of_shard(arrow_table(build.path("repaid", bucket)), shard)
        rows = (part.column("row").to_numpy() & 0xFFFFFFFF).tolist()
        for row, characters in zip(rows, part.column("characters").to_pylist(), strict=True):
            found[row] = found.get(row, 0) + characters
    return found


def recall_bills(build: Build, shards: Iterable[int], budget: Budget, ledger: Ledger) -> None:
    """Count what finished shards cost, before more is bought under a cap; sends that got no answer count too."""
    lost: dict[int, Charge] = {}
    for item in ledger.in_flight():
        key = short_key(item.key)
        lost[key] = lost.get(key, Charge()).plus(item.charge)
    for shard in shards:
        entries = _entries(build, shard, range(build.buckets))
        budget.recall(
            {key: Expense(Charge(characters, cost), lost.get(key, Charge())) for key, _, characters, cost in entries}
        )


def _entries(build: Build, shard: int, buckets: Iterable[int]) -> Iterator[tuple[int, int, int, float]]:
    path = build.path("bills", shard)
    if not path.is_file():
        return  # nothing of it was bought
    with pa.OSFile(str(path)) as file:
        reader = pa.ipc.open_file(file)
        for bucket in buckets:
            columns = reader.get_batch(bucket).columns[1:]
            yield from zip(*(column.to_pylist() for column in columns), strict=True)
