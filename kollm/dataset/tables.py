"""Records as Arrow tables, column by column: the schema of every config of a dataset folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from kollm.core.errors import InputError
from kollm.core.records import Original, Provenance, Record

TURNS = pa.list_(pa.list_(pa.string()))
"""Arrow type of a history: turns, each a user's text and an assistant's."""
_TEXTS = [
    ("instruction", pa.string()),
    ("input", pa.string()),
    ("output", pa.string()),
    ("history", TURNS),
    ("system", pa.string()),
]
_PROVENANCE = [
    ("revision", pa.string()),
    ("index", pa.int64()),
    ("route", pa.string()),
    ("engine", pa.string()),
    ("mode", pa.string()),
    ("attempt", pa.int64()),
    ("characters", pa.int64()),
    ("category", pa.string()),
]
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        *_TEXTS,
        ("lang", pa.string()),
        ("licence", pa.string()),
        ("original", pa.struct(_TEXTS)),
        ("provenance", pa.struct(_PROVENANCE)),
        ("tools", pa.string()),
    ]
)
"""Columns of every config: the fields of Record."""
ADDED_LATER = frozenset({"system", "tools"})
"""Columns that older dataset folders lack; each has a default."""
REJECTED_SCHEMA = SCHEMA.append(pa.field("reason", pa.string()))


def to_table(records: Sequence[Record], reasons: Sequence[str] | None = None) -> pa.Table:
    """Records as a table of SCHEMA; with `reasons`, of REJECTED_SCHEMA.

    A lone surrogate, which UTF-8 and so Arrow cannot hold, is written as its escape: `\\ud800`.
    """
    try:
        return _table(records, reasons)
    except UnicodeEncodeError:
        return _table([_escaped(record) for record in records], reasons)


def check_schema(schema: pa.Schema, where: object) -> None:
    """Refuse columns that are no Records'; more columns may be there.

    Raises:
        InputError: one is missing or of another type.
    """
    missing = [name for name in SCHEMA.names if name not in {*schema.names, *ADDED_LATER}]
    if missing:
        raise InputError(
            f"'{where}' lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)} - build the dataset again with: "
            "kollm data build."
        )
    for field in SCHEMA:
        if field.name in schema.names and not _fits(schema.field(field.name).type, field.type):
            raise InputError(
                f"'{where}': the column {field.name} is {schema.field(field.name).type}, not {field.type} - build the dataset "
                "again with: kollm data build."
            )


def check_batch(batch: pa.RecordBatch, where: object) -> None:
    """Refuse rows that are no Records': nulls where text must be, turns that are no pairs.

    Raises:
        InputError: there is one.
    """
    for name in ("id", "source", "instruction", "input", "output", "lang", "licence", "provenance"):
        if batch.column(name).null_count:
            raise InputError(
                f"'{where}': the column {name} holds nulls - build the dataset again with: kollm data build."
            )
    histories = [batch.column("history"), *(_field(batch.column("original"), "history"))]
    for history in histories:
        turns = pc.list_flatten(history)
        if turns.null_count or pc.any(pc.not_equal(pc.list_value_length(turns), 2)).as_py():
            raise InputError(
                f"'{where}': a turn of a history is no pair - build the dataset again with: kollm data build."
            )


def _field(column: pa.Array, name: str) -> list[pa.Array]:
    return [column.field(name)] if name in {field.name for field in column.type} else []


def _fits(there: pa.DataType, wanted: pa.DataType) -> bool:
    if pa.types.is_struct(wanted):
        names = {field.name for field in wanted}
        return pa.types.is_struct(there) and all(
            field.name in names and _fits(field.type, wanted.field(field.name).type) for field in there
        )
    if pa.types.is_list(wanted):
        is_list = pa.types.is_list(there) or pa.types.is_large_list(there)
        return is_list and _fits(there.value_type, wanted.value_type)
    if pa.types.is_string(wanted):
        return bool(pa.types.is_string(there) or pa.types.is_large_string(there))
    return bool(pa.types.is_integer(there))


def to_records(table: pa.Table | pa.RecordBatch) -> list[Record]:
    """The inverse of `to_table`; a column `reason` is left out, and what older folders lack is empty."""
    columns = {name: table.column(name).to_pylist() for name in SCHEMA.names if name in table.schema.names}
    columns["history"] = _turns(columns["history"])
    for name in ADDED_LATER:
        columns[name] = [text or "" for text in columns.get(name, [""] * len(table))]
    columns["original"] = [_original(value) for value in columns["original"]]
    columns["provenance"] = [Provenance(**value) for value in columns["provenance"]]
    return [Record(*values) for values in zip(*(columns[name] for name in SCHEMA.names), strict=True)]


def _table(records: Sequence[Record], reasons: Sequence[str] | None) -> pa.Table:
    columns = [
        pa.array([record.id for record in records], pa.string()),
        pa.array([record.source for record in records], pa.string()),
        *_text_columns(records),
        pa.array([record.lang for record in records], pa.string()),
        pa.array([record.licence for record in records], pa.string()),
        _original_column(records),
        _provenance_column([record.provenance for record in records]),
        pa.array([record.tools for record in records], pa.string()),
    ]
    if reasons is None:
        return pa.Table.from_arrays(columns, schema=SCHEMA)
    return pa.Table.from_arrays([*columns, pa.array(reasons, pa.string())], schema=REJECTED_SCHEMA)


def _text_columns(rows: Sequence[Record] | Sequence[Original]) -> list[pa.Array]:
    return [
        pa.array([row.instruction for row in rows], pa.string()),
        pa.array([row.input for row in rows], pa.string()),
        pa.array([row.output for row in rows], pa.string()),
        pa.array([row.history for row in rows], TURNS),
        pa.array([row.system for row in rows], pa.string()),
    ]


_EMPTY = Original("", "", "")


def _original_column(records: Sequence[Record]) -> pa.Array:
    missing = pa.array([record.original is None for record in records], pa.bool_())
    columns = _text_columns([record.original or _EMPTY for record in records])
    return pa.StructArray.from_arrays(columns, fields=list(pa.struct(_TEXTS)), mask=missing)


def _provenance_column(provenances: Sequence[Provenance]) -> pa.Array:
    columns = [pa.array([getattr(item, name) for item in provenances], kind) for name, kind in _PROVENANCE]
    return pa.StructArray.from_arrays(columns, fields=list(pa.struct(_PROVENANCE)))


def _original(value: dict[str, Any] | None) -> Original | None:
    if value is None or value["instruction"] is None:
        return None
    (history,) = _turns([value["history"]])
    return Original(value["instruction"], value["input"], value["output"], history, value.get("system") or "")


def _turns(values: Sequence[Any]) -> list[tuple[tuple[str, str], ...]]:
    return [tuple((turn[0], turn[1]) for turn in value or ()) for value in values]


def _escaped(record: Record) -> Record:
    def escape(value: Any) -> Any:
        if isinstance(value, str):
            return value.encode("utf-8", "backslashreplace").decode("utf-8")
        if isinstance(value, dict):
            return {name: escape(item) for name, item in value.items()}
        return [escape(item) for item in value] if isinstance(value, list | tuple) else value

    return Record.from_row(escape(record.to_row()))
