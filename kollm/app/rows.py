"""A dataset's rows, a page at a time: DuckDB reads the parquet files in place, so that nothing loads whole."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from kollm.core.errors import InputError
from kollm.core.records import Record
from kollm.dataset.folder import REJECTED, read_manifest
from kollm.dataset.tables import SCHEMA, to_records

PAGE_ROWS = 20
QUERIES = 4
"""Queries of which the matching ids are kept."""
MEMORY = "512MB"
"""Memory that DuckDB may use; what needs more goes to its temporary folder."""
_SHOWN = 160
_LENGTH = "length(instruction) + length(input) + length(output)"


@dataclass(frozen=True, slots=True)
class Query:
    """Which rows are asked for; an empty value asks for all.

    Attributes:
        text: words that stand in the Korean or the English, upper and lower case alike.
        reason: why rows were left out; its rows are in the config `rejected`.
        ids: only these rows; None for all.
        shortest, longest: limits of the characters of instruction, input and output together.
    """

    text: str = ""
    source: str = ""
    licence: str = ""
    reason: str = ""
    rejected: bool = False
    ids: tuple[str, ...] | None = None
    shortest: int | None = None
    longest: int | None = None


class Line(NamedTuple):
    """A row as a list shows it: the beginnings of its texts."""

    id: str
    config: str
    source: str
    instruction: str
    output: str
    reason: str


class Page(NamedTuple):
    """One page of rows, and how many rows there are in all."""

    lines: list[Line]
    total: int


class Found(NamedTuple):
    """A row, and the reason for which it was left out; empty for one that was kept."""

    record: Record
    config: str
    reason: str


class RowStore:
    """The rows of one dataset folder. Calls from several threads take turns.

    Args:
        folder: the dataset folder.

    Raises:
        InputError: it is none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = sorted(read_manifest(folder)["files"])
        if not names:
            raise InputError(f"'{folder}' has no rows to look at - build it again.")
        self._lock = threading.Lock()
        self._matches: OrderedDict[Query, list[str]] = OrderedDict()
        self._database = duckdb.connect(":memory:")
        for setting in (
            f"memory_limit = '{MEMORY}'",
            "threads = 2",
            "autoinstall_known_extensions = false",
            "autoload_known_extensions = false",
        ):
            self._database.execute(f"SET {setting}")
        files = [str(folder / name) for name in names]
        kept, left_out = [f for f in files if not _is_rejected(f)], [f for f in files if _is_rejected(f)]
        self.has_rejected = bool(left_out)
        self._columns: dict[bool, set[str]] = {}
        for rejected, paths in ((False, kept), (True, left_out)):
            if paths:
                relation = self._database.read_parquet(paths, filename=True, file_row_number=True, union_by_name=True)
                relation.create_view(_view(rejected))
                self._columns[rejected] = set(relation.columns)

    def page(self, query: Query, number: int) -> Page:
        """The rows of page `number`, from 0, in the dataset's order.

        The places of the rows that fit are found once and kept for the next page of the same query.
        """
        if query.rejected not in self._columns:
            return Page([], 0)
        view, start = _view(query.rejected), number * PAGE_ROWS
        reason = "reason" if query.rejected else "''"
        shown = (
            f"SELECT id, filename, source, left(instruction, {_SHOWN}), left(output, {_SHOWN}), {reason} FROM {view}"
        )
        order = "ORDER BY filename, file_row_number"
        if query == Query(rejected=query.rejected):
            ((total,),) = self._fetch(f"SELECT count(*) FROM {view}", [])
            rows = self._fetch(f"{shown} {order} LIMIT {PAGE_ROWS} OFFSET {start}", [])
        else:
            ids = self._matching(query)
            total = len(ids)
            rows = self._fetch(f"{shown} WHERE id IN (SELECT unnest(?)) {order}", [ids[start : start + PAGE_ROWS]])
        return Page([Line(row[0], _config(row[1]), *row[2:]) for row in rows], int(total))

    def _matching(self, query: Query) -> list[str]:
        """Ids of the rows that fit, in the dataset's order."""
        with self._lock:
            if query in self._matches:
                self._matches.move_to_end(query)
                return self._matches[query]
        where, values = _where(query)
        view = _view(query.rejected)
        found = self._fetch(f"SELECT id FROM {view} WHERE {where} ORDER BY filename, file_row_number", values)
        ids = [id for (id,) in found]
        with self._lock:
            self._matches[query] = ids
            if len(self._matches) > QUERIES:
                self._matches.popitem(last=False)
        return ids

    def find(self, id: str) -> Found | None:
        """The row of that id, kept or left out; None if there is none."""
        for rejected in self._columns:
            found = self._records(rejected, "id = ?", [id])
            if found:
                return found[0]
        return None

    def many(self, ids: Sequence[str]) -> list[Found]:
        """The rows of these ids that there are, kept ones first."""
        return [
            row
            for rejected in self._columns
            for row in self._records(rejected, "id IN (SELECT unnest(?))", [list(ids)])
        ]

    def counts(self, column: str, rejected: bool = False) -> list[tuple[str, int]]:
        """How many rows each value of `source`, `licence`, `lang` or `reason` has, the largest first.

        A reason is counted by its rule: `length_ratio: output` and `length_ratio: input` are one.
        """
        assert column in ("source", "licence", "lang", "reason")
        if rejected not in self._columns or (column == "reason" and not rejected):
            return []
        value = "split_part(reason, ':', 1)" if column == "reason" else column
        return self._fetch(f"SELECT {value}, count(*) FROM {_view(rejected)} GROUP BY 1 ORDER BY 2 DESC, 1", [])

    def lengths(self, rejected: bool = False, bins: int = 20) -> list[tuple[int, int]]:
        """A histogram of the rows' lengths: the lower limit of each bin in characters, and its rows; the last bin is open."""
        if rejected not in self._columns:
            return []
        view = _view(rejected)
        ((high,),) = self._fetch(f"SELECT coalesce(quantile_disc({_LENGTH}, 0.98), 0) FROM {view}", [])
        width = max(int(high) // bins + 1, 1)
        found = dict(
            self._fetch(f"SELECT least(({_LENGTH}) // {width}, {bins - 1}), count(*) FROM {view} GROUP BY 1", [])
        )
        return [(bin * width, found.get(bin, 0)) for bin in range(bins)]

    def _records(self, rejected: bool, where: str, values: list[Any]) -> list[Found]:
        names = [name for name in SCHEMA.names if name in self._columns[rejected]]
        more = ", reason" if rejected else ""
        with self._lock:
            table: pa.Table = self._database.sql(
                f"SELECT {', '.join(names)}, filename{more} FROM {_view(rejected)} WHERE {where}", params=values
            ).to_arrow_table()
        reasons = table.column("reason").to_pylist() if rejected else [""] * len(table)
        configs = [_config(name) for name in table.column("filename").to_pylist()]
        records = to_records(table.select(names).cast(pa.schema([SCHEMA.field(name) for name in names])))
        return [Found(*row) for row in zip(records, configs, reasons, strict=True)]

    def _fetch(self, query: str, values: Sequence[Any]) -> list[Any]:
        with self._lock:
            return self._database.execute(query, list(values)).fetchall()


def _where(query: Query) -> tuple[str, list[Any]]:
    """The condition, with `?` for each value: no text of a person ever stands in the query itself."""
    conditions, values = ["true"], list[Any]()
    if query.text:
        texts = (
            "instruction",
            "input",
            "output",
            "original.instruction",
            "original.input",
            "original.output",
            "CAST(history AS VARCHAR)",
        )
        conditions.append("(id = ? OR " + " OR ".join(f"contains(lower({text}), ?)" for text in texts) + ")")
        values += [query.text, *[query.text.lower()] * len(texts)]
    for column, value in (("source", query.source), ("licence", query.licence)):
        if value:
            conditions.append(f"{column} = ?")
            values.append(value)
    if query.reason:
        conditions.append("split_part(reason, ':', 1) = ?")
        values.append(query.reason)
    if query.ids is not None:
        conditions.append("id IN (SELECT unnest(?))")
        values.append(list(query.ids))
    for sign, limit in ((">=", query.shortest), ("<=", query.longest)):
        if limit is not None:
            conditions.append(f"{_LENGTH} {sign} ?")
            values.append(limit)
    return " AND ".join(conditions), values


def _view(rejected: bool) -> str:
    return "left_out" if rejected else "kept"


def _config(filename: str) -> str:
    return Path(filename).parent.name


def _is_rejected(filename: str) -> bool:
    return _config(filename) == REJECTED
