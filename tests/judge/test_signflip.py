"""Sign flips: all of them where they can be counted, and as near as can be told where not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from kollm.judge.signflip import sign_flip_p


def all_flips(differences: list[float]) -> float:
    seen = abs(sum(differences))
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    return float(np.mean([total >= seen - 1e-9 for total in sums]))


@pytest.mark.parametrize(
    "differences",
    [
        [1.0] * 5,
        [1.0, 2.0, 3.0],
        [1.0, -1.0],
        [2.0, 1.0],
        [0.5, 1.5, -0.5, 2.0, 0.0],
        [1 / 3, 2 / 3, -1 / 3, 1.0],
        [0.31, 0.77, -0.12, 1.9, 0.4],
        [1.0, 1.0, 1.0, -1.0, 2.0, 2.0, -3.0],
    ],
)
def test_all_flips_by_hand(differences: list[float]) -> None:
    assert sign_flip_p(differences) == pytest.approx(all_flips(differences))


def test_no_difference_is_p_1() -> None:
    assert sign_flip_p([]) == sign_flip_p([0.0, 0.0]) == 1.0


def test_p_has_no_floor() -> None:
    assert sign_flip_p([1.0] * 100) == pytest.approx(2.0**-99)
    assert sign_flip_p([1.0] * 5000) == 0.0 or sign_flip_p([1.0] * 5000) < 1e-300
    assert sign_flip_p([1.0] * 90 + [-1.0] * 10) == pytest.approx(stats.binomtest(90, 100).pvalue)


def test_it_agrees_with_scipys_permutation_test() -> None:
    rng = np.random.default_rng(4)
    for values in (rng.integers(-3, 5, 12).astype(float), rng.normal(0.3, 1, 12)):
        theirs = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
        assert sign_flip_p(values) == pytest.approx(theirs)


def test_many_values_off_any_grid_by_saddlepoint() -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(0.12, 1, 252)
    flips = (2 * rng.integers(0, 2, (200_000, 252), dtype=np.int8) - 1) @ values.astype(np.float32)
    drawn = np.mean(np.abs(flips) >= abs(values.sum()))
    assert sign_flip_p(values) == pytest.approx(drawn, rel=0.05)


def test_it_rejects_a_true_hypothesis_one_time_in_twenty() -> None:
    rng = np.random.default_rng(5)
    rejected = [
        sign_flip_p((rng.integers(1, 6, 60) - rng.integers(1, 6, 60)).astype(float)) < 0.05 for _ in range(1000)
    ]
    assert 0.03 <= np.mean(rejected) <= 0.065
