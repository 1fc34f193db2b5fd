"""How sure a mean is and whether two systems differ: intervals, worst-case bounds, paired tests, Holm's correction, equivalence.

Nothing here is random. A score is a number, or None where the judge gave none; None is never a number here: means are over what
was scored, and `worst_case_bounds` says how far the unscored could move them. Tasks of one cluster, like the turns of a
dialogue, count as one independent unit. scipy's own intervals agree to .004 and take 3.6 to 110 times the processor time;
the tests compare with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from itertools import combinations
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from kollm.core.errors import InputError
from kollm.judge.intervals import LEVEL, Floats, Interval, difference_interval, mean_interval
from kollm.judge.length import EqualLength, at_equal_length
from kollm.judge.signflip import sign_flip_p

Scores = Mapping[str, float | None]
"""Task id to score."""
Groups = NDArray[np.intp]
Conclusion = Literal["first higher", "second higher", "unsettled", "equivalent", "not worse", "undecided"]

ALPHA = 1 - LEVEL
POWER = 0.8


@dataclass(frozen=True, slots=True)
class Estimate:
    """One axis of one system.

    Attributes:
        mean: over the scored answers; None where none was scored.
        ci95: interval of the mean (`kollm.judge.intervals`); None for fewer than two independent tasks.
        bounds: the mean if every unscored answer had earned the axis' lowest, and its highest score; None where the
            range of the axis is unknown or there is no answer.
        n: answers.
        n_scored: answers with a number on this axis.
    """

    mean: float | None
    ci95: Interval | None
    bounds: Interval | None
    n: int
    n_scored: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two systems on one axis, over the tasks where both have a score.

    Attributes:
        difference: mean of first - second over the pairs.
        ci95: interval of the difference; None for fewer than two independent tasks.
        bounds: difference of the means over all common tasks if every unscored answer spoke against first, and for it.
        p_value: two-sided sign-flip test of the mean difference, by cluster.
        p_holm: the same after Holm's correction over the family of comparisons made together.
        effect: Cohen's d_z, difference / standard deviation of the differences; None where these do not vary.
        wins, ties, losses: pairs where first scored higher, the same, lower.
        n: pairs.
        n_clusters: independent units among them.
        n_dropped: common tasks left out because one of the two answers has no score.
        n_unpaired: tasks that only one of the two was judged on.
        detectable: the difference that these tasks would have shown with 80 % power at the 5 % level, uncorrected.
        margin: the difference that counts as none, where one was given.
        p_equivalent: of the two one-sided tests (Schuirmann 1987) that the difference is within the margin.
        p_not_worse: of the one-sided test that first is worse than second by less than the margin.
        equal_length: what is left of the difference at equal length of answers, where their lengths are known.
    """

    axis: str
    first: str
    second: str
    difference: float
    ci95: Interval | None
    bounds: Interval | None
    p_value: float
    p_holm: float
    effect: float | None
    wins: int
    ties: int
    losses: int
    n: int
    n_dropped: int
    n_clusters: int = 0
    n_unpaired: int = 0
    detectable: float | None = None
    margin: float | None = None
    p_equivalent: float | None = None
    p_not_worse: float | None = None
    equal_length: EqualLength | None = None

    @property
    def conclusion(self) -> Conclusion:
        """What may be said: `unsettled` where the test rejects equality and the unscored answers could turn it round."""
        if self.p_holm < ALPHA:
            if self.n_dropped and (self.bounds is None or self.bounds.low <= 0 <= self.bounds.high):
                return "unsettled"
            return "first higher" if self.difference > 0 else "second higher"
        if self.p_equivalent is not None and self.p_equivalent < ALPHA:
            return "equivalent"
        if self.p_not_worse is not None and self.p_not_worse < ALPHA:
            return "not worse"
        return "undecided"

    @property
    def distinguishable(self) -> bool:
        """Whether one of the two may be called higher."""
        return self.conclusion in ("first higher", "second higher")

    def to_row(self) -> dict[str, Any]:
        """A plain dict, with the conclusion."""
        return {
            **asdict(self),
            "equal_length": None if self.equal_length is None else self.equal_length._asdict(),
            "conclusion": self.conclusion,
            "distinguishable": self.distinguishable,
        }


@dataclass(frozen=True, slots=True)
class Comparing:
    """How systems are compared.

    Attributes:
        limits: axis -> lowest and highest score, where known.
        clusters: task id -> cluster; a task that is not named is its own.
        baseline: compare each other system with this one alone, which corrects for fewer tests; None for every pair.
        margin: differences up to this count as none; None to leave equivalence out.
        lengths: system -> task id -> characters of its answer, where known, for the difference at equal length.
    """

    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    clusters: Mapping[str, str] = field(default_factory=dict)
    baseline: str | None = None
    margin: float | None = None
    lengths: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.margin is not None and not (self.margin > 0 and math.isfinite(self.margin)):
            raise InputError(f"The margin is {self.margin} - give a difference greater than 0.")


def worst_case_bounds(values: Sequence[float | None] | Floats, low: float, high: float) -> Interval | None:
    """The mean if every missing score (None or NaN) had been the lowest, and the highest (Manski's bounds); None for no values."""
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        return None
    total, missing = float(np.nansum(array)), int(np.isnan(array).sum())
    return Interval((total + missing * low) / len(array), (total + missing * high) / len(array))


def estimate(
    values: Sequence[float | None],
    limits: tuple[float, float] | None = None,
    clusters: Sequence[str] | None = None,
) -> Estimate:
    """Mean, interval and bounds of one axis.

    Args:
        values: one score an answer, None where there is none.
        limits: the axis' lowest and highest score, where known.
        clusters: for each answer what it shares with others; None for nothing.
    """
    array = np.array(values, dtype=np.float64)
    there = ~np.isnan(array)
    scored = array[there]
    groups = None if clusters is None else group_numbers([c for c, kept in zip(clusters, there, strict=True) if kept])
    return Estimate(
        mean=float(scored.mean()) if len(scored) else None,
        ci95=mean_interval(scored, limits, groups) if len(scored) else None,
        bounds=worst_case_bounds(array, *limits) if limits else None,
        n=len(array),
        n_scored=len(scored),
    )


def group_numbers(names: Sequence[str]) -> Groups | None:
    """Numbers from 0 for equal names; None where all differ."""
    numbers: dict[str, int] = {}
    found = np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.intp)
    return found if len(numbers) < len(names) else None


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for being many (Holm 1979), in the order given: step-down, monotone, at most 1."""
    corrected = [1.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def compare_pair(
    axis: str, first: tuple[str, Scores], second: tuple[str, Scores], how: Comparing | None = None
) -> Comparison | None:
    """Compare two named systems on the tasks that both answered; None where no task has a score from both.

    `p_holm` equals `p_value` here: this is a family of one.
    """
    found = compare_systems({axis: dict([first, second])}, how)
    return found[0] if found else None


def compare_systems(scores: Mapping[str, Mapping[str, Scores]], how: Comparing | None = None) -> list[Comparison]:
    """Every pair of systems on every axis, or each with the baseline, corrected together by Holm.

    Args:
        scores: axis -> system -> task id -> score.
        how: scales, clusters, baseline and margin.

    Raises:
        InputError: the baseline is no system.
    """
    how = how or Comparing()
    found: list[Comparison] = []
    for axis, systems in scores.items():
        names = list(systems)
        if how.baseline is not None and how.baseline not in names:
            raise InputError(f"There is no system '{how.baseline}' - these are judged: {', '.join(names)}.")
        tasks = list(dict.fromkeys(task for of_system in systems.values() for task in of_system))
        places = {task: place for place, task in enumerate(tasks)}
        groups = group_numbers([how.clusters.get(task) or task for task in tasks])
        columns = [_column(name, of_system, places, how) for name, of_system in systems.items()]
        for a, b in combinations(range(len(names)), 2):
            if how.baseline is not None:
                if how.baseline not in (names[a], names[b]):
                    continue
                if names[a] == how.baseline:
                    a, b = b, a
            comparison = _compare(axis, columns[a], columns[b], groups, how)
            if comparison is not None:
                found.append(comparison)
    corrected = holm([comparison.p_value for comparison in found])
    return [replace(comparison, p_holm=p) for comparison, p in zip(found, corrected, strict=True)]


class _Column(NamedTuple):
    """One system on one axis: by task its score, NaN for none, whether it was judged, and its length, NaN where unknown."""

    name: str
    scores: Floats
    judged: NDArray[np.bool_]
    lengths: Floats | None


def _column(name: str, scores: Scores, places: Mapping[str, int], how: Comparing) -> _Column:
    values, judged = np.full(len(places), np.nan), np.zeros(len(places), dtype=np.bool_)
    for task, score in scores.items():
        judged[places[task]] = True
        if score is not None:
            values[places[task]] = score
    known = how.lengths.get(name)
    lengths = None if known is None else np.array([known.get(task, np.nan) for task in places], dtype=np.float64)
    return _Column(name, values, judged, lengths)


def _compare(axis: str, first: _Column, second: _Column, groups: Groups | None, how: Comparing) -> Comparison | None:
    limits = how.limits.get(axis)
    common = first.judged & second.judged
    a, b = first.scores[common], second.scores[common]
    whole = a - b
    there = ~np.isnan(whole)
    differences = whole[there]
    if not len(differences):
        return None
    of_pairs = None if groups is None else np.unique(groups[common][there], return_inverse=True)[1]
    if of_pairs is not None and int(of_pairs.max()) + 1 == len(differences):
        of_pairs = None
    units: Floats = differences if of_pairs is None else np.bincount(of_pairs, differences).astype(np.float64)
    mean = float(differences.mean())
    error = standard_error(differences, of_pairs)
    spread = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    p_value = sign_flip_p(units)
    equivalent, not_worse = _within(mean, error, len(units), how.margin)
    return Comparison(
        axis=axis,
        first=first.name,
        second=second.name,
        difference=mean,
        ci95=difference_interval(differences, limits, of_pairs),
        bounds=_difference_bounds(a, b, limits),
        p_value=p_value,
        p_holm=p_value,
        effect=mean / spread if spread > 1e-12 else None,
        wins=int((differences > 0).sum()),
        ties=int((differences == 0).sum()),
        losses=int((differences < 0).sum()),
        n=len(differences),
        n_dropped=len(whole) - len(differences),
        n_clusters=len(units),
        n_unpaired=int((first.judged ^ second.judged).sum()),
        detectable=detectable_difference(error, len(units)),
        margin=how.margin,
        p_equivalent=equivalent,
        p_not_worse=not_worse,
        equal_length=_equal_length(first, second, groups),
    )


def _equal_length(first: _Column, second: _Column, groups: Groups | None) -> EqualLength | None:
    """Over the tasks where both have a score and a known length."""
    if first.lengths is None or second.lengths is None:
        return None
    whole = first.scores - second.scores
    there = ~np.isnan(whole + first.lengths + second.lengths)
    if not there.any():
        return None
    of_pairs = None if groups is None else np.unique(groups[there], return_inverse=True)[1]
    return at_equal_length(whole[there], (first.lengths[there], second.lengths[there]), of_pairs)


def standard_error(values: Floats, groups: Groups | None) -> float | None:
    """Standard error of a mean whose independent units are clusters; None for fewer than two."""
    centred = values - values.mean()
    units = centred if groups is None else np.bincount(groups, centred)
    if len(units) < 2:
        return None
    return math.sqrt(float(units @ units) * len(units) / (len(units) - 1)) / len(values)


def detectable_difference(error: float | None, units: int, power: float = POWER) -> float | None:
    """The difference that a two-sided paired t-test at the 5 % level finds with this power; None where nothing varied."""
    if error is None or error <= 1e-12:
        return None
    return error * _noncentrality(units - 1, power)


@lru_cache(maxsize=4096)
def _noncentrality(degrees: int, power: float) -> float:
    """Standard errors that a true difference must be away from 0."""
    critical = float(special.stdtrit(degrees, 1 - ALPHA / 2))
    low, high = 0.0, 100.0 + 10 * critical
    for _ in range(80):
        middle = (low + high) / 2
        reached = 1 - float(special.nctdtr(degrees, middle, critical))
        low, high = (middle, high) if reached < power else (low, middle)
    return (low + high) / 2


def _within(
    difference: float, error: float | None, units: int, margin: float | None
) -> tuple[float | None, float | None]:
    """P-values of equivalence and of non-inferiority within the margin; None where nothing varied."""
    if margin is None or error is None or error <= 1e-12:
        return None, None
    not_worse = float(special.stdtr(units - 1, -(difference + margin) / error))
    not_better = float(special.stdtr(units - 1, (difference - margin) / error))
    return max(not_worse, not_better), not_worse


def _difference_bounds(a: Floats, b: Floats, limits: tuple[float, float] | None) -> Interval | None:
    if limits is None:
        return None
    first, second = worst_case_bounds(a, *limits), worst_case_bounds(b, *limits)
    return Interval(first.low - second.high, first.high - second.low) if first and second else None


def length_correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Spearman's rank correlation of answer length and score; None where either does not vary.

    A judge that pays for length shows it here.
    """
    if len(pairs) < 3:
        return None
    return rank_correlation([length for length, _ in pairs], [score for _, score in pairs])


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rho: Pearson's correlation of the ranks, ties at their mean rank; None where either does not vary."""
    a, b = _ranks(first), _ranks(second)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else None


def _ranks(values: Sequence[float]) -> Floats:
    _, inverse, counts = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=np.float64)
