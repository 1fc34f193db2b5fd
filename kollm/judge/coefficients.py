"""Coefficients of agreement with intervals: Cohen's kappa with quadratic weights, and Krippendorff's alpha on ordinal scores.

Both are 1 - a ratio of disagreements. The interval is a jackknife over clusters of tasks on the logarithm of that ratio,
with Student's quantile (Efron and Tibshirani 1993, chapter 11): answers to one task, by whatever system, are judged alike
more often than chance has it, and count as one. Above BLOCKS clusters it leaves out groups of them. Alpha is taken apart
by cluster, which the package krippendorff does not do; the tests hold it against that package.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from kollm.judge.intervals import LEVEL, Floats, Interval

BLOCKS = 200
"""Most groups of clusters that are left out in turn."""
CELLS = 4_000_000
"""Most numbers that tables of coincidences hold together."""
FEWEST = 5
"""Clusters below which there is no interval."""


class Coefficient(NamedTuple):
    """A coefficient, None where it is undefined, and its interval, None where nothing varies or clusters are too few."""

    value: float | None
    ci95: Interval | None


UNDEFINED = Coefficient(None, None)


def weighted_kappa(
    first: Sequence[float], second: Sequence[float], clusters: Sequence[str] | None = None
) -> Coefficient:
    """Cohen's kappa with quadratic weights (Cohen 1968): 1 - observed / expected squared distance of the scores.

    The scores themselves are the distances, so that a fine scale needs no categories. Undefined where expected is 0.

    Args:
        first: a judge's scores.
        second: the other's scores of the same answers.
        clusters: for each answer what it shares with others; None for nothing.
    """
    if not len(first):
        return UNDEFINED
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    blocks = _blocks(clusters, len(a), BLOCKS)
    sums: Floats = np.stack(
        [np.bincount(blocks, x).astype(np.float64) for x in (np.ones_like(a), a, b, a * a, b * b, a * b)], axis=1
    )
    return _jackknife(sums, _kappa_ratios)


def _kappa_ratios(sums: Floats) -> Floats:
    """Observed / expected squared distance from sums of 1, a, b, a², b² and ab, one row each."""
    n, a, b, aa, bb, ab = (sums[..., place] for place in range(6))
    observed = (aa + bb - 2 * ab) / n
    expected = (aa + bb) / n - 2 * a * b / n**2
    return _ratio(observed, expected)


def krippendorff_alpha(judges: Sequence[Sequence[float | None]], clusters: Sequence[str] | None = None) -> Coefficient:
    """Krippendorff's alpha for ordinal scores of two or more judges (Krippendorff 2011); None values are missing ones.

    Scores are rounded to two decimals, since its table has a row and a column for every distinct score. Undefined for
    no answer scored twice, or one score throughout.

    Args:
        judges: for each judge a score of each answer.
        clusters: for each answer what it shares with others; None for nothing.
    """
    data = np.array([[np.nan if v is None else v for v in judge] for judge in judges], dtype=np.float64).round(2)
    counts = (~np.isnan(data)).sum(axis=0)
    twice = counts >= 2
    data, counts = data[:, twice], counts[twice]
    there = ~np.isnan(data)
    values, codes = np.unique(data[there], return_inverse=True)
    if len(values) < 2:
        return UNDEFINED
    coded = np.zeros(data.shape, dtype=np.intp)
    coded[there] = codes
    names = None if clusters is None else [name for name, kept in zip(clusters, twice, strict=True) if kept]
    size = len(values)
    blocks = _blocks(names, data.shape[1], max(20, min(BLOCKS, CELLS // size**2)))
    tables = np.zeros((int(blocks.max()) + 1) * size * size)
    for i in range(len(data)):
        for j in range(len(data)):
            if i != j:
                both = there[i] & there[j]
                cells = (blocks[both] * size + coded[i][both]) * size + coded[j][both]
                tables += np.bincount(cells, 1 / (counts[both] - 1), minlength=len(tables))
    return _jackknife(tables.reshape(-1, size, size), _alpha_ratios)


def _alpha_ratios(tables: Floats) -> Floats:
    """Observed / expected ordinal disagreement of tables of coincidences, the last two axes."""
    marginal = tables.sum(axis=-1)
    whole = marginal.sum(axis=-1)
    ranks = np.cumsum(marginal, axis=-1) - marginal / 2
    distances = (ranks[..., :, None] - ranks[..., None, :]) ** 2
    observed = (tables * distances).sum(axis=(-2, -1)) / whole
    pairs = marginal[..., :, None] * marginal[..., None, :]
    expected = (pairs * distances).sum(axis=(-2, -1)) / (whole * (whole - 1))
    return _ratio(observed, expected)


def _ratio(observed: Floats, expected: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected > 1e-12, observed / expected, np.nan)


def _jackknife(parts: Floats, ratios: Callable[[Floats], Floats]) -> Coefficient:
    """1 - the ratio of all parts together, and its interval from leaving out each part in turn."""
    whole = parts.sum(axis=0)
    ratio = float(ratios(whole))
    if np.isnan(ratio):
        return UNDEFINED
    units = len(parts)
    if units < FEWEST or ratio < 1e-12:
        return Coefficient(1 - ratio, None)
    left = ratios(whole - parts)
    if not (np.isfinite(left).all() and (left > 1e-12).all()):
        return Coefficient(1 - ratio, None)
    logarithms = np.log(left)
    error = float(np.sqrt((units - 1) * logarithms.var()))
    if error <= 1e-12:
        return Coefficient(1 - ratio, None)
    reach = float(np.exp(special.stdtrit(units - 1, 0.5 + LEVEL / 2) * error))
    return Coefficient(1 - ratio, Interval(1 - ratio * reach, 1 - ratio / reach))


def _blocks(clusters: Sequence[str] | None, size: int, most: int) -> NDArray[np.intp]:
    """For each answer the number of the block that it is left out with."""
    if clusters is None:
        return np.arange(size) % min(most, max(size, 1))
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in clusters], dtype=np.intp) % most
