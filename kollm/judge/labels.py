"""Scores that someone gave to answers: a judge's verdicts, or what people wrote into a table."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kollm.core.columns import check_shown
from kollm.core.errors import InputError
from kollm.core.files import read_jsonl, require_file
from kollm.core.text import normalise, normalise_values

Answer = tuple[str, str, int]
"""Task id, system, and number of the answer."""
Limits = Mapping[str, tuple[float, float]]
JUDGING = ("rubric", "mode", "model_requested", "rubric_sha256")
"""What two verdicts must share to be one judge's."""
RATER_COLUMNS = ("rater", "annotator", "평가자")
KEYS = ("id", "system", "answer", "response_sha256")
ENCODINGS = ("utf-8-sig", "cp949")
"""In which tables are read: Korean Excel saves CSV as CP949."""


@dataclass(slots=True)
class Labels:
    """Scores by axis and answer.

    Attributes:
        scores: axis -> answer -> mean of the scores given, or None where there was none.
        hashes: answer -> hash of the text that was scored, where the file says it.
        raters: axis -> rater -> answer -> score, where the file names raters.
        judging: rubric and its hash, where the scores are a judge's.
        clusters: task id -> its cluster, where it shares one and the file says so.
        unused: columns that hold no scores.
        encoding: in which a table was read.
    """

    scores: dict[str, dict[Answer, float | None]]
    hashes: dict[Answer, str] = field(default_factory=dict)
    raters: dict[str, dict[str, dict[Answer, float | None]]] = field(default_factory=dict)
    judging: tuple[str, str] = ("", "")
    clusters: dict[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    encoding: str = "utf-8"

    def without_changed(self, other: Labels) -> Labels:
        """These, less the answers whose text was another one for `other`.

        Raises:
            InputError: these score several answers of a system to a task, and the others do not say which.
        """
        several = {(id, system) for of in self.scores.values() for id, system, number in of if number}
        told = {(id, system) for of in other.scores.values() for id, system, number in of if number}
        if several and not told and not other.hashes:
            id, system = min(several)
            raise InputError(
                f"'{system}' has several judged answers to task {id}, and the labels do not say which - add a column `answer` "
                "with the number of the answer, from 0."
            )
        changed = {a for a, value in self.hashes.items() if other.hashes.get(a, value) != value}
        kept = {axis: {a: v for a, v in of.items() if a not in changed} for axis, of in self.scores.items()}
        return replace(self, scores=kept)


def read_labels(path: Path, limits: Limits | None = None) -> Labels:
    """Read `id`, `system` and scores of every row: verdicts.jsonl, labels.jsonl with `scores`, or a .csv with a column an axis.

    Of an answer that was judged, changed and judged again, the text that stands last in the file counts. A .csv may name
    raters in a column `rater`; the mean of theirs counts.

    Args:
        path: the file.
        limits: axis -> lowest and highest score; columns of a .csv that are none of these are not read. None to take every
            column that holds numbers.

    Raises:
        InputError: the file is missing, a row lacks its id, its system or numbers for scores, a score stands outside its
            axis, or several judges gave them.
    """
    if path.suffix.lower() == ".csv":
        return _read_table(path, limits)
    rows = [normalise_values(row) for row in read_jsonl(path)]
    judgings = {tuple(str(row.get(key, "")) for key in JUDGING): None for row in rows}
    if len(judgings) > 1:
        raise InputError(
            f"{path} holds the scores of {len(judgings)} judges ({'; '.join(' '.join(j[:3]) for j in judgings)}) - give a file "
            "of one rubric, mode and judge."
        )
    for number, row in enumerate(rows, start=1):
        _check_row(row, f"{path}, row {number}")
    hashes = {_answer(row): row.get("response_sha256") for row in rows}
    found: dict[str, dict[Answer, list[float]]] = {}
    for number, row in enumerate(rows, start=1):
        answer = _answer(row)
        if row.get("response_sha256") != hashes[answer]:
            continue
        for axis, score in row["scores"].items():
            given = found.setdefault(axis, {}).setdefault(answer, [])
            if score is not None:
                given.append(_number(score, axis, f"{path}, row {number}", limits))
    (judging,) = judgings or {("", "", "", ""): None}
    texts = {answer: text for answer, text in hashes.items() if isinstance(text, str)}
    clusters = {row["id"]: row["cluster"] for row in rows if isinstance(row.get("cluster"), str) and row["cluster"]}
    return Labels(_means(found), texts, judging=(judging[0], judging[3]), clusters=clusters)


def _check_row(row: Mapping[str, Any], where: str) -> None:
    if not isinstance(row.get("scores"), Mapping) or not all(isinstance(row.get(k), str) for k in ("id", "system")):
        raise InputError(f"{where}: needs id, system and scores - see `kollm compare --help`.")
    check_shown(where, row["id"], row["system"])
    if type(row.get("answer", 0)) is not int:
        raise InputError(f"{where}: answer is {row['answer']!r} - it must be a whole number from 0.")


def _answer(row: Mapping[str, Any]) -> Answer:
    return row["id"], row["system"], row.get("answer", 0)


def _means(found: Mapping[str, Mapping[Answer, Sequence[float]]]) -> dict[str, dict[Answer, float | None]]:
    return {
        axis: {answer: sum(given) / len(given) if given else None for answer, given in answers.items()}
        for axis, answers in found.items()
    }


def _read_table(path: Path, limits: Limits | None) -> Labels:
    text, encoding = _decoded(path)
    rows = list(_table_rows(path, text))
    columns = [column for column in (rows[0] if rows else {}) if column is not None]
    rater = next((column for column in RATER_COLUMNS if column in columns), None)
    axes, unused = _axes_of(rows, [c for c in columns if c not in (*KEYS, rater)], limits)
    if any(None in row for row in rows):
        unused.append("(columns without a name)")
    found: dict[str, dict[Answer, list[float]]] = {}
    raters: dict[str, dict[str, dict[Answer, float | None]]] = {}
    for number, row in enumerate(rows, start=1):
        where = f"{path}, row {number}"
        if not row.get("id") or not row.get("system"):
            raise InputError(f"{where}: needs id, system and scores - see `kollm compare --help`.")
        check_shown(where, row["id"], row["system"])
        answer = (row["id"], row["system"], int(_number(row.get("answer") or 0, "answer", where)))
        for axis in axes:
            value = (row.get(axis) or "").strip()
            score = _number(value, axis, where, limits) if value else None
            if score is not None or rater is None:
                given = found.setdefault(axis, {}).setdefault(answer, [])
                given += [] if score is None else [score]
            if rater is not None:
                raters.setdefault(axis, {}).setdefault((row.get(rater) or "").strip(), {})[answer] = score
    return Labels(_means(found), raters=raters, unused=tuple(unused), encoding=encoding)


def _axes_of(
    rows: Sequence[Mapping[str, str]], columns: Sequence[str], limits: Limits | None
) -> tuple[list[str], list[str]]:
    """Columns that hold scores, and those that hold something else, such as a memo."""
    if limits is not None and any(column in limits for column in columns):
        axes = [column for column in columns if column in limits and any((r.get(column) or "").strip() for r in rows)]
    else:
        axes = [column for column in columns if any(_is_number(row.get(column)) for row in rows)]
        if not axes:  # then the first wrong score is told
            axes = [column for column in columns if any((row.get(column) or "").strip() for row in rows)][:1]
    return axes, [column for column in columns if column not in axes and column not in (limits or {})]


def _is_number(value: str | None) -> bool:
    try:
        return math.isfinite(float(value or ""))
    except ValueError:
        return False


def _decoded(path: Path) -> tuple[str, str]:
    require_file(path, "The file")
    data = path.read_bytes()
    for encoding in ENCODINGS:
        try:
            return data.decode(encoding), encoding.removesuffix("-sig")
        except UnicodeDecodeError:
            continue
    raise InputError(f"{path}: neither UTF-8 nor CP949 - save it as CSV UTF-8.")


def _table_rows(path: Path, text: str) -> Iterator[dict[Any, Any]]:
    try:
        for row in csv.DictReader(io.StringIO(normalise(text), newline="")):
            yield {key if key is None else key.strip(): value for key, value in row.items()}
    except csv.Error as error:
        raise InputError(f"{path}: not a .csv file ({error}) - save it as CSV UTF-8.") from error


def _number(value: Any, axis: str, where: str, limits: Limits | None = None) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or isinstance(value, bool):
        shown = repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:77]}..."
        raise InputError(f"{where}: {axis} is {shown}, not a number - leave it empty where there is no score.")
    low, high = (limits or {}).get(axis, (-math.inf, math.inf))
    if not low <= number <= high:
        raise InputError(
            f"{where}: {axis} is {number:g}, and the axis goes from {low:g} to {high:g} - correct the score."
        )
    return number
