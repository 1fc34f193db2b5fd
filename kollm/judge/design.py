"""Designing a comparison: how many tasks and samples show a difference, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import special

from kollm.core.counting import counted
from kollm.core.errors import InputError
from kollm.judge.scores import score_tables
from kollm.judge.stats import ALPHA
from kollm.judge.verdicts import current, read_verdicts

SAMPLES = (1, 2, 4)
MOST_TASKS = 1_000_000


class Observed(NamedTuple):
    """What earlier verdicts say of a design.

    Attributes:
        axis: the axis that was looked at.
        spread: standard deviation of the paired differences, the median over pairs of systems.
        noise: standard deviation of one verdict on the same answer; None where each answer was judged once.
        cost: USD a verdict; None where no verdict says.
        pairs: pairs of systems.
        tasks: tasks that they share, the median.
    """

    axis: str
    spread: float
    noise: float | None
    cost: float | None
    pairs: int
    tasks: int

    def sentence(self) -> str:
        noise = "" if self.noise is None else f", {self.noise:.3f} of verdicts on one answer"
        return (
            f"{self.axis}: paired differences have a standard deviation of {self.spread:.3f}{noise} ({counted(self.pairs, 'pair')} of "
            f"systems, {counted(self.tasks, 'task')})."
        )


class Assumed(NamedTuple):
    """What a plan takes as known: standard deviations of the paired differences and of one verdict, and USD a verdict."""

    spread: float
    noise: float | None = None
    cost: float | None = None


class PlanRow(NamedTuple):
    """A design: verdicts and cost are those of both systems."""

    samples: int
    tasks: int
    verdicts: int
    cost: float | None


def observed(path: Path, axis: str | None = None) -> Observed:
    """Spread, noise and cost of earlier verdicts: a file, or a work folder.

    Raises:
        InputError: they hold no two systems on the same tasks, or not the axis.
    """
    verdicts = current(read_verdicts(path / "verdicts.jsonl" if path.is_dir() else path)).verdicts
    tables = [t for t in score_tables((v.system, v) for v in verdicts) if len(t.systems) > 1]
    if not tables:
        raise InputError(f"'{path}' holds no two systems by the same rubric and judge - give --spread instead.")
    table = tables[0]
    chosen = axis or table.axes[-1]
    if chosen not in table.axes:
        raise InputError(f"There is no axis '{chosen}' - these verdicts have {', '.join(table.axes)}.")
    spreads, sizes = [], []
    for a, b in combinations(table.scores[chosen].values(), 2):
        both = [(a[task], b[task]) for task in a if a[task] is not None and b.get(task) is not None]
        differences = [x - y for x, y in both if x is not None and y is not None]
        if len(differences) > 1 and np.std(differences) > 0:
            spreads.append(float(np.std(differences, ddof=1)))
            sizes.append(len(differences))
    if not spreads:
        raise InputError(f"'{path}' shows no spread of differences on {chosen} - give --spread instead.")
    given: dict[tuple[str, str, str], list[float]] = {}
    for verdict in verdicts:
        if (score := verdict.scores.get(chosen)) is not None:
            given.setdefault((verdict.system, verdict.id, verdict.response_sha256), []).append(score)
    repeated = [float(np.var(scores, ddof=1)) for scores in given.values() if len(scores) > 1]
    costs = [cost for v in verdicts if isinstance(cost := v.usage.get("cost"), int | float)]
    return Observed(
        chosen,
        float(np.median(spreads)),
        math.sqrt(float(np.mean(repeated))) if repeated else None,
        float(np.mean(costs)) if costs else None,
        len(spreads),
        int(np.median(sizes)),
    )


def plan_rows(known: Assumed, difference: float, *, power: float = 0.8, comparisons: int = 1) -> Iterator[PlanRow]:
    """Designs with 1, 2 and 4 verdicts an answer.

    The variance of a difference is that between tasks and, divided by the samples, twice that of one verdict.

    Args:
        known: spread, noise and cost, as earlier verdicts show them or as they are assumed.
        difference: the true difference to see.
        power: chance to see the difference.
        comparisons: tests made together; the first of them is tested at the level divided by their number.
    """
    of_verdict, each = known.noise or 0.0, known.cost
    between = max(known.spread**2 - 2 * of_verdict**2, 0.0)
    for samples in SAMPLES if of_verdict > 0 else SAMPLES[:1]:
        sigma = math.sqrt(between + 2 * of_verdict**2 / samples)
        tasks = tasks_needed(difference, sigma, power, ALPHA / comparisons)
        verdicts = 2 * tasks * samples
        yield PlanRow(samples, tasks, verdicts, None if each is None else each * verdicts)


def tasks_needed(difference: float, sigma: float, power: float, level: float) -> int:
    """Tasks at which a two-sided paired t-test at this level finds the difference with this power.

    Raises:
        InputError: more than a million.
    """
    low, high = 2, 4
    while _power(difference, sigma, high, level) < power:
        low, high = high, 2 * high
        if high > MOST_TASKS:
            raise InputError(
                f"A difference of {difference:g} takes more than {MOST_TASKS:,} tasks - choose a larger one."
            )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _power(difference, sigma, middle, level) < power else (low, middle)
    return low if _power(difference, sigma, low, level) >= power else high


def _power(difference: float, sigma: float, tasks: int, level: float) -> float:
    if sigma <= 0:
        return 1.0
    critical = float(special.stdtrit(tasks - 1, 1 - level / 2))
    return 1.0 - float(special.nctdtr(tasks - 1, difference / sigma * math.sqrt(tasks), critical))
