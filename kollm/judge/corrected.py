"""A judge's means corrected by a few labels of people, or of another judge: prediction-powered inference.

The mean of a judge over all answers is precise and may be biased; that of a few labels is unbiased and vague. PPI++
(Angelopoulos, Duchi and Zrnic 2023, "PPI++: Efficient Prediction-Powered Inference", section 2 and 6) takes

    theta = mean of the labels + lambda * (mean of the judge where nobody labelled - mean of the judge on the labelled)

with the lambda of the smallest variance (power tuning): the covariance of label and judge on the labelled answers / n,
divided by the sum of the variances of the judge's two means. A judge that has nothing to say gets lambda 0, and the labels
stand alone. It is unbiased whatever the judge does, as long as the labelled tasks were drawn at random.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from kollm.core.counting import counted
from kollm.core.errors import InputError
from kollm.judge.intervals import LEVEL, Floats, Interval, difference_interval, mean_interval
from kollm.judge.labels import Labels
from kollm.judge.scores import Limits, ScoreTable
from kollm.judge.stats import Groups, group_numbers, holm

_STUDENT_SQUARED = float(special.ndtri(0.5 + LEVEL / 2)) ** 2
FEWEST = 10
"""Labelled clusters below which nothing is corrected."""


class Estimated(NamedTuple):
    """A corrected mean.

    Attributes:
        value: the mean.
        ci95: its interval; None where nothing varies.
        p_value: two-sided test that it is 0, of use for differences.
        weight: lambda, from 0 (the labels alone) to 1.
    """

    value: float
    ci95: Interval | None
    p_value: float
    weight: float


@dataclass(frozen=True, slots=True)
class Corrected:
    """One axis of a system, or of one system less another.

    Attributes:
        first: the system; `second` the one that is taken from it, empty for a mean.
        judged: what the judge says, over all tasks that it scored.
        corrected: the same corrected, with its interval.
        ci95: the interval.
        labelled: what the labels alone say; `labelled_ci95` its interval.
        weight: lambda.
        n: tasks that the judge scored.
        n_labels: of them, those with a label.
        n_unjudged: labelled tasks without a score of the judge, which are left out.
        p_value: that a difference is 0; `p_holm` after Holm's correction over all differences; None for a mean.
    """

    axis: str
    first: str
    second: str
    judged: float
    corrected: float
    ci95: Interval | None
    labelled: float
    labelled_ci95: Interval | None
    weight: float
    n: int
    n_labels: int
    n_unjudged: int
    p_value: float | None = None
    p_holm: float | None = None

    def to_row(self) -> dict[str, Any]:
        return asdict(self)


def corrected_mean(
    judged: Floats, labels: Floats, limits: tuple[float, float] | None = None, groups: Groups | None = None
) -> Estimated:
    """PPI++ estimate of the mean label.

    The interval joins those of two means, of label - lambda * judge on the labelled and of lambda * judge on the others, by
    the method of variance estimates recovery: as `kollm.judge.intervals`, which each is from, it holds near the ends.

    Args:
        judged: the judge's score of each task.
        labels: the label of each task, NaN where there is none; there is one at least.
        limits: lowest and highest value that both can have; None for a scale without known ends.
        groups: for each task the number of its cluster, from 0; None for one each.
    """
    numbers: Groups = np.arange(len(judged)) if groups is None else groups
    there = ~np.isnan(labels)
    f, y, others = judged[there], labels[there], judged[~there]
    weight = _weight(f, y, judged, len(others))
    left, shared = y - weight * f, weight * others
    value = float(left.mean()) + (float(shared.mean()) if weight > 0 else 0.0)
    pull = None if limits is None else (limits[0] - weight * limits[1], limits[1] - weight * limits[0])
    ci95 = mean_interval(left, pull, _dense(numbers[there]))
    of_labels = np.where(there, (labels - weight * judged - left.mean()) / len(left), 0.0)
    of_judge = np.zeros(len(judged))
    if weight > 0:
        of_judge[~there] = (shared - shared.mean()) / len(shared)
        rest = None if limits is None else (weight * limits[0], weight * limits[1])
        together = float(np.bincount(numbers, np.nan_to_num(of_labels)) @ np.bincount(numbers, of_judge))
        other = mean_interval(shared, rest, _dense(numbers[~there]))
        ci95 = _joined(_widened(ci95, left), other, value, (left, shared), together)
    if ci95 is not None and limits is not None:
        ci95 = Interval(max(limits[0], ci95.low), min(limits[1], ci95.high))
    units, used = len(np.unique(numbers[there])), 2 if weight > 0 else 1
    summed = np.bincount(numbers, np.nan_to_num(of_labels) + of_judge)
    error = math.sqrt(float(summed @ summed) * units / (units - used)) if units > used else 0.0
    if error <= 1e-12:
        return Estimated(value, ci95, 1.0 if abs(value) <= 1e-12 else 0.0, weight)
    return Estimated(value, ci95, 2 * float(special.stdtr(units - used, -abs(value) / error)), weight)


def _widened(ci95: Interval | None, values: Floats) -> Interval | None:
    """The interval with a degree of freedom less, which lambda takes."""
    if ci95 is None or len(values) < 4:
        return ci95
    mean, size = float(values.mean()), len(values)
    student = special.stdtrit(np.array([size - 2, size - 1]), 0.5 + LEVEL / 2)
    factor = float(student[0] / student[1]) * math.sqrt((size - 1) / (size - 2))
    return Interval(mean - factor * (mean - ci95.low), mean + factor * (ci95.high - mean))


def _joined(
    first: Interval | None, second: Interval | None, value: float, parts: tuple[Floats, Floats], together: float
) -> Interval | None:
    """The interval of a sum of two means whose covariance is `together`."""
    if first is None or second is None:
        return first
    a, b = float(parts[0].mean()), float(parts[1].mean())
    below = (a - first.low) ** 2 + (b - second.low) ** 2 + 2 * _STUDENT_SQUARED * together
    above = (first.high - a) ** 2 + (second.high - b) ** 2 + 2 * _STUDENT_SQUARED * together
    return Interval(value - math.sqrt(max(below, 0.0)), value + math.sqrt(max(above, 0.0)))


def _dense(numbers: Groups) -> Groups:
    return np.unique(numbers, return_inverse=True)[1]


def _weight(f: Floats, y: Floats, judged: Floats, rest: int) -> float:
    """Lambda of the smallest variance, from 0 to 1; the judge's variance is that over all its scores."""
    spread = float(judged.var(ddof=1))
    if rest < 2 or spread <= 1e-12:
        return 0.0
    shared = float(np.cov(f, y)[0, 1])
    return float(np.clip(shared / len(f) / (spread / len(f) + spread / rest), 0.0, 1.0))


def correct_table(table: ScoreTable, labels: Labels, limits: Limits) -> list[Corrected]:
    """Every mean and every paired difference of a table, corrected; the differences' p-values by Holm together.

    Args:
        table: what the judge says.
        labels: what people, or another judge, say of some of the answers.
        limits: axis -> lowest and highest score, where known.

    Raises:
        InputError: no axis of a system has labels of ten independent tasks.
    """
    found: list[Corrected] = []
    most = 0
    for axis, systems in table.scores.items():
        given = _by_system(labels, axis)
        enough: dict[str, dict[str, float]] = {}
        for system, scores in systems.items():
            of_system = given.get(system, {})
            most = max(most, _units([t for t in of_system if scores.get(t) is not None], table))
            row = _correct(table, axis, (system, ""), (_scored(scores), of_system), limits)
            if row is not None:
                found.append(row)
                enough[system] = of_system
        for a, b in combinations(enough, 2):
            judged = _less(_scored(systems[a]), _scored(systems[b]))
            row = _correct(table, axis, (a, b), (judged, _less(enough[a], enough[b])), limits)
            if row is not None:
                found.append(row)
    if not found:
        raise InputError(
            f"The labels are on {counted(most, 'independent task')} that the judge scored, and a correction needs {FEWEST} of one "
            "system and axis - label more, drawn at random; id, system and axis must be the judge's."
        )
    corrected = iter(holm([row.p_value for row in found if row.p_value is not None]))
    return [row if row.p_value is None else replace(row, p_holm=next(corrected)) for row in found]


def _correct(
    table: ScoreTable,
    axis: str,
    systems: tuple[str, str],
    scores: tuple[dict[str, float], dict[str, float]],
    limits: Limits,
) -> Corrected | None:
    judged, labelled = scores
    both = [task for task in labelled if task in judged]
    if _units(both, table) < FEWEST:
        return None
    tasks = list(judged)
    values = np.array([judged[task] for task in tasks])
    labels = np.array([labelled.get(task, np.nan) for task in tasks])
    bounds = limits.get(axis)
    if bounds is not None and systems[1]:
        bounds = (bounds[0] - bounds[1], bounds[1] - bounds[0])
    found = corrected_mean(values, labels, bounds, group_numbers([table.clusters.get(task) or task for task in tasks]))
    alone = labels[~np.isnan(labels)]
    groups = group_numbers([table.clusters.get(task) or task for task in tasks if task in labelled])
    of_labels = (difference_interval if systems[1] else mean_interval)(alone, limits.get(axis), groups)
    return Corrected(
        axis,
        *systems,
        judged=float(values.mean()),
        corrected=found.value,
        ci95=found.ci95,
        labelled=float(alone.mean()),
        labelled_ci95=of_labels,
        weight=found.weight,
        n=len(values),
        n_labels=len(both),
        n_unjudged=len(labelled) - len(both),
        p_value=found.p_value if systems[1] else None,
    )


def _units(tasks: list[str], table: ScoreTable) -> int:
    return len({table.clusters.get(task) or task for task in tasks})


def _scored(scores: Any) -> dict[str, float]:
    return {task: score for task, score in scores.items() if score is not None}


def _less(first: dict[str, float], second: dict[str, float]) -> dict[str, float]:
    return {task: score - second[task] for task, score in first.items() if task in second}


def _by_system(labels: Labels, axis: str) -> dict[str, dict[str, float]]:
    """System -> task id -> mean label of its answers."""
    given: dict[str, dict[str, list[float]]] = {}
    for (task, system, _), score in labels.scores.get(axis, {}).items():
        if score is not None:
            given.setdefault(system, {}).setdefault(task, []).append(score)
    return {
        system: {task: sum(scores) / len(scores) for task, scores in tasks.items()} for system, tasks in given.items()
    }
