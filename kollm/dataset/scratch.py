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

from kollm.dataset.double_ids import settle_ids
from kollm.dataset.tables import REJECTED_SCHEMA, SCHEMA
from kollm.quality.dedup import NOT_A_DUPLICATE, Duplicates

_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")


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
        self._rejected: dict[int, pa.RecordBatchFileWriter] = {}
        self._ids: dict[int, list[pa.Array]] = {}
        self._places: dict[int, list[pa.Array]] = {}
        self._rejected_ids: dict[int, list[pa.Array]] = {}
        self._rejected_places: dict[int, list[pa.Array]] = {}
        self._renamed: set[int] = set()
        self._reasons: dict[int, dict[int, str]] = {}
        self._characters: dict[int, list[npt.NDArray[np.int64]]] = {}
        self.rows = 0

    def write(
        self, source: int, table: pa.Table, dropped: Sequence[tuple[int, str]], characters: npt.NDArray[np.int64]
    ) -> None:
        """Append rows, the reasons to drop some of them, by their place in the table, and what each would cost."""
        if source not in self._files:
            self._files[source] = pa.ipc.new_file(self._path(source), SCHEMA, options=_OPTIONS)
            self._ids[source], self._places[source] = [], []
            self._reasons[source], self._characters[source] = {}, []
        start = sum(len(ids) for ids in self._ids[source])
        self._reasons[source].update({start + row: reason for row, reason in dropped})
        self._files[source].write_table(table)
        self._characters[source].append(characters)
        self._ids[source] += table.column("id").chunks
        self._places[source] += _places(table)
        self.rows += table.num_rows

    def write_rejected(self, source: int, table: pa.Table) -> None:
        """Append rows that were left out before, with their reasons."""
        if source not in self._rejected:
            path = self._rejected_path(source)
            self._rejected[source] = pa.ipc.new_file(path, REJECTED_SCHEMA, options=_OPTIONS)
            self._rejected_ids[source], self._rejected_places[source] = [], []
        self._rejected[source].write_table(table)
        self._rejected_ids[source] += table.column("id").chunks
        self._rejected_places[source] += _places(table)

    def settle_ids(self) -> int:
        """Give rows whose id another row of their source has one of their own; rows that are kept go first.

        Returns:
            How many rows got another id.
        """
        changed = 0
        for source in sorted({*self._ids, *self._rejected_ids}):
            own, left_out = self._ids.get(source, []), self._rejected_ids.get(source, [])
            places = [*self._places.get(source, []), *self._rejected_places.get(source, [])]
            ids, count = settle_ids([*own, *left_out], places)
            if count:
                rows = sum(map(len, own))
                self._ids[source] = ids.slice(0, rows).chunks
                self._rejected_ids[source] = ids.slice(rows).chunks
                self._renamed.add(source)
                changed += count
        return changed

    def read_rejected(self, source: int) -> Iterator[pa.Table]:
        """The rows of a source that were left out before, in batches."""
        if source in self._rejected:
            self._rejected[source].close()
            yield from self._tables(source, self._rejected_path(source), self._rejected_ids[source])

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
        for table in self._tables(source, self._path(source), self._ids[source]):
            end = start + table.num_rows
            yield table, pa.array([reasons.get(row) for row in range(start, end)], pa.string())
            start = end

    def _tables(self, source: int, path: Path, ids: Sequence[pa.Array]) -> Iterator[pa.Table]:
        settled, start = pa.chunked_array(ids, pa.string()), 0
        with pa.OSFile(str(path)) as file:
            reader = pa.ipc.open_file(file)
            for number in range(reader.num_record_batches):
                table = pa.Table.from_batches([reader.get_batch(number)])
                if source in self._renamed:
                    names = settled.slice(start, table.num_rows)
                    table = table.set_column(table.schema.get_field_index("id"), "id", names)
                yield table
                start += table.num_rows
        path.unlink()

    def close(self) -> None:
        """Remove the folder."""
        for file in (*self._files.values(), *self._rejected.values()):
            with contextlib.suppress(OSError, pa.ArrowInvalid):  # a full disk is told by what met it first
                file.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, source: int) -> Path:
        return self._folder / f"{source}.arrow"

    def _rejected_path(self, source: int) -> Path:
        return self._folder / f"{source}-rejected.arrow"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _places(table: pa.Table) -> list[pa.Array]:
    return [pc.struct_field(chunk, "index") for chunk in table.column("provenance").chunks]
