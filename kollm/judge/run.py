"""One judging run: which verdicts are missing, asking for them, and keeping each as soon as it is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import fsum
from pathlib import Path
from typing import Any, Protocol

from kollm.core.errors import InputError
from kollm.core.files import JsonlAppender, ensure_folder, json_line, read_jsonl, write_atomic
from kollm.core.progress import Progress
from kollm.core.records import Generation, Status, Verdict, check_shown, text_sha256
from kollm.judge.rubric import Rubric

RETRIED: tuple[Status, ...] = ("api_error",)
"""Statuses of verdicts that a later run asks for again: nothing was answered."""


@dataclass(frozen=True, slots=True)
class Question:
    """One answer to be judged once."""

    generation: Generation
    sample: int = 0


class Judge(Protocol):
    """Who judges. `mode` and `name` (the model that is asked for) are part of a verdict's key."""

    @property
    def mode(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def samples(self) -> int: ...
    @property
    def rubric(self) -> Rubric: ...
    def run(self, questions: Sequence[Question], emit: Callable[[Verdict], None]) -> None:
        """Judge all, calling `emit` once a question; a failure is a verdict with that status."""


@dataclass(frozen=True, slots=True)
class JudgeReport:
    """What a run ended with.

    Attributes:
        verdicts: verdicts asked for, those found in the file included.
        reused: those found in the file.
        statuses: how many ended in each status.
        scores: system to axis to mean over the verdicts in which the axis was read; None where there is none.
    """

    output: str
    rubric: str
    rubric_sha256: str
    mode: str
    model: str
    verdicts: int
    reused: int
    statuses: dict[str, int]
    scores: dict[str, dict[str, float | None]]

    def to_row(self) -> dict[str, Any]:
        return asdict(self)


def verdict_of(
    judge: Judge,
    question: Question,
    model_returned: str,
    scores: dict[str, float | None],
    status: Status,
    raw: str,
    usage: dict[str, Any],
) -> Verdict:
    """The verdict of one judge on one question."""
    return Verdict(
        id=question.generation.id,
        system=question.generation.system,
        response_sha256=text_sha256(question.generation.response),
        rubric=judge.rubric.name,
        rubric_sha256=judge.rubric.sha256,
        mode=judge.mode,
        sample=question.sample,
        model_requested=judge.name,
        model_returned=model_returned,
        scores=scores,
        status=status,
        raw=raw,
        usage=usage,
    )


def judge_generations(generations: Iterable[Generation], judge: Judge, output: Path) -> JudgeReport:
    """Judge every answer, appending each verdict to `output` as it comes.

    A verdict that `output` already holds is not asked for again; one that failed for want of an answer (`api_error`) is.

    Args:
        generations: answers to judge, of one system or several.
        judge: who judges, and by which rubric.
        output: the verdicts.jsonl to write or to continue.

    Raises:
        InputError: no answers, one under a name that a report cannot show, or a file that does not hold verdicts.
    """
    answers = list(generations)
    for answer in answers:
        check_shown("The answers to judge", answer.id, answer.system)
    questions = {
        _key(judge, question): question
        for generation in answers
        for question in (Question(generation, sample) for sample in range(judge.samples))
    }
    if not questions:
        raise InputError("There are no answers to judge - the generations are empty.")
    ensure_folder(output.parent)
    kept = read_verdicts(output) if output.exists() else []
    if any(verdict.status in RETRIED and verdict.key() in questions for verdict in kept):
        kept = [v for v in kept if v.status not in RETRIED or v.key() not in questions]
        write_atomic(output, "".join(json_line(verdict.to_row()) for verdict in kept))
    found = {verdict.key(): verdict for verdict in kept if verdict.key() in questions}
    missing = [question for key, question in questions.items() if key not in found]
    reused = len(found)
    with JsonlAppender(output) as file, Progress("judge", len(missing), "answers") as progress:

        def keep(verdict: Verdict) -> None:
            file.append(verdict.to_row())
            found[verdict.key()] = verdict
            progress.advance()

        if missing:
            judge.run(missing, keep)
    return _report(judge, found, reused, output)


def read_verdicts(path: Path) -> list[Verdict]:
    """The verdicts of a file; a torn last line, left by a kill, does not count.

    Raises:
        InputError: the file is missing or holds something else.
    """
    with JsonlAppender(path):
        pass  # drops a torn last line
    return [Verdict.from_row(row) for row in read_jsonl(path)]


def _key(judge: Judge, question: Question) -> tuple[Any, ...]:
    return verdict_of(judge, question, "", {}, "ok", "", {}).key()


def _report(judge: Judge, found: Mapping[Any, Verdict], reused: int, output: Path) -> JudgeReport:
    by_system: dict[str, list[Verdict]] = {}
    for verdict in found.values():
        by_system.setdefault(verdict.system, []).append(verdict)
    return JudgeReport(
        output=str(output),
        rubric=judge.rubric.name,
        rubric_sha256=judge.rubric.sha256,
        mode=judge.mode,
        model=judge.name,
        verdicts=len(found),
        reused=reused,
        statuses=dict(sorted(Counter(verdict.status for verdict in found.values()).items())),
        scores={system: mean_scores(verdicts, judge.rubric) for system, verdicts in sorted(by_system.items())},
    )


def mean_scores(verdicts: Sequence[Verdict], rubric: Rubric) -> dict[str, float | None]:
    """Mean of each axis over the verdicts in which it was read; None where there is none."""
    means: dict[str, float | None] = {}
    for axis in rubric.axes:
        values = [score for verdict in verdicts if (score := verdict.scores[axis.key]) is not None]
        means[axis.key] = fsum(values) / len(values) if values else None
    return means
