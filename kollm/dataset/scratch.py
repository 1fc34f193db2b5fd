"""Prepared rows between the two passes of a build: on disk, with what was decided about each."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from kollm.dataset.tables import SCHEMA
from kollm.quality.dedup import NOT_A_DUPLICATE, Duplicates
from kollm.sources import duplicate_id


class Remaining(NamedTuple):
    """What is left of a source after duplicates and leaks.

    Attributes:
        rows: rows that are kept so far.
        sent: rows of these that have text to translate.
        characters: characters of that text, as far as they were counted.
        routed: rows that routing leaves out.
    """

    rows: int
    sent: int
    characters: int
    routed: int


class Scratch:
    """The rows of each source, in order, in a folder that goes away. Use as a context manager.

    Args:
        work: where the folder is made.
    """

    def __init__(self, work: Path) -> None:
        self._folder = work / "prepared"
        self._folder.mkdir()
        self._files: dict[int, pa.RecordBatchFileWriter] = {}
        self._ids: dict[int, list[pa.Array]] = {}
        self._other_ids: dict[int, list[pa.Array]] = {}
        self._reasons: dict[int, dict[int, str]] = {}
        self._characters: dict[int, list[npt.NDArray[np.int64]]] = {}
        self.rows = 0

    def write(
        self, source: int, table: pa.Table, dropped: Sequence[tuple[int, str]], characters: npt.NDArray[np.int64]
    ) -> None:
        """Append rows, the reasons to drop some of them, by their place in the table, and what each would cost."""
        if source not in self._files:
            options = pa.ipc.IpcWriteOptions(compression="zstd")
            self._files[source] = pa.ipc.new_file(self._path(source), SCHEMA, options=options)
            self._ids[source], self._reasons[source], self._characters[source] = [], {}, []
        start = sum(len(ids) for ids in self._ids[source])
        self._reasons[source].update({start + row: reason for row, reason in dropped})
        self._files[source].write_table(table)
        self._characters[source].append(characters)
        self._ids[source] += table.column("id").chunks
        self.rows += table.num_rows

    def add_ids(self, source: int, ids: pa.ChunkedArray) -> None:
        """Ids of rows that are not kept here, but count when ids are compared."""
        self._other_ids.setdefault(source, []).extend(ids.chunks)

    def check_ids(self) -> None:
        """Refuse an id that two rows of a source have.

        Raises:
            InputError: there is one.
        """
        for source, own in self._ids.items():
            ids = pa.chunked_array([*own, *self._other_ids.get(source, [])], pa.string())
            if pc.count_distinct(ids).as_py() < len(ids):
                counts = pc.value_counts(ids)
                double = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
                raise duplicate_id(double[0].as_py())

    def leaks(self) -> list[str]:
        """The rows that hold an evaluation task, as `row id: task id`."""
        found = []
        for source, reasons in self._reasons.items():
            ids = pa.chunked_array(self._ids[source], pa.string())
            found += [f"{ids[row].as_py()}: {reason.partition(': ')[2]}" for row, reason in reasons.items()]
        return found

    def clear_leaks(self) -> None:
        """Keep the rows that leak."""
        for reasons in self._reasons.values():
            reasons.clear()

    def mark_duplicates(self, sources: Sequence[int], duplicates: Duplicates) -> None:
        """Drop the rows that repeat others; rows are counted over `sources` in order."""
        present = [source for source in sources if source in self._ids]
        ids = pa.chunked_array([chunk for source in present for chunk in self._ids[source]], pa.string())
        starts = np.cumsum([0, *(sum(len(chunk) for chunk in self._ids[source]) for source in present)])
        for kind, first_of in (("near", duplicates.near), ("exact", duplicates.exact)):
            rows = np.flatnonzero(first_of != NOT_A_DUPLICATE)
            firsts = ids.take(pa.array(first_of[rows])).to_pylist()
            owners = np.searchsorted(starts, rows, side="right") - 1
            for row, owner, first in zip(rows, owners, firsts, strict=True):
                self._reasons[present[owner]][int(row - starts[owner])] = f"duplicate_{kind}: {first}"

    def reason_counts(self, source: int) -> Counter[str]:
        """How many rows of a source are dropped so far for each reason, without its detail."""
        return Counter(reason.partition(":")[0] for reason in self._reasons.get(source, {}).values())

    def remaining(self, source: int) -> Remaining:
        """What is left to translate of a source."""
        if source not in self._ids:
            return Remaining(0, 0, 0, 0)
        characters = np.concatenate(self._characters[source])
        kept = np.ones(len(characters), dtype=bool)
        kept[list(self._reasons[source])] = False
        sent = kept & (characters > 0)
        routed = int((kept & (characters < 0)).sum())
        return Remaining(int(kept.sum()) - routed, int(sent.sum()), int(characters[sent].sum()), routed)

    def read(self, source: int) -> Iterator[tuple[pa.Table, pa.Array]]:
        """The rows of a source in batches, each with the reasons to drop them; null for none."""
        if source not in self._files:
            return
        self._files[source].close()
        reasons = self._reasons[source]
        start = 0
        with pa.OSFile(str(self._path(source))) as file:
            reader = pa.ipc.open_file(file)
            for number in range(reader.num_record_batches):
                table = pa.Table.from_batches([reader.get_batch(number)])
                end = start + table.num_rows
                yield table, pa.array([reasons.get(row) for row in range(start, end)], pa.string())
                start = end
        self._path(source).unlink()

    def close(self) -> None:
        """Remove the folder."""
        for file in self._files.values():
            with contextlib.suppress(OSError, pa.ArrowInvalid):  # a full disk is told by what met it first
                file.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, source: int) -> Path:
        return self._folder / f"{source}.arrow"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
