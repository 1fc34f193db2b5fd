"""Ranking several systems from pairs: Bradley-Terry strengths, with ties as half a win for each side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import special

from kollm.core.errors import MissingExtraError
from kollm.judge.intervals import Interval
from kollm.judge.pairwise import PairVerdict

PRIOR = 0.5
"""A tie of this weight between each two systems that met: a system that won all would else be infinitely strong."""
RESAMPLES = 200
FEWEST = 10
"""Clusters below which nothing is tested."""
OUTCOMES = ("a", "b", "tie")


@dataclass(frozen=True, slots=True)
class Ranked:
    """One system.

    Attributes:
        strength: logarithm of its Bradley-Terry strength, 0 on average: exp(difference of two) are the odds of winning.
        ci95: percentile interval of a seeded bootstrap over clusters of tasks; None for one cluster.
        wins, ties, losses: over all its pairs; a pair whose orders disagree is a tie.
    """

    system: str
    strength: float
    ci95: Interval | None
    wins: int
    ties: int
    losses: int


class Ranking(NamedTuple):
    """Systems by strength, the strongest first.

    Attributes:
        p_equal: Wald test that all are equally strong: s' C⁻ s of the strengths s against chi-squared with one degree of freedom
            less than there are systems, where C is their covariance over the bootstrap, so that clusters count as one; None
            for fewer than ten clusters or two systems.
    """

    rows: list[Ranked]
    p_equal: float | None


def rank(verdicts: Sequence[PairVerdict], *, seed: int = 0) -> Ranking:
    """Rank systems; pairs without an outcome do not count.

    Raises:
        MissingExtraError: evalica is not installed.
    """
    decided = [v for v in verdicts if v.outcome is not None]
    if not decided:
        return Ranking([], None)
    systems = sorted({name for v in decided for name in (v.system_a, v.system_b)})
    clusters = sorted({v.cluster or v.id for v in decided})
    met = sorted({(v.system_a, v.system_b) for v in decided})
    counts = np.zeros((len(clusters), len(met), 3))
    place = {cluster: number for number, cluster in enumerate(clusters)}
    pair = {names: number for number, names in enumerate(met)}
    for v in decided:
        outcome = v.outcome if v.outcome in OUTCOMES else "tie"
        counts[place[v.cluster or v.id], pair[v.system_a, v.system_b], OUTCOMES.index(outcome)] += 1
    whole = counts.sum(axis=0)
    strengths = _strengths(systems, met, whole)
    rng, drawn = np.random.default_rng(seed), []
    if len(clusters) > 1:
        for _ in range(RESAMPLES):
            weights = np.bincount(rng.integers(0, len(clusters), len(clusters)), minlength=len(clusters))
            drawn.append(_strengths(systems, met, np.tensordot(weights, counts, axes=1)))
    ends = np.quantile(drawn, [0.025, 0.975], axis=0) if drawn else None
    ranked = [
        Ranked(
            system,
            float(strengths[number]),
            None if ends is None else Interval(float(ends[0][number]), float(ends[1][number])),
            *_record(system, met, whole),
        )
        for number, system in enumerate(systems)
    ]
    p_equal = _equal_p(strengths, np.array(drawn)) if len(clusters) >= FEWEST and len(systems) > 1 else None
    return Ranking(sorted(ranked, key=lambda row: -row.strength), p_equal)


def _equal_p(strengths: np.ndarray, drawn: np.ndarray) -> float:
    covariance = np.cov(drawn, rowvar=False)
    statistic = float(strengths @ np.linalg.pinv(covariance, rcond=1e-10) @ strengths)
    return float(special.chdtrc(len(strengths) - 1, statistic))


def _record(system: str, met: Sequence[tuple[str, str]], counts: np.ndarray) -> tuple[int, int, int]:
    wins = ties = losses = 0
    for (a, b), (a_wins, b_wins, tied) in zip(met, counts, strict=True):
        if system in (a, b):
            wins += int(a_wins if system == a else b_wins)
            losses += int(b_wins if system == a else a_wins)
            ties += int(tied)
    return wins, ties, losses


def _strengths(systems: Sequence[str], met: Sequence[tuple[str, str]], counts: np.ndarray) -> np.ndarray:
    """Logarithms of the strengths, in the order of the systems."""
    try:
        import evalica
    except ImportError as error:
        raise MissingExtraError("evalica", "judge") from error
    winners = (evalica.Winner.X, evalica.Winner.Y, evalica.Winner.Draw)
    rows = [
        (a, b, winner, weight)
        for (a, b), outcomes in zip(met, counts, strict=True)
        for winner, weight in zip(winners, (*outcomes[:2], outcomes[2] + PRIOR), strict=True)
        if weight > 0
    ]
    first, second, outcome, weight = map(list, zip(*rows, strict=True))
    result = evalica.bradley_terry(first, second, outcome, weights=weight, tolerance=1e-8, limit=10_000)
    logarithms = np.array([math.log(result.scores[system]) for system in systems])
    centred: np.ndarray = logarithms - logarithms.mean()
    return centred
