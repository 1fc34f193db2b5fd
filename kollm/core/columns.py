"""What the rows of JSONL files and dataset folders have in common: their columns, what older files lack, and values of another
kind told in one sentence."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from kollm.core.errors import InputError

Turn = tuple[str, str]
"""One earlier exchange of a conversation: what the user said, what the assistant answered."""


def plain_row(item: Any) -> dict[str, Any]:
    """The fields of a dataclass that has a history, and perhaps an original that has one, as JSON has them."""
    row = asdict(item)
    for part in (row, row.get("original")):
        if part is not None:
            part["history"] = [list(turn) for turn in part["history"]]
    return row


def with_defaults(cls: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with what older files lack.

    Raises:
        InputError: a column without a default is missing, or one is unknown.
    """
    values = {**_defaults(cls), **row}
    check_keys(cls, values)
    return values


def check_keys(cls: Any, row: Mapping[str, Any]) -> None:
    """Refuse a row whose keys are not the fields of its dataclass.

    Raises:
        InputError: a column is missing or unknown; all of them are named.
    """
    names = _columns(cls)
    if row.keys() == names:
        return
    missing, unknown = sorted(names - row.keys()), sorted(row.keys() - names)
    if missing or unknown:
        what = f"missing {', '.join(missing)}" if missing else f"unknown {', '.join(unknown)}"
        raise InputError(f"This is not a {cls.__name__} row: {what} - it needs exactly {', '.join(sorted(names))}.")


def check_text(cls: Any, values: Mapping[str, Any], columns: Sequence[str]) -> None:
    """Refuse a row in which one of these columns holds something else than text.

    Raises:
        InputError: the first such column is named, with its value.
    """
    for column in columns:
        if not isinstance(values[column], str):
            raise InputError(
                f"{cls.__name__} {short_value(values['id'])}: {column} is {short_value(values[column])} - it must be text."
            )


def check_number(where: str, name: str, value: Any) -> None:
    """Refuse what does not count.

    Args:
        where: the row, as the error names it.
        name: of the column.
        value: what it holds.

    Raises:
        InputError: it is no whole number from 0.
    """
    if type(value) is not int or value < 0:
        raise InputError(f"{where}: {name} is {short_value(value)} - it must be a whole number from 0.")


def check_shown(where: str | Path, id: str, system: str) -> None:
    """Refuse a task's id or a system's name that no table can show, such as one with a line break.

    Raises:
        InputError: one of them holds a character that cannot be printed.
    """
    for what, name in (("id", id), ("system", system)):
        if not name.isprintable():
            raise InputError(f"{where}: the {what} {name!r} cannot be shown - use letters that can be printed.")


def short_value(value: Any) -> str:
    """A value as an error shows it: on one line, printable and short."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


@functools.cache
def columns_in_order(cls: Any) -> tuple[str, ...]:
    """The names of a dataclass's fields, as they are written."""
    return tuple(item.name for item in fields(cls))


@functools.cache
def _columns(cls: Any) -> frozenset[str]:
    return frozenset(item.name for item in fields(cls))


@functools.cache
def _defaults(cls: Any) -> dict[str, Any]:
    return {item.name: item.default for item in fields(cls) if item.default is not MISSING}
