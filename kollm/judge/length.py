"""Differences at equal length: what is left of a difference between two systems once the length of their answers is held equal.

A regression of the paired difference of scores on a bounded measure of how much longer one answer is; its value at equal
length is the difference at equal length. The measure is the hyperbolic tangent of the logarithm of the ratio of lengths,
in units of its standard deviation, as AlpacaEval 2 bounds the length for win rates (Dubois, Galambosi, Liang and Hashimoto
2024, section 4). Unbounded, the few answers that run to the limit of tokens draw the line: they are ten to fifty times as
long, and the judge punishes them for running on, not for being long. It assumes that length is no part of quality, and
that nothing else goes with length: where a longer answer is a better one, it takes away too much. So it stands beside the
raw difference, never in its place.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from kollm.judge.intervals import LEVEL, Floats, Interval

FEWEST = 10
"""Clusters below which a regression says nothing."""
OUTSIDE = 0.025
"""Share of tasks that must lie on either side of equal length; with fewer, the line is drawn beyond what was seen."""


FLATTEST = 0.001
"""Standard deviation of the measure, which lies between -1 and 1, below which no line can be drawn through it."""


class EqualLength(NamedTuple):
    """A difference at equal length.

    Attributes:
        difference: what the regression gives for answers of equal length.
        ci95: its interval (Student's, with cluster-robust errors).
        slope: change of the difference for answers that are e times as long, at equal length.
        ratio: how many times as long the first's answers are, the geometric mean.
        extrapolated: one system's answers are hardly ever the shorter ones, so that equal length was not seen.
    """

    difference: float
    ci95: Interval
    slope: float
    ratio: float
    extrapolated: bool


def at_equal_length(
    differences: Floats, lengths: tuple[Floats, Floats], groups: NDArray[np.intp] | None = None
) -> EqualLength | None:
    """The difference of two systems at equal length of answers.

    Args:
        differences: first - second on each task.
        lengths: characters of the first's and of the second's answers on each task.
        groups: for each task the number of its cluster, from 0; None for one each.

    Returns:
        None for fewer than ten clusters, or where the measure of length hardly varies: all answers are as long as the
        other's, or all so many times as long that none tells of equal length.
    """
    ratios: Floats = np.log((lengths[0] + 1) / (lengths[1] + 1))
    numbers = np.arange(len(differences)) if groups is None else groups
    units = len(np.unique(numbers))
    scale = float(ratios.std())
    if units < FEWEST or scale < 1e-9:
        return None
    measure = np.tanh(ratios / scale)
    if measure.std() < FLATTEST:
        return None
    design = np.stack([np.ones_like(measure), measure], axis=1)
    bread = np.linalg.inv(design.T @ design)
    found = bread @ design.T @ differences
    scores = design * (differences - design @ found)[:, None]
    summed = np.stack([np.bincount(numbers, scores[:, column]) for column in (0, 1)], axis=1)
    factor = units / (units - 1) * (len(differences) - 1) / (len(differences) - 2)
    errors = bread @ (summed.T @ summed) @ bread * factor
    half = float(special.stdtrit(units - 1, 0.5 + LEVEL / 2)) * math.sqrt(max(0.0, float(errors[0, 0])))
    difference = float(found[0])
    shorter = float((ratios <= 0).mean()), float((ratios >= 0).mean())
    return EqualLength(
        difference,
        Interval(difference - half, difference + half),
        float(found[1]) / scale,
        math.exp(float(ratios.mean())),
        min(shorter) < OUTSIDE,
    )
