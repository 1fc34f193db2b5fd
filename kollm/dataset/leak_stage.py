"""The check of a whole dataset for leaks as a stage: its rows in pieces, each of which a worker reads and checks."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from kollm.core.files import write_atomic
from kollm.core.parquet import open_parquet
from kollm.core.records import Record
from kollm.dataset.executors import Executor, Stage
from kollm.dataset.folder import parquet_files, read_part
from kollm.dataset.leak_check import Found, find_leaks
from kollm.dataset.tables import SCHEMA, to_records, to_table
from kollm.dataset.work import arrow_batches, whole_arrow
from kollm.quality.leaks import Tasks, load_tasks, save_tasks

PIECE_ROWS = 20_000
_BATCH_ROWS = 1_000


class Piece(NamedTuple):
    """Some rows of a parquet file of a dataset folder, or all of an Arrow file.

    Attributes:
        path: the file.
        groups: the row groups of the parquet file; None for an Arrow file.
    """

    path: str
    groups: tuple[int, ...] | None

    def records(self) -> Iterator[Record]:
        """The rows."""
        if self.groups is not None:
            return read_part(Path(self.path), self.groups)
        return (record for batch in arrow_batches(Path(self.path)) for record in to_records(batch))


def find_leaks_by(
    executor: Executor, rows: Path | Iterable[Record], tasks: Tasks, place: Path | None = None
) -> list[Found]:
    """As `find_leaks`, with the rows shared among workers.

    Args:
        executor: who has the workers.
        rows: a dataset folder, whose split `train` is checked, or Records.
        tasks: the evaluation tasks.
        place: folder that all workers see; None for this machine's temporary one.

    Raises:
        KollmError: a row cannot be read, or the executor cannot run.
    """
    with tempfile.TemporaryDirectory(prefix=".kollm-leaks-", dir=place) as name:
        folder = Path(name)
        pieces = list(_cut(rows) if isinstance(rows, Path) else _copies(rows, folder))
        save_tasks(tasks, folder / "tasks.npz")
        executor.run(Stage("leaks", len(pieces), partial(_check, folder, pieces), folder))
        return [
            Found(*found)
            for number in range(len(pieces))
            for found in json.loads((folder / f"{number}.json").read_text())
        ]


def _check(folder: Path, pieces: list[Piece], number: int) -> int:
    """Task: the leaks among the rows of a piece."""
    seen = 0

    def counted() -> Iterator[Record]:
        nonlocal seen
        for record in pieces[number].records():
            seen += 1
            yield record

    found = list(find_leaks(counted(), load_tasks(folder / "tasks.npz")))
    write_atomic(folder / f"{number}.json", json.dumps(found))
    return seen


def _cut(folder: Path) -> Iterator[Piece]:
    for path in parquet_files(folder.absolute(), None, "train"):
        about, groups, rows = open_parquet(path, path).metadata, list[int](), 0
        for group in range(about.num_row_groups):
            groups.append(group)
            rows += about.row_group(group).num_rows
            if rows >= PIECE_ROWS or group == about.num_row_groups - 1:
                yield Piece(str(path), tuple(groups))
                groups, rows = [], 0


def _copies(records: Iterable[Record], folder: Path) -> Iterator[Piece]:
    iterator, number = iter(records), 0
    while first := list(islice(iterator, _BATCH_ROWS)):
        path = folder / f"{number}.arrow"
        with whole_arrow(path, SCHEMA) as file:
            file.write_table(to_table(first))
            for _ in range(PIECE_ROWS // _BATCH_ROWS - 1):
                if more := list(islice(iterator, _BATCH_ROWS)):
                    file.write_table(to_table(more))
        yield Piece(str(path), None)
        number += 1
