"""Scores that someone gave to answers: a judge's verdicts, or what people wrote into a table."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kollm.core.errors import InputError
from kollm.core.files import read_jsonl, require_file

Answer = tuple[str, str]
"""Task id and system."""


JUDGING = ("rubric", "mode", "model_requested", "rubric_sha256")
"""What two verdicts must share to be one judge's."""


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

    Of an answer that was judged, changed and judged again, the text that stands last in the file counts.

    Raises:
        InputError: the file is missing, a row lacks its id, its system or numbers for scores, or several judges gave them.
    """
    rows = list(_csv_rows(path) if path.suffix.lower() == ".csv" else read_jsonl(path))
    judgings = {tuple(str(row.get(key, "")) for key in JUDGING): None for row in rows}
    if len(judgings) > 1:
        raise InputError(
            f"{path} holds the scores of {len(judgings)} judges ({'; '.join(' '.join(j[:3]) for j in judgings)}) - give a file "
            "of one rubric, mode and judge."
        )
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get("scores"), Mapping) or not all(isinstance(row.get(k), str) for k in ("id", "system")):
            raise InputError(f"{path}, row {number}: needs id, system and scores - see `kollm compare --help`.")
    hashes = {(row["id"], row["system"]): row.get("response_sha256") for row in rows}
    found: dict[str, dict[Answer, list[float]]] = {}
    for number, row in enumerate(rows, start=1):
        answer = (row["id"], row["system"])
        if row.get("response_sha256") != hashes[answer]:
            continue
        for axis, score in row["scores"].items():
            given = found.setdefault(axis, {}).setdefault(answer, [])
            if score is not None:
                given.append(_number(score, axis, f"{path}, row {number}"))
    means = {
        axis: {answer: sum(given) / len(given) if given else None for answer, given in answers.items()}
        for axis, answers in found.items()
    }
    return Labels(means, {answer: text for answer, text in hashes.items() if text is not None})


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
