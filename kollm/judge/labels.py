"""Scores that someone gave to answers: a judge's verdicts, or what people wrote into a table."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kollm.errors import InputError
from kollm.files import read_jsonl, require_file

Answer = tuple[str, str]
"""Task id and system."""


class Labels(NamedTuple):
    """Scores by axis and answer.

    Attributes:
        scores: axis -> answer -> mean of the scores given, or None where there was none.
        hashes: answer -> hash of the text that was scored, where the file says it.
    """

    scores: dict[str, dict[Answer, float | None]]
    hashes: dict[Answer, str]

    def without_changed(self, other: Labels) -> Labels:
        """These, less the answers whose text was another one for `other`."""
        changed = {a for a, value in self.hashes.items() if other.hashes.get(a, value) != value}
        kept = {axis: {a: v for a, v in of.items() if a not in changed} for axis, of in self.scores.items()}
        return Labels(kept, self.hashes)


def read_labels(path: Path) -> Labels:
    """Read `id`, `system` and scores of every row: verdicts.jsonl, labels.jsonl with `scores`, or a .csv with a column an axis.

    Raises:
        InputError: the file is missing, or a row lacks its id, its system or numbers for scores.
    """
    rows = _csv_rows(path) if path.suffix.lower() == ".csv" else read_jsonl(path)
    found: dict[str, dict[Answer, list[float]]] = {}
    hashes: dict[Answer, str] = {}
    for number, row in enumerate(rows, start=1):
        where = f"{path}, row {number}"
        if not isinstance(row.get("scores"), Mapping) or not all(isinstance(row.get(k), str) for k in ("id", "system")):
            raise InputError(f"{where}: needs id, system and scores - see `kollm compare --help`.")
        answer = (row["id"], row["system"])
        if "response_sha256" in row:
            hashes[answer] = row["response_sha256"]
        for axis, score in row["scores"].items():
            given = found.setdefault(axis, {}).setdefault(answer, [])
            if score is not None:
                given.append(_number(score, axis, where))
    means = {
        axis: {answer: sum(given) / len(given) if given else None for answer, given in answers.items()}
        for axis, answers in found.items()
    }
    return Labels(means, hashes)


def _csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    require_file(path, "The file")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file):
                scores = {
                    key: value.strip() or None for key, value in row.items() if key not in ("id", "system") and value
                }
                yield {"id": row.get("id"), "system": row.get("system"), "scores": scores}
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a UTF-8 .csv file ({error}) - save it as CSV UTF-8.") from error


def _number(value: Any, axis: str, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or isinstance(value, bool):
        raise InputError(f"{where}: {axis} is {value!r}, not a number - leave it empty where there is no score.")
    return number
