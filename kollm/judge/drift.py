"""Has a judge changed? A sealed set of answers with its verdicts is judged again, and the two are compared answer by answer.

A sealed set is a folder: generations.jsonl, verdicts.jsonl, and seal.json with the checksums of both, written last. Each
new judging is a round, `rounds/1.jsonl` and so on, with samples of its own, so that no stored reply stands in for a new one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from kollm.core.errors import InputError
from kollm.core.files import ensure_folder, file_sha256, json_line, read_object, write_atomic, write_json
from kollm.core.generations import Generation
from kollm.core.hashing import content_id
from kollm.core.results import read_drift_file
from kollm.core.verdicts import Verdict
from kollm.judge.intervals import Interval, difference_interval
from kollm.judge.run import questions_on
from kollm.judge.scores import Judging, Limits, judging_of
from kollm.judge.stats import ALPHA, Comparing, compare_systems, group_numbers
from kollm.judge.tasks import read_answers
from kollm.judge.verdicts import read_verdicts

SEAL = "seal.json"
RESULT = "drift.json"
PARTS = ("generations.jsonl", "verdicts.jsonl")
SEALED, NOW = "sealed", "now"
MARGIN = 0.05
"""A change up to this share of the scale counts as none."""
Conclusion = Literal["steady", "drifted", "undecided"]


class Sealed(NamedTuple):
    """A sealed set: how it was judged, and with how many samples an answer."""

    path: Path
    judging: Judging
    answers: list[Generation]
    verdicts: list[Verdict]

    @property
    def samples(self) -> int:
        return 1 + max(verdict.sample for verdict in self.verdicts)


@dataclass(frozen=True, slots=True)
class DriftRow:
    """One axis: the paired change of the judge, now - sealed.

    Attributes:
        n: answers with a score then and now.
        change: mean of now - sealed; `ci95` its interval, by cluster.
        p_holm: sign-flip test of the change, corrected by Holm over the axes.
        margin: the change that counts as none.
        conclusion: `steady` where the 90 % interval lies within the margin (two one-sided tests at 5 %); else `drifted` where
            the test rejects no change; else `undecided`: too few answers to say.
    """

    axis: str
    n: int
    change: float
    ci95: Interval | None
    p_holm: float
    margin: float
    conclusion: Conclusion

    def to_row(self) -> dict[str, Any]:
        return asdict(self)


def seal(
    answers: Mapping[tuple[str, str], Sequence[Generation]], verdicts: Sequence[Verdict], folder: Path, tasks: int
) -> Sealed:
    """Seal answers with the verdicts of one judge.

    Args:
        answers: (system, task id) -> its answers, as a work folder holds them.
        verdicts: on them; failures are left out.
        folder: where to write; must not hold a sealed set.
        tasks: the most tasks; which ones is drawn by the hash of their ids, so that any order gives the same.

    Raises:
        InputError: several judges, no scored answer, or a folder that is taken.
    """
    if (folder / SEAL).exists():
        raise InputError(f"'{folder}' holds a sealed set already, which is never changed - choose another folder.")
    judgings = list(dict.fromkeys(map(judging_of, verdicts)))
    if len(judgings) > 1:
        named = "; ".join(f"{j.rubric} {j.mode} {j.model}" for j in judgings)
        raise InputError(f"There are verdicts of {len(judgings)} judges ({named}) - seal those of one: --judge MODEL.")
    scored = [v for v in verdicts if v.status == "ok" and (v.system, v.id) in answers]
    drawn = set(sorted({v.id for v in scored}, key=lambda id: (content_id(id), id))[:tasks])
    kept: list[Verdict] = [v for v in scored if v.id in drawn]
    if not kept:
        raise InputError("No scored answer to seal - give a work folder with generations.jsonl and verdicts.jsonl.")
    judged = {(v.system, v.id) for v in kept}
    of_tasks = [answer for key, given in answers.items() if key in judged for answer in given]
    ensure_folder(folder)
    for name, rows in zip(PARTS, ([a.to_row() for a in of_tasks], [v.to_row() for v in kept]), strict=True):
        write_atomic(folder / name, "".join(map(json_line, rows)))
    counts = {"answers": len(of_tasks), "tasks": len(drawn), "verdicts": len(kept)}
    write_json(
        folder / SEAL,
        {"judging": judgings[0]._asdict(), **counts, "files": {name: file_sha256(folder / name) for name in PARTS}},
    )
    return Sealed(folder, judgings[0], of_tasks, kept)


def read_sealed(folder: Path) -> Sealed:
    """A sealed set, once its files are found unchanged.

    Raises:
        InputError: the folder holds none, or a file was changed since.
    """
    if not (folder / SEAL).is_file():
        raise InputError(f"'{folder}' holds no sealed set - make one: kollm verdicts seal FOLDER -o {folder}.")
    about = read_object(folder / SEAL)
    files, judging = about.get("files"), about.get("judging")
    if not isinstance(files, dict) or not isinstance(judging, dict) or set(judging) != set(Judging._fields):
        raise InputError(f"'{folder / SEAL}' is not what kollm writes - seal the set again.")
    for name in PARTS:
        if not (folder / name).is_file() or file_sha256(folder / name) != files.get(name):
            raise InputError(f"'{folder / name}' was changed since it was sealed - restore it, or seal a new set.")
    verdicts = read_verdicts(folder / PARTS[1])
    return Sealed(folder, Judging(**judging), list(read_answers(folder / PARTS[0])), verdicts)


def next_round(sealed: Sealed) -> tuple[int, Path]:
    """Number and file of the round to judge: the last one where it is not whole, else a new one."""
    rounds = sealed.path / "rounds"
    last = max((int(path.stem) for path in rounds.glob("*.jsonl") if path.stem.isdigit()), default=0)
    wanted = len(questions_on(sealed.answers, sealed.samples))
    whole = last and sum(v.status != "api_error" for v in read_verdicts(rounds / f"{last}.jsonl")) >= wanted
    number = last + 1 if whole or not last else last
    return number, rounds / f"{number}.jsonl"


def drift(sealed: Sequence[Verdict], now: Sequence[Verdict], limits: Limits, margin: float = MARGIN) -> list[DriftRow]:
    """How the judge changed on each axis.

    Args:
        sealed: the verdicts of then.
        now: those of a new round.
        limits: axis -> lowest and highest score; an axis without known ends takes the range of its sealed scores.
        margin: a change up to this share of the scale counts as none.
    """
    clusters = {_name(v): v.cluster or v.id for v in sealed}
    then, again = _means(sealed), _means(now)
    scores = {axis: {NOW: again.get(axis, {}), SEALED: of} for axis, of in then.items()}
    compared = compare_systems(scores, Comparing(limits=limits, clusters=clusters))
    rows = []
    for found in compared:
        values = then[found.axis]
        low, high = limits.get(found.axis) or (min(values.values()), max(values.values()))
        width = margin * (high - low)
        keys = [key for key in values if key in again[found.axis]]
        differences = np.array([again[found.axis][key] - values[key] for key in keys])
        groups = group_numbers([clusters[key] for key in keys])
        near = difference_interval(differences, (low, high), groups, level=1 - 2 * ALPHA)
        conclusion: Conclusion = "undecided"
        if near is not None and -width <= near.low and near.high <= width:
            conclusion = "steady"
        elif found.p_holm < ALPHA:
            conclusion = "drifted"
        rows.append(DriftRow(found.axis, found.n, found.difference, found.ci95, found.p_holm, width, conclusion))
    return rows


def _name(verdict: Verdict) -> str:
    return f"{verdict.id}\n{verdict.system}\n{verdict.response_sha256}"


def _means(verdicts: Sequence[Verdict]) -> dict[str, dict[str, float]]:
    """Axis -> answer -> mean over its samples."""
    given: dict[str, dict[str, list[float]]] = {}
    for verdict in verdicts:
        for axis, score in verdict.scores.items():
            if score is not None:
                given.setdefault(axis, {}).setdefault(_name(verdict), []).append(score)
    return {axis: {key: sum(s) / len(s) for key, s in answers.items()} for axis, answers in given.items()}


def write_result(path: Path, sealed: Sealed, number: int, rows: Sequence[DriftRow]) -> None:
    """What a round found, for the work folder whose systems are judged next: `kollm compare` and the report read it."""
    about = {"seal": file_sha256(sealed.path / SEAL), "judging": sealed.judging._asdict(), "round": number}
    write_json(path, {**about, "axes": [row.to_row() for row in rows]})


def read_result(path: Path) -> tuple[Judging, tuple[str, ...]]:
    """The judge of a drift.json, and the axes on which it drifted.

    Raises:
        InputError: the file is not what kollm writes.
    """
    found = read_drift_file(path)
    drifted = tuple(row["axis"] for row in found["axes"] if row["conclusion"] == "drifted")
    return Judging(**{key: found["judging"][key] for key in Judging._fields}), drifted
