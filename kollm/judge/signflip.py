"""The sign-flip test of paired differences, exact or nearly so, without random draws: its p has no floor.

Under the hypothesis that two systems are alike, each difference could as well have had the other sign (Fisher 1935). Where
differences lie on a grid, as differences of whole scores do, the distribution of their sum is computed whole; few are flipped
in all ways; otherwise the tail comes from a saddlepoint approximation (Lugannani and Rice 1980; Robinson 1982).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]
DENOMINATORS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30, 60, 100)
"""Grids that are tried: means of so many samples of whole scores lie on one."""
LARGEST_SUM = 1 << 20
"""Steps of the grid up to which the whole distribution is computed."""
ALL_WAYS = 14
"""Differences up to which all sign changes are tried."""
SMALLEST_BY_FFT = 1e-9
"""Below this the Fourier transform's rounding shows, and the distribution is summed term by term."""


def sign_flip_p(differences: Sequence[float] | Floats) -> float:
    """Two-sided p-value that paired differences have mean 0: the share of sign changes whose sum is as far from 0."""
    array = np.abs(np.asarray(differences, dtype=np.float64))
    seen = abs(float(np.sum(differences)))
    array = array[array > 1e-12]
    total = float(array.sum())
    if not len(array) or seen <= 1e-12:
        return 1.0
    if seen >= total * (1 - 1e-12):
        return 2.0 ** (1 - len(array)) if len(array) < 1000 else math.exp((1 - len(array)) * math.log(2))
    steps = _on_grid(array)
    if steps is not None and int(steps.sum()) <= LARGEST_SUM:
        return _on_grid_p(steps, round(seen * float(steps.sum()) / total))
    if len(array) <= ALL_WAYS:
        return _all_ways(array, seen)
    return _saddlepoint(array, seen)


def _on_grid(array: Floats) -> NDArray[np.int64] | None:
    for denominator in DENOMINATORS:
        scaled = array * denominator
        rounded = np.round(scaled)
        if np.abs(scaled - rounded).max() < 1e-6 * denominator:
            steps = rounded.astype(np.int64)
            whole: NDArray[np.int64] = steps // np.gcd.reduce(steps)
            return whole
    return None


def _on_grid_p(steps: NDArray[np.int64], seen: int) -> float:
    sizes, counts = np.unique(steps, return_counts=True)
    reach = int(steps.sum())
    angles = 2 * np.pi * np.arange(reach + 1) / (2 * reach + 1)
    characteristic = np.ones(reach + 1)
    for size, count in zip(sizes, counts, strict=True):
        characteristic *= np.cos(size * angles) ** count
    chances = np.fft.irfft(characteristic, 2 * reach + 1)[: reach + 1]
    p = 2 * float(chances[seen:].sum())
    if p < SMALLEST_BY_FFT:
        p = 2 * float(_term_by_term(sizes, counts)[reach + seen :].sum())
    return min(1.0, p)


def _term_by_term(sizes: NDArray[np.int64], counts: NDArray[np.intp]) -> Floats:
    """The distribution of the sum from -reach to reach; sums of positive terms keep small chances exact."""
    chances = np.ones(1)
    for size, count in zip(sizes, counts, strict=True):
        heads = np.arange(count + 1)
        logarithms = special.gammaln(count + 1) - special.gammaln(heads + 1) - special.gammaln(count - heads + 1)
        binomial = np.exp(logarithms - count * math.log(2))
        wider = np.zeros(len(chances) + 2 * size * count)
        for head, chance in enumerate(binomial):
            wider[2 * size * head : 2 * size * head + len(chances)] += chance * chances
        chances = wider
    return chances


def _all_ways(array: Floats, seen: float) -> float:
    sums = np.zeros(1)
    for value in array:
        sums = np.concatenate([sums + value, sums - value])
    return float(np.mean(np.abs(sums) >= seen * (1 - 1e-12)))


def _saddlepoint(array: Floats, seen: float) -> float:
    """2 P(sum >= seen), where the cumulant function of the sum of flipped values is the sum of log cosh(t d)."""
    low, high = 0.0, 1.0 / float(array.mean())
    while float(array @ np.tanh(high * array)) < seen and high < 1e9:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if float(array @ np.tanh(middle * array)) < seen else (low, middle)
        if high - low <= 1e-14 * high:
            break
    point = (low + high) / 2
    scaled = point * array
    cumulant = float(np.sum(np.logaddexp(scaled, -scaled) - math.log(2)))
    curvature = float(np.sum((array / np.cosh(np.minimum(scaled, 300))) ** 2))
    root = math.sqrt(max(0.0, 2 * (point * seen - cumulant)))
    slope = point * math.sqrt(curvature)
    if root < 1e-4 or slope <= 0:
        return min(1.0, 2 * float(special.ndtr(-seen / math.sqrt(float(array @ array)))))
    density = math.exp(-root * root / 2) / math.sqrt(2 * math.pi)
    tail = float(special.ndtr(-root)) + density * (1 / slope - 1 / root)
    return float(min(1.0, max(0.0, 2 * tail)))
