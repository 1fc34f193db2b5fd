"""Answers with what is thought of them: verdicts, pairwise verdicts or labels put beside the answers that they are on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kollm.core.counting import counted
from kollm.core.errors import InputError
from kollm.core.generations import Generation
from kollm.core.hashing import text_sha256
from kollm.core.preferences import Origin
from kollm.core.verdicts import Verdict
from kollm.dataset.pairs.choosing import Candidate, Vote, Votes
from kollm.dataset.pairs.given import Given, label_opinions
from kollm.dataset.pairs.measure import Measure
from kollm.dataset.pairs.opinion import Opinion, verdict_chances
from kollm.judge.pairwise import PairVerdict
from kollm.judge.scores import Judging, judging_of
from kollm.judge.verdicts import current

PAIRWISE = "pairwise"
"""Rubric of a judge that sees both answers."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Candidates by task, and who judged them.

    Attributes:
        tasks: the candidates of each task, in the order of the answers.
        votes: of a pairwise judge.
        origin: who preferred.
        judge: the model, or `people`.
        rubric, rubric_sha256, axis: by what; empty where nothing was scored.
        outdated: verdicts on texts that are none of the answers.
        failed: verdicts without a score, by status.
    """

    tasks: list[list[Candidate]]
    origin: Origin
    judge: str
    votes: Votes = field(default_factory=dict)
    rubric: str = ""
    rubric_sha256: str = ""
    axis: str = ""
    outdated: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)


def read_judged(given: Given, axis: str | None = None, rubric: str | None = None, judge: str | None = None) -> Judged:
    """Read answers and what is thought of them.

    Args:
        given: the files.
        axis: an axis, or a weighted sum; None for the one that stands for the whole.
        rubric: name of the rubric whose verdicts count, where the files hold several.
        judge: model whose verdicts count, likewise.

    Raises:
        InputError: a file is malformed, verdicts of several judgings are mixed, or none is on these answers.
    """
    answers = given.read_answers()
    votes, voter = _votes(given.read_pairwise(), answers, judge)
    if given.labels:
        return _labelled(answers, given.labels, axis)
    if not given.verdicts:
        if axis is not None or rubric is not None:
            raise InputError("A pairwise judge knows no rubric and no axis - leave out --axis and --rubric.")
        if not votes:
            raise InputError("None of the pairwise verdicts is on these answers - give the answers that were judged.")
        return Judged(_by_task(Candidate(answer) for answer in answers), "pairwise", voter, votes, PAIRWISE)
    return _scored(answers, given.read_verdicts(), votes, axis, _Wanted(rubric, judge))


@dataclass(frozen=True, slots=True)
class _Wanted:
    rubric: str | None
    judge: str | None

    def fits(self, judging: Judging) -> bool:
        return self.rubric in (None, judging.rubric, judging.rubric_sha256) and self.judge in (None, judging.model)


def _scored(
    answers: Sequence[Generation], verdicts: Sequence[Verdict], votes: Votes, axis: str | None, wanted: _Wanted
) -> Judged:
    judging = _one_judging(verdicts, wanted)
    hashes: dict[tuple[str, str], set[str]] = {}
    for answer in answers:
        hashes.setdefault((answer.system, answer.id), set()).add(text_sha256(answer.response))
    mine, outdated = current([v for v in verdicts if judging_of(v) == judging], hashes)
    asked = {(answer.system, answer.id): answer.task_sha256() for answer in answers}
    wrong = next((v for v in mine if v.task_sha256 not in ("", asked[v.system, v.id])), None)
    if wrong is not None:
        raise InputError(
            f"The verdict on task {wrong.id} of '{wrong.system}' judges the same answer to another question - judge these answers: "
            "kollm judge."
        )
    if not mine:
        raise InputError(
            f"None of the {counted(len(verdicts), 'verdict')} is on these answers - judge them first: kollm judge."
        )
    axes = [key for verdict in mine for key in verdict.scores]
    measure = Measure.parse(axis) if axis is not None else Measure.for_axes(axes)
    measure.require(axes)
    opinions: dict[tuple[str, str, str], Opinion] = {}
    failed: dict[str, int] = {}
    for verdict in mine:
        score = measure.score(verdict.scores)
        if score is None:
            failed[verdict.status] = failed.get(verdict.status, 0) + 1
            continue
        opinion = opinions.setdefault((verdict.id, verdict.system, verdict.response_sha256), Opinion())
        opinion.given[str(verdict.sample)] = score
        opinion.chances = verdict_chances(verdict, measure)
    candidates = (
        Candidate(answer, opinions.get((answer.id, answer.system, text_sha256(answer.response)), Opinion()))
        for answer in answers
    )
    return Judged(
        _by_task(candidates),
        "verdicts",
        _shown_model(judging.model) or judging.mode,
        votes,
        judging.rubric,
        judging.rubric_sha256,
        measure.name,
        outdated,
        dict(sorted(failed.items())),
    )


def _one_judging(verdicts: Sequence[Verdict], wanted: _Wanted) -> Judging:
    there = list(dict.fromkeys(judging_of(verdict) for verdict in verdicts))
    found = [judging for judging in there if wanted.fits(judging)]
    if len(found) == 1:
        return found[0]
    shown = "; ".join(
        f"{j.rubric} by {_shown_model(j.model) or j.mode} ({j.mode}, {j.rubric_sha256[:14]}…)" for j in found or there
    )
    if not found:
        raise InputError(f"There are no such verdicts - there is {shown or 'no verdict at all'}.")
    raise InputError(
        f"The verdicts are of {len(found)} judges or rubrics ({shown}), whose scores cannot be compared - choose one with --rubric "
        "or --judge."
    )


def _shown_model(name: str) -> str:
    """A judge's name; of a folder of this machine its last part, since a path says nothing to a reader elsewhere."""
    return Path(name).name if Path(name).is_absolute() else name


def _labelled(answers: Sequence[Generation], paths: Sequence[Path], axis: str | None) -> Judged:
    found = label_opinions(paths)
    measure = Measure.parse(axis) if axis is not None else Measure.for_axes(found)
    measure.require(found)
    numbers: dict[tuple[str, str], dict[str, int]] = {}
    candidates = []
    for answer in answers:
        known = numbers.setdefault((answer.system, answer.id), {})
        place = (answer.id, answer.system, known.setdefault(answer.response, len(known)))
        people = {who for scores in found.values() for who in scores.get(place, {})}
        scores = {
            who: measure.score({name: found[name].get(place, {}).get(who) for name in measure.weights})
            for who in sorted(people)
        }
        candidates.append(
            Candidate(answer, Opinion({who: score for who, score in scores.items() if score is not None}))
        )
    if not any(candidate.opinion.given for candidate in candidates):
        raise InputError("None of the labels is on these answers - give the answers that people compared.")
    return Judged(_by_task(candidates), "labels", "people", rubric="", axis=measure.name)


def _votes(verdicts: Sequence[PairVerdict], answers: Sequence[Generation], judge: str | None) -> tuple[Votes, str]:
    judges = list(
        dict.fromkeys((v.model_requested, v.prompt_sha256) for v in verdicts if judge in (None, v.model_requested))
    )
    if len(judges) > 1:
        raise InputError(
            f"The pairwise verdicts are of {len(judges)} judges ({'; '.join(_shown_model(name) for name, _ in judges)}) - choose one "
            "with --judge."
        )
    there = {(answer.id, text_sha256(answer.response)) for answer in answers}
    votes: dict[tuple[str, str, str], Vote] = {}
    for v in verdicts:
        a, b = v.response_sha256_a, v.response_sha256_b
        if (
            (v.model_requested, v.prompt_sha256) not in judges
            or v.outcome is None
            or not {(v.id, a), (v.id, b)} <= there
        ):
            continue
        votes[v.id, a, b] = _OUTCOMES[v.outcome]
        votes[v.id, b, a] = _TURNED[_OUTCOMES[v.outcome]]
    return votes, _shown_model(judges[0][0]) if judges else ""


_OUTCOMES: dict[str, Vote] = {"a": "first", "b": "second", "tie": "tie", "inconsistent": "orders"}
_TURNED: dict[Vote, Vote] = {"first": "second", "second": "first", "tie": "tie", "orders": "orders"}


def _by_task(candidates: Iterable[Candidate]) -> list[list[Candidate]]:
    tasks: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        tasks.setdefault(candidate.answer.id, []).append(candidate)
    return list(tasks.values())
