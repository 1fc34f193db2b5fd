"""How sure a mean is and whether two systems differ: seeded bootstrap, worst-case bounds, paired tests, Holm's correction.

Everything is deterministic for a seed. A score is a number, or None where the judge gave none; None is never a number here:
means are over what was scored, and `worst_case_bounds` says how far the unscored could move them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Scores = Mapping[str, float | None]
"""Task id to score."""

RESAMPLES = 10_000
LEVEL = 0.95
ALPHA = 1 - LEVEL
FEW_VALUES = 64
CHUNK = 4_000_000
"""Random draws held in memory at once (32 MB)."""
DRAWS = 50_000_000
"""Random draws spent on one interval or test; beyond 5,000 distinct values the number of resamples gives way to it."""
FEWEST_RESAMPLES = 1_000
FLIPS_EACH = 100
"""Permutations for each comparison of a family: the smallest p, 1 / (1 + flips), stays below 0.01 after Holm's correction."""


class Interval(NamedTuple):
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """One axis of one system.

    Attributes:
        mean: over the scored answers; None where none was scored.
        ci95: bootstrap percentile interval of the mean; None for fewer than two scored answers.
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
        ci95: paired bootstrap percentile interval of the difference.
        bounds: difference of the means over all common tasks if every unscored answer spoke against first, and for it.
        p_value: two-sided sign-flip permutation test of the mean difference.
        p_holm: the same after Holm's correction over the family of comparisons made together.
        effect: Cohen's d_z, difference / standard deviation of the differences; None where these do not vary.
        wins, ties, losses: pairs where first scored higher, the same, lower.
        n: pairs.
        n_dropped: common tasks left out because one of the two answers has no score.
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

    @property
    def distinguishable(self) -> bool:
        """Whether the corrected test rejects equality at the 5 % level."""
        return self.p_holm < ALPHA

    def to_row(self) -> dict[str, Any]:
        """A plain dict, with the verdict under `distinguishable`."""
        return {**asdict(self), "distinguishable": self.distinguishable}


def bootstrap_interval(
    values: Sequence[float] | Floats, *, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL
) -> Interval | None:
    """Percentile bootstrap interval of the mean (Efron and Tibshirani 1993, ch. 13); None for fewer than two values.

    Raises:
        ValueError: a value is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError("bootstrap_interval takes finite numbers; leave unscored answers out")
    if len(array) < 2:
        return None
    means = _resampled_means(array, resamples, np.random.default_rng(seed))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def _resampled_means(values: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Means of samples drawn with replacement. Few distinct values (a rubric's scores) are drawn by their counts,
    which is the same distribution at a cost that does not grow with the number of answers."""
    size = len(values)
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= FEW_VALUES:
        drawn = rng.multinomial(size, counts / size, size=resamples)
        return np.asarray(drawn @ distinct / size, dtype=np.float64)
    resamples = _affordable(resamples, size)
    means = np.empty(resamples)
    step = max(1, CHUNK // size)
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        means[start:stop] = values[rng.integers(0, size, (stop - start, size))].mean(axis=1)
    return means


def _affordable(resamples: int, draws_each: int) -> int:
    return max(FEWEST_RESAMPLES, min(resamples, DRAWS // draws_each))


def worst_case_bounds(values: Sequence[float | None] | Floats, low: float, high: float) -> Interval | None:
    """The mean if every missing score (None or NaN) had been the lowest, and the highest (Manski's bounds); None for no values."""
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        return None
    total, missing = float(np.nansum(array)), int(np.isnan(array).sum())
    return Interval((total + missing * low) / len(array), (total + missing * high) / len(array))


def estimate(values: Sequence[float | None], limits: tuple[float, float] | None = None, *, seed: int = 0) -> Estimate:
    """Mean, interval and bounds of one axis.

    Args:
        values: one score an answer, None where there is none.
        limits: the axis' lowest and highest score, where known.
        seed: of the bootstrap.
    """
    scored = [v for v in values if v is not None]
    return Estimate(
        mean=float(np.mean(scored)) if scored else None,
        ci95=bootstrap_interval(scored, seed=seed),
        bounds=worst_case_bounds(values, *limits) if limits else None,
        n=len(values),
        n_scored=len(scored),
    )


def permutation_test(differences: Sequence[float] | Floats, *, seed: int = 0, resamples: int = RESAMPLES) -> float:
    """Two-sided p-value that the paired differences have mean 0, by flipping their signs at random.

    p = (1 + flips at least as far from 0 as what was seen) / (1 + flips), never 0 (Phipson and Smyth 2010). Differences
    of one size are flipped together by a binomial draw, which is the same distribution.
    """
    array = np.asarray(differences, dtype=np.float64)
    sizes, counts = np.unique(np.abs(array[array != 0]), return_counts=True)
    if not len(sizes):
        return 1.0
    rng = np.random.default_rng(seed)
    resamples = _affordable(resamples, len(sizes))
    sums = np.zeros(resamples)
    for size, count in zip(sizes, counts, strict=True):
        sums += size * (2.0 * rng.binomial(count, 0.5, resamples) - count)
    seen = abs(array.sum())
    return float((1 + np.sum(np.abs(sums) >= seen * (1 - 1e-12))) / (1 + resamples))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for being many (Holm 1979), in the order given: step-down, monotone, at most 1."""
    corrected = [1.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def compare_pair(
    axis: str,
    first: tuple[str, Scores],
    second: tuple[str, Scores],
    limits: tuple[float, float] | None = None,
    *,
    seed: int = 0,
    flips: int = RESAMPLES,
) -> Comparison | None:
    """Compare two named systems on the tasks that both answered; None where no task has a score from both.

    `p_holm` equals `p_value` here: this is a family of one.
    """
    common = [task for task in first[1] if task in second[1]]
    a, b = (np.array([scores[task] for task in common], dtype=np.float64) for _, scores in (first, second))
    differences = (a - b)[~np.isnan(a - b)]
    if not len(differences):
        return None
    spread = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    p_value = permutation_test(differences, seed=seed, resamples=flips)
    return Comparison(
        axis=axis,
        first=first[0],
        second=second[0],
        difference=float(differences.mean()),
        ci95=bootstrap_interval(differences, seed=seed),
        bounds=_difference_bounds(a, b, limits),
        p_value=p_value,
        p_holm=p_value,
        effect=float(differences.mean()) / spread if spread > 0 else None,
        wins=int((differences > 0).sum()),
        ties=int((differences == 0).sum()),
        losses=int((differences < 0).sum()),
        n=len(differences),
        n_dropped=len(common) - len(differences),
    )


def _difference_bounds(a: Floats, b: Floats, limits: tuple[float, float] | None) -> Interval | None:
    if limits is None:
        return None
    first, second = worst_case_bounds(a, *limits), worst_case_bounds(b, *limits)
    return Interval(first.low - second.high, first.high - second.low) if first and second else None


def compare_systems(
    scores: Mapping[str, Mapping[str, Scores]],
    limits: Mapping[str, tuple[float, float]] | None = None,
    *,
    seed: int = 0,
) -> list[Comparison]:
    """Every pair of systems on every axis, corrected together by Holm.

    Args:
        scores: axis -> system -> task id -> score.
        limits: axis -> lowest and highest score, where known.
        seed: of bootstrap and permutations.
    """
    pairs = [(axis, *pair) for axis, systems in scores.items() for pair in combinations(systems.items(), 2)]
    flips = max(RESAMPLES, FLIPS_EACH * len(pairs))
    found = [
        comparison
        for axis, first, second in pairs
        if (comparison := compare_pair(axis, first, second, (limits or {}).get(axis), seed=seed, flips=flips))
    ]
    corrected = holm([comparison.p_value for comparison in found])
    return [replace(comparison, p_holm=p) for comparison, p in zip(found, corrected, strict=True)]


def length_correlation(pairs: Sequence[tuple[int, float]]) -> float | None:
    """Spearman's rank correlation of answer length and score; None where either does not vary.

    A judge that pays for length shows it here.
    """
    if len(pairs) < 3:
        return None
    return rank_correlation([float(length) for length, _ in pairs], [score for _, score in pairs])


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
