"""Differences at equal length: what is left of a difference between two systems once the length of their answers is held equal.

A regression of the paired difference of scores on the logarithm of the ratio of lengths; its value at ratio 1 is the difference
at equal length (as Dubois et al. 2024 hold the length for win rates). It assumes that a difference changes linearly with that
logarithm, that length is no part of quality, and that nothing else goes with length: where a longer answer is a better one, it
takes away too much. So it stands beside the raw difference, never in its place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from kollm.judge.intervals import LEVEL, Floats, Interval
from kollm.judge.stats import group_numbers

FEWEST = 10
"""Clusters below which a regression says nothing."""


class EqualLength(NamedTuple):
    """A difference at equal length.

    Attributes:
        difference: what the regression gives for answers of equal length.
        ci95: its interval (Student's, with cluster-robust errors).
        slope: change of the difference for answers that are e times as long.
        ratio: how many times as long the first's answers are, the geometric mean.
    """

    difference: float
    ci95: Interval
    slope: float
    ratio: float


def at_equal_length(
    differences: Sequence[float], lengths: Sequence[tuple[int, int]], clusters: Sequence[str]
) -> EqualLength | None:
    """The difference of two systems at equal length of answers.

    Args:
        differences: first - second on each task.
        lengths: characters of the two answers on each task.
        clusters: for each task what it shares with others.

    Returns:
        None for fewer than ten clusters, or where the ratio of lengths does not vary.
    """
    values: Floats = np.asarray(differences, dtype=np.float64)
    ratios: Floats = np.array([math.log((a + 1) / (b + 1)) for a, b in lengths])
    groups = group_numbers(list(clusters))
    numbers = np.arange(len(values)) if groups is None else groups
    units = len(np.unique(numbers))
    if units < FEWEST or ratios.std() < 1e-9:
        return None
    design = np.stack([np.ones_like(ratios), ratios], axis=1)
    bread = np.linalg.inv(design.T @ design)
    found = bread @ design.T @ values
    scores = design * (values - design @ found)[:, None]
    summed = np.stack([np.bincount(numbers, scores[:, column]) for column in (0, 1)], axis=1)
    factor = units / (units - 1) * (len(values) - 1) / (len(values) - 2)
    errors = bread @ (summed.T @ summed) @ bread * factor
    half = float(special.stdtrit(units - 1, 0.5 + LEVEL / 2)) * math.sqrt(max(0.0, float(errors[0, 0])))
    difference = float(found[0])
    return EqualLength(
        difference, Interval(difference - half, difference + half), float(found[1]), math.exp(float(ratios.mean()))
    )
