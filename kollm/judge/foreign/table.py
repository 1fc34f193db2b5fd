"""Judgments in any table: JSON Lines or .csv whose columns the user names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kollm.core.errors import InputError
from kollm.core.generations import Generation
from kollm.core.hashing import text_sha256
from kollm.judge.foreign.rows import Found, Source, text_of
from kollm.judge.foreign.scales import imported, number
from kollm.judge.rubric import Axis, Rubric

COLUMNS = ("id", "system", "judge", "instruction", "response", "category", "cluster", "raw")
_AXIS = re.compile(r"(?P<key>[^=:]+)(?:=(?P<column>.+?))?:(?P<low>\d{1,3})-(?P<high>\d{1,3})")


def axis_option(text: str) -> tuple[str, tuple[str, int, int]]:
    """`KEY[=COLUMN]:LOW-HIGH` as the axis and its column and scale.

    Raises:
        InputError: it is written otherwise, or the scale is none.
    """
    match = _AXIS.fullmatch(text.strip())
    if match is None or int(match["low"]) >= int(match["high"]):
        raise InputError(f"--axis is '{text}' - write KEY=COLUMN:LOW-HIGH, e.g. quality=rating:1-10.")
    key = match["key"].strip()
    return key, ((match["column"] or key).strip(), int(match["low"]), int(match["high"]))


def column_option(text: str) -> tuple[str, str]:
    """`NAME=COLUMN` as kollm's name and the file's.

    Raises:
        InputError: it is written otherwise, or the name is none of COLUMNS.
    """
    name, sign, column = text.partition("=")
    if not sign or not column or name.strip() not in COLUMNS:
        raise InputError(f"--map is '{text}' - write NAME=COLUMN with one of {', '.join(COLUMNS)}.")
    return name.strip(), column.strip()


def read_table(source: Source) -> Iterator[Found]:
    """Rows of any table; several rows on one answer by one judge are samples.

    Raises:
        InputError: no axis is named, a column is missing, or a score stands outside its scale.
    """
    if not source.axes:
        raise InputError(f"{source.path} is in no form that kollm knows - name its scores: --axis KEY=COLUMN:LOW-HIGH.")
    scale = Rubric(
        f"table {source.stem}",
        "ko",
        tuple(Axis(key, key, low, high) for key, (_, low, high) in source.axes.items()),
        "",
        None,
        "",
        False,
    )
    samples: dict[tuple[str, str, str], int] = {}
    for place, row in source.rows():
        where = f"{source.path}, row {place + 1}"
        id, system = _cell(row, source, "id", where), source.system or _cell(row, source, "system", where)
        judge = source.judge or _optional(row, source, "judge")
        response = _optional(row, source, "response")
        sample = samples.get((id, system, judge), 0)
        samples[id, system, judge] = sample + 1
        scores: dict[str, float | None] = {}
        for key, (column, low, high) in source.axes.items():
            if column not in row:
                raise InputError(f"{where}: there is no column '{column}' - there are {', '.join(map(text_of, row))}.")
            value = row[column].strip() if isinstance(row[column], str) else row[column]
            scores[key] = number(value)
            if value not in (None, "") and (scores[key] is None or not low <= (scores[key] or 0) <= high):
                raise InputError(
                    f"{where}: {column} is {value!r}, and the scale goes from {low} to {high} - correct it, or leave it empty."
                )
        of_task = {
            "id": id,
            "system": system,
            "category": _optional(row, source, "category"),
            "cluster": _optional(row, source, "cluster"),
            "response_sha256": text_sha256(response) if response else "",
        }
        verdict = imported(scale, of_task, scores, judge, raw=_optional(row, source, "raw"), sample=sample)
        question = _optional(row, source, "instruction")
        generation = Generation(id, question, "", response, system, "", {}, "", system) if response else None
        yield Found(verdict, generation)


def _cell(row: Mapping[str, Any], source: Source, name: str, where: str) -> str:
    value = _optional(row, source, name)
    if not value:
        column = source.columns.get(name, name)
        raise InputError(f"{where}: no {name} in column '{column}' - say which column holds it: --map {name}=COLUMN.")
    return value


def _optional(row: Mapping[str, Any], source: Source, name: str) -> str:
    return text_of(row.get(source.columns.get(name, name)))
