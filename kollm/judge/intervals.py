"""Intervals of means of scores on a scale with ends: they hold what they promise near the ends, for few and for tied scores.

A score is taken apart at the median: what it stands above it, as a share of the room above, and what below. Each share is a
mean between 0 and 1 with a Jeffreys interval (Brown, Cai and DasGupta 2001) at its effective sample size, that of a share of
yes and no with the same variance (Korn and Graubard 1998); both are put together by the method of variance estimates recovery
(Zou and Donner 2008). For scores of two values this is the Jeffreys interval; for many scores amid the scale it comes to
Student's. The percentile bootstrap, which it replaces, covers 28 % where it promises 95 on 22 scores of which most are 5 of 5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]
LEVEL = 0.95


class Interval(NamedTuple):
    low: float
    high: float


def mean_interval(
    values: Sequence[float] | Floats,
    limits: tuple[float, float] | None,
    groups: NDArray[np.intp] | None = None,
    *,
    level: float = LEVEL,
) -> Interval | None:
    """Interval of the mean of scores.

    Args:
        values: finite scores, one each.
        limits: the scale's lowest and highest score; None for a scale without known ends (Student's interval then).
        groups: for each score the number of its cluster, from 0; scores of one cluster are not independent (cluster-robust
            variance, Liang and Zeger 1986). None for one each.

    Returns:
        The interval, within the limits; None for fewer than two clusters, or where an unbounded scale shows no spread.
    """
    array = np.asarray(values, dtype=np.float64)
    clusters = len(array) if groups is None else len(np.unique(groups))
    if clusters < 2:
        return None
    if limits is None:
        spread = math.sqrt(_covariance(array, array, groups))
        half = _student(clusters, level) * spread
        return Interval(float(array.mean()) - half, float(array.mean()) + half) if spread > 0 else None
    low, high = limits
    middle = float(np.clip(np.quantile(array, 0.5, method="inverted_cdf"), low, high))
    above, below = np.clip(array - middle, 0, None), np.clip(middle - array, 0, None)
    return _around(middle, (above, high - middle), (below, middle - low), groups, clusters, level)


def difference_interval(
    differences: Sequence[float] | Floats,
    limits: tuple[float, float] | None,
    groups: NDArray[np.intp] | None = None,
    *,
    level: float = LEVEL,
) -> Interval | None:
    """Interval of the mean of paired differences of scores on a scale; arguments and result as of `mean_interval`.

    A difference is taken apart at 0, into what speaks for the first and what for the second.
    """
    array = np.asarray(differences, dtype=np.float64)
    if limits is None:
        return mean_interval(array, None, groups, level=level)
    clusters = len(array) if groups is None else len(np.unique(groups))
    if clusters < 2:
        return None
    room = limits[1] - limits[0]
    parts = (np.clip(array, 0, None), room), (np.clip(-array, 0, None), room)
    return _around(0.0, *parts, groups, clusters, level)


def _around(
    middle: float,
    above: tuple[Floats, float],
    below: tuple[Floats, float],
    groups: NDArray[np.intp] | None,
    clusters: int,
    level: float,
) -> Interval:
    """middle + the mean of `above` - the mean of `below`; each comes with the most that it can be."""
    up, up_low, up_high, up_variance = _part(*above, groups, clusters, level)
    down, down_low, down_high, down_variance = _part(*below, groups, clusters, level)
    together = _covariance(above[0], below[0], groups)
    scale = math.sqrt(up_variance * down_variance)
    correlation = max(-1.0, min(1.0, together / scale)) if scale > 0 else 0.0
    value = up - down
    to_low, to_high = (up - up_low, down_high - down), (up_high - up, down - down_low)
    return Interval(
        max(middle - below[1], middle + value - _hypotenuse(*to_low, correlation)),
        min(middle + above[1], middle + value + _hypotenuse(*to_high, correlation)),
    )


def _hypotenuse(a: float, b: float, correlation: float) -> float:
    return math.sqrt(max(0.0, a * a + b * b - 2 * correlation * a * b))


def _part(
    values: Floats, room: float, groups: NDArray[np.intp] | None, clusters: int, level: float
) -> tuple[float, float, float, float]:
    """Mean of one part, its interval, and the variance of the mean."""
    mean = float(values.mean())
    if room <= 0:
        return 0.0, 0.0, 0.0, 0.0
    variance = _covariance(values, values, groups)
    share = mean / room
    low, high = _share_interval(share, variance / room**2, clusters, level)
    return mean, low * room, high * room, variance


def _share_interval(share: float, variance: float, clusters: int, level: float) -> Interval:
    """Jeffreys interval of a mean of shares: of yes and no, of as many answers as have this variance."""
    size = float(clusters)
    if variance > 0:
        size = share * (1 - share) / variance * (special.ndtri(0.5 + level / 2) / _student(clusters, level)) ** 2
    yes, no = share * size, (1 - share) * size
    tail = (1 - level) / 2
    low = 0.0 if share <= 0 else float(special.betaincinv(yes + 0.5, no + 0.5, tail))
    high = 1.0 if share >= 1 else float(special.betaincinv(yes + 0.5, no + 0.5, 1 - tail))
    return Interval(low, high)


def _covariance(a: Floats, b: Floats, groups: NDArray[np.intp] | None) -> float:
    """Covariance of two means, with clusters as the independent units."""
    size = len(a)
    centred_a, centred_b = a - a.mean(), b - b.mean()
    if groups is None:
        units = size
    else:
        centred_a, centred_b = np.bincount(groups, centred_a), np.bincount(groups, centred_b)
        units = len(np.unique(groups))
    return float(centred_a @ centred_b) / size**2 * units / (units - 1)


def _student(clusters: int, level: float) -> float:
    return float(special.stdtrit(clusters - 1, 0.5 + level / 2))
