"""One judging run: which verdicts are missing, asking for them, and keeping each as soon as it is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import fsum
from pathlib import Path
from typing import Any, Protocol

from kollm.core.columns import check_shown
from kollm.core.counting import counted
from kollm.core.errors import InputError
from kollm.core.files import JsonlAppender, ensure_folder, json_line, write_atomic
from kollm.core.generations import Generation
from kollm.core.hashing import text_sha256
from kollm.core.lock import output_lock
from kollm.core.progress import Progress, say
from kollm.core.verdicts import Status, Verdict
from kollm.judge.rubric import Rubric
from kollm.judge.rules import share_followed
from kollm.judge.verdicts import read_verdicts

RETRIED: tuple[Status, ...] = ("api_error",)
"""Statuses of verdicts that a later run asks for again: nothing was answered."""


@dataclass(frozen=True, slots=True)
class Question:
    """One answer to be judged once; `answer` is its number among those that its system gave to the task."""

    generation: Generation
    sample: int = 0
    answer: int = 0


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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of asking a judge: scores of the axes that it was asked for, the reply as it stood, and what it took."""

    scores: dict[str, float | None]
    status: Status
    model_returned: str = ""
    raw: str = ""
    usage: dict[str, Any] = field(default_factory=dict)


def verdict_of(judge: Judge, question: Question, outcome: Outcome) -> Verdict:
    """The verdict of one judge on one question; axes that rules decide are scored here."""
    answer = question.generation
    return Verdict(
        id=answer.id,
        system=answer.system,
        response_sha256=text_sha256(answer.response),
        rubric=judge.rubric.name,
        rubric_sha256=judge.rubric.sha256,
        mode=judge.mode,
        sample=question.sample,
        model_requested=judge.name,
        model_returned=outcome.model_returned,
        scores=outcome.scores | rule_scores(judge.rubric, answer),
        status=outcome.status,
        raw=outcome.raw,
        usage=outcome.usage,
        category=answer.category,
        cluster=answer.cluster,
        task_sha256=answer.task_sha256(),
        answer=question.answer,
    )


def rule_scores(rubric: Rubric, answer: Generation) -> dict[str, float | None]:
    """The axes that need no judge: the share of an axis's rules, or else of the task's own, that the answer meets."""
    return {
        axis.key: share_followed(answer.response, axis.rules or answer.rules)
        for axis in rubric.axes
        if axis.kind == "rules"
    }


class RulesJudge:
    """Scores a rubric whose axes are all rules; asks nobody."""

    mode, name, samples = "rules", "", 1

    def __init__(self, rubric: Rubric) -> None:
        if rubric.asks:
            raise InputError(f"Rubric '{rubric.name}' has axes that need a judge - use --engine openai or local.")
        self.rubric = rubric

    def run(self, questions: Sequence[Question], emit: Callable[[Verdict], None]) -> None:
        for question in questions:
            verdict = verdict_of(self, question, Outcome(self.rubric.none_scores(), "ok"))
            scored = all(score is not None for score in verdict.scores.values())
            emit(
                verdict
                if scored
                else replace(verdict, status="parse_error", usage={"error": "the task brings no rules"})
            )


@dataclass
class Written:
    """What a verdicts.jsonl holds, for several judges that write into it one after the other: it is read once."""

    verdicts: list[Verdict] = field(default_factory=list)
    stamp: tuple[int, int] | None = None

    def read(self, path: Path) -> list[Verdict]:
        """The file's verdicts: those that are known, unless somebody else changed it."""
        if self.stamp is None or self.stamp != _stamp(path):
            self.verdicts = read_verdicts(path) if path.exists() else []
        return self.verdicts

    def close(self, path: Path) -> None:
        """The verdicts are what the file holds now."""
        self.stamp = _stamp(path)


def _stamp(path: Path) -> tuple[int, int] | None:
    if not path.exists():
        return None
    about = path.stat()
    return about.st_size, about.st_mtime_ns


def judge_generations(
    generations: Iterable[Generation],
    judge: Judge,
    output: Path,
    *,
    first_sample: int = 0,
    written: Written | None = None,
) -> JudgeReport:
    """Judge every answer, appending each verdict to `output` as it comes.

    A verdict that `output` already holds is not asked for again; one that failed for want of an answer (`api_error`) is.

    Args:
        generations: answers to judge, of one system or several.
        judge: who judges, and by which rubric.
        output: the verdicts.jsonl to write or to continue.
        first_sample: number of the first sample; above those of earlier runs, so that the judge is really asked again.
        written: what the judge before wrote into the file.

    Raises:
        InputError: no answers, one under a name that a report cannot show, or a file that does not hold verdicts.
        StateError: another process judges into that file.
    """
    answers = list(generations)
    for answer in answers:
        check_shown("The answers to judge", answer.id, answer.system)
        judge.rubric.check(answer)
    if judge.rubric.asks and "tools" not in judge.rubric.shows and (count := sum(bool(a.tools) for a in answers)):
        say(
            f"{counted(count, 'answer')} had tools that the judge does not see, since the rubric '{judge.rubric.name}' does not show "
            "them - take kullm2023-fixed, or one of yours with the placeholder {tools}"
        )
    questions = {_key(judge, question): question for question in questions_on(answers, judge.samples, first_sample)}
    if not questions:
        raise InputError("There are no answers to judge - the generations are empty.")
    with output_lock(output):
        return _judge(judge, questions, output, written or Written())


def _judge(judge: Judge, questions: Mapping[Any, Question], output: Path, written: Written) -> JudgeReport:
    ensure_folder(output.parent)
    if output.exists():
        JsonlAppender(output).close()  # drops a line that a kill tore
    kept = written.read(output)
    if any(_to_ask_again(verdict, questions) for verdict in kept):
        kept[:] = [verdict for verdict in kept if not _to_ask_again(verdict, questions)]
        write_atomic(output, "".join(json_line(verdict.to_row()) for verdict in kept))
    found = {verdict.key(): verdict for verdict in kept if _answers(verdict, questions)}
    missing = [question for key, question in questions.items() if key not in found]
    reused = len(found)
    with JsonlAppender(output) as file, Progress("judge", len(missing), "answer") as progress:

        def keep(verdict: Verdict) -> None:
            file.append(verdict.to_row())
            found[verdict.key()] = verdict
            kept.append(verdict)
            progress.advance()

        if missing:
            judge.run(missing, keep)
    written.close(output)
    return _report(judge, found, reused, output)


def questions_on(answers: Iterable[Generation], samples: int, first: int = 0) -> list[Question]:
    """What a judge is asked about answers, each as often as it is sampled, from sample `first` on; equal texts of a system on
    a task are one answer."""
    texts: dict[tuple[str, str], dict[str, int]] = {}
    questions = []
    for answer in answers:
        numbers = texts.setdefault((answer.system, answer.id), {})
        if answer.response not in numbers:
            number = numbers.setdefault(answer.response, len(numbers))
            questions += [Question(answer, sample, number) for sample in range(first, first + samples)]
    return questions


def _to_ask_again(verdict: Verdict, questions: Mapping[Any, Question]) -> bool:
    """Whether a kept verdict makes way: nothing was answered, or the task has another text since."""
    return verdict.key() in questions and (verdict.status in RETRIED or not _answers(verdict, questions))


def _answers(verdict: Verdict, questions: Mapping[Any, Question]) -> bool:
    """Whether a verdict answers one of the questions: the task is the same too, as far as the verdict says."""
    question = questions.get(verdict.key())
    return question is not None and verdict.task_sha256 in ("", question.generation.task_sha256())


def _key(judge: Judge, question: Question) -> tuple[Any, ...]:
    """`Verdict.key` of the verdict that this question gets."""
    answer = question.generation
    of_judge = judge.rubric.name, judge.rubric.sha256, judge.mode
    return (answer.id, answer.system, text_sha256(answer.response), *of_judge, question.sample, judge.name)


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
        values = [score for verdict in verdicts if (score := verdict.scores.get(axis.key)) is not None]
        means[axis.key] = fsum(values) / len(values) if values else None
    return means
