"""What the metric does: lists of texts in, means with intervals and every verdict out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from kollm.core.errors import InputError
from kollm.core.generations import Generation
from kollm.core.verdicts import Verdict
from kollm.judge.rubric import Rubric
from kollm.judge.run import Judge, Outcome, Question, verdict_of
from kollm.judge.scores import parse_rate
from kollm.judge.stats import estimate

SYSTEM = "predictions"
"""Name of the judged system in the metric's verdicts."""


def check_columns(columns: dict[str, Sequence[Any] | None]) -> dict[str, list[Any]]:
    """The columns as lists of one length.

    Raises:
        InputError: a column is missing or not a list, or the lengths differ, or there are no rows.
    """
    lists: dict[str, list[Any]] = {}
    for name, column in columns.items():
        if column is None:
            raise InputError(f"kollm_judge needs {name} - give a list of texts, one for each prediction.")
        if isinstance(column, str) or not isinstance(column, Iterable):
            raise InputError(f"{name} is a {type(column).__name__} - give a list of texts.")
        lists[name] = list(column)
    lengths = {name: len(column) for name, column in lists.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} {count}" for name, count in lengths.items())
        raise InputError(f"The lists differ in length ({counts}) - give one value of each for every prediction.")
    if not any(lengths.values()):
        raise InputError("There is nothing to judge: the lists are empty - give at least one prediction.")
    return lists


def packed(column: Sequence[Any]) -> list[str]:
    """Values as ASCII JSON, which passes unchanged through evaluate's Arrow cache: None and lone surrogates too."""
    return [json.dumps(value if value is None or isinstance(value, str) else str(value)) for value in column]


def unpacked(column: Iterable[str]) -> list[str | None]:
    """The inverse of `packed`."""
    return [json.loads(value) for value in column]


def judge_columns(
    judge: Judge,
    predictions: Sequence[str | None],
    instructions: Sequence[str | None],
    inputs: Sequence[str | None],
) -> list[Verdict]:
    """One verdict a row and sample, in the order of the rows; a row without a prediction or an instruction is not asked."""
    answers = [
        Generation(f"row-{index}", instruction or "", input or "", prediction or "", "", "", {}, "", SYSTEM)
        for index, (prediction, instruction, input) in enumerate(zip(predictions, instructions, inputs, strict=True))
    ]
    verdicts: dict[tuple[str, int], Verdict] = {}
    questions = []
    for answer, prediction, instruction in zip(answers, predictions, instructions, strict=True):
        for question in (Question(answer, sample) for sample in range(judge.samples)):
            if prediction is None or instruction is None:
                missing = "prediction" if prediction is None else "instruction"
                usage = {"error": f"the {missing} is None: nothing was asked"}
                scores = judge.rubric.none_scores()
                verdicts[answer.id, question.sample] = verdict_of(
                    judge, question, Outcome(scores, "parse_error", usage=usage)
                )
            else:
                questions.append(question)

    def keep(verdict: Verdict) -> None:
        verdicts[verdict.id, verdict.sample] = verdict

    if questions:
        judge.run(questions, keep)
    return [verdicts[answer.id, sample] for answer in answers for sample in range(judge.samples)]


def summary(verdicts: Sequence[Verdict], judge: Judge) -> dict[str, Any]:
    """The metric's result.

    Returns:
        For every axis the mean over the verdicts in which it was read (None for none); `ci95`, their intervals;
        `bounds`, the means if it had been the lowest and the highest score in the others; `n_scored`, verdicts in which
        every axis was read; statuses, parse rate (ok of ok and parse_error, rows that were not asked left out; None for
        no reply), what was asked of whom, the cost in USD, and every verdict.
    """
    rubric: Rubric = judge.rubric
    estimates = {
        axis.key: estimate([verdict.scores[axis.key] for verdict in verdicts], (axis.low, axis.high))
        for axis in rubric.axes
    }
    scored = sum(verdict.status == "ok" for verdict in verdicts)
    asked: Counter[str] = Counter(verdict.status for verdict in verdicts if "error" not in verdict.usage)
    return {
        **{key: estimate.mean for key, estimate in estimates.items()},
        "ci95": {key: list(estimate.ci95) if estimate.ci95 else None for key, estimate in estimates.items()},
        "bounds": {key: list(estimate.bounds) if estimate.bounds else None for key, estimate in estimates.items()},
        "n": len(verdicts),
        "n_scored": scored,
        "n_failed": len(verdicts) - scored,
        "parse_rate": parse_rate(asked),
        "statuses": dict(sorted(Counter(verdict.status for verdict in verdicts).items())),
        "rubric": rubric.name,
        "rubric_sha256": rubric.sha256,
        "mode": judge.mode,
        "model_requested": judge.name,
        "models_returned": sorted({verdict.model_returned for verdict in verdicts} - {""}),
        "cost": round(sum(float(verdict.usage.get("cost") or 0) for verdict in verdicts), 8),
        "verdicts": [verdict.to_row() for verdict in verdicts],
    }
