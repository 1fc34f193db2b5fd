"""The file of verdicts, verdicts.jsonl: every row checked, whoever reads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import NamedTuple

from kollm.core.columns import check_shown
from kollm.core.errors import InputError
from kollm.core.files import read_jsonl
from kollm.core.progress import track
from kollm.core.verdicts import Verdict
from kollm.judge.foreign.scales import SCALES
from kollm.judge.rubric import Rubric
from kollm.judge.rubric_file import load_rubric, rubric_names


def read_verdicts(path: Path, rubrics: Iterable[str | Path] = ()) -> list[Verdict]:
    """The verdicts of a file, which another process may be writing: a torn last line does not count.

    Args:
        path: the file.
        rubrics: files of rubrics that do not come with kollm, whose scores are checked too.

    Raises:
        InputError: the file is missing or holds something else, a name that no table can show, or a score that is no
            number, stands outside its axis, or is missing where the rubric has that axis.
    """
    known = _by_hash(rubrics)
    verdicts: list[Verdict] = []
    axes: dict[str, tuple[str, ...]] = {}
    for number, row in enumerate(track(read_jsonl(path, growing=True), f"read {path.name}"), start=1):
        where = f"{path}, row {number}"
        try:
            verdict = Verdict.from_row(row)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        check_shown(where, verdict.id, verdict.system)
        for what, name in (("rubric", verdict.rubric), ("mode", verdict.mode), ("model", verdict.model_requested)):
            if not name.isprintable():
                raise InputError(f"{where}: the {what} {name!r} cannot be shown - use letters that can be printed.")
        rubric = known.get(verdict.rubric_sha256)
        if rubric is None:
            _check_axes(where, verdict, axes.setdefault(verdict.rubric_sha256, tuple(verdict.scores)))
        else:
            _check_axes(where, verdict, [axis.key for axis in rubric.axes])
            _check_range(where, verdict, rubric)
        verdicts.append(verdict)
    return verdicts


def _by_hash(rubrics: Iterable[str | Path]) -> dict[str, Rubric]:
    loaded = [load_rubric(rubric) for rubric in (*rubric_names(), *rubrics)]
    return {rubric.sha256: rubric for rubric in (*loaded, *SCALES.values())}


def _check_axes(where: str, verdict: Verdict, axes: Sequence[str]) -> None:
    if set(verdict.scores) != set(axes):
        wrong = sorted(set(verdict.scores) ^ set(axes))
        raise InputError(
            f"{where}: the scores of rubric '{verdict.rubric}' are missing or should not have {', '.join(wrong)} - each axis "
            "has a number or null."
        )


def _check_range(where: str, verdict: Verdict, rubric: Rubric) -> None:
    for axis in rubric.axes:
        score = verdict.scores[axis.key]
        if score is not None and axis.accept(score) is None:
            raise InputError(
                f"{where}: {axis.key} of {verdict.id} is {score:g}, and the axis goes from {axis.low} to {axis.high} - give a "
                "score on it, or null."
            )


class Current(NamedTuple):
    """The verdicts that count, and how many were left out because their answer was replaced since."""

    verdicts: list[Verdict]
    outdated: int


def current(verdicts: Iterable[Verdict], answers: Mapping[tuple[str, str], Set[str]] | None = None) -> Current:
    """The verdicts on the answers as they are now, each once.

    Args:
        verdicts: in the order in which they were given.
        answers: (system, task id) -> hashes of its answers; verdicts on others are outdated. None where nobody knows: then
            the text that was judged last counts of those with one system, task and number of the answer.
    """
    found = list(verdicts)
    last = {(v.system, v.id, v.answer): v.response_sha256 for v in found}
    latest: dict[tuple[object, ...], Verdict] = {}
    outdated = 0
    for verdict in found:
        there = None if answers is None else answers.get((verdict.system, verdict.id), frozenset())
        counts = (
            last[verdict.system, verdict.id, verdict.answer] == verdict.response_sha256
            if there is None
            else verdict.response_sha256 in there
        )
        if counts:
            latest[verdict.key()] = verdict
        else:
            outdated += 1
    return Current(list(latest.values()), outdated)
