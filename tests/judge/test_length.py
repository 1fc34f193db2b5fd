"""Differences at equal length, against statsmodels and against a judge that pays for length alone."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st

from kollm.judge.length import FLATTEST, at_equal_length


def columns(lengths: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    both = np.array(lengths, dtype=np.float64)
    return both[:, 0], both[:, 1]


def test_it_agrees_with_statsmodels() -> None:
    rng = np.random.default_rng(0)
    lengths = [(int(a), int(b)) for a, b in rng.integers(20, 900, (60, 2))]
    differences = rng.integers(-3, 4, 60).astype(float)
    groups = np.arange(60) // 2
    found = at_equal_length(differences, columns(lengths), groups)
    ratio = np.log([(a + 1) / (b + 1) for a, b in lengths])
    theirs = sm.OLS(differences, sm.add_constant(np.tanh(ratio / ratio.std()))).fit(
        cov_type="cluster", cov_kwds={"groups": groups}, use_t=True
    )
    assert found is not None and found.difference == pytest.approx(theirs.params[0])
    assert found.ci95 == pytest.approx(theirs.conf_int()[0])
    assert not found.extrapolated


def test_a_judge_that_pays_for_length_alone_is_seen_through() -> None:
    rng = np.random.default_rng(1)
    lengths = [(int(a), int(b)) for a, b in zip(rng.integers(200, 900, 200), rng.integers(50, 500, 200), strict=True)]
    paid = np.array([np.tanh(np.log((a + 1) / (b + 1))) + rng.normal(0, 0.1) for a, b in lengths])
    found = at_equal_length(paid, columns(lengths))
    assert found is not None and np.mean(paid) > 0.45 and abs(found.difference) < 0.05
    assert found.slope == pytest.approx(1.2, abs=0.1) and found.ratio > 1.8


def test_answers_that_run_to_the_limit_do_not_draw_the_line() -> None:
    """Quality differs by 1 at any length, and 20 answers that never end get the lowest score: a line without bounds says more."""
    rng = np.random.default_rng(2)
    ratios = np.concatenate([rng.normal(0.7, 0.8, 230), np.full(20, 4.0)])
    lengths = np.round(200 * np.exp(ratios)), np.full(250, 200.0)
    differences = 1 + 0.4 * np.tanh(ratios) + rng.normal(0, 0.3, 250)
    differences[230:] = -3
    found = at_equal_length(differences, lengths)
    line = np.polynomial.polynomial.polyfit(np.log((lengths[0] + 1) / 201), differences, 1)[0]
    assert found is not None and abs(found.difference - 1) < abs(line - 1)


def test_a_system_that_is_never_the_shorter_one_is_extrapolated() -> None:
    lengths = np.arange(101.0, 151.0), np.full(50, 100.0)
    found = at_equal_length(np.arange(50) % 3 - 1.0, lengths)
    assert found is not None and found.extrapolated


def test_where_it_says_nothing() -> None:
    assert at_equal_length(np.ones(5), (np.ones(5), np.full(5, 2.0))) is None
    assert at_equal_length(np.ones(20), (np.full(20, 5.0), np.full(20, 5.0))) is None


@given(
    first=st.integers(0, 200_000),
    second=st.integers(0, 200_000),
    odd=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 200_000)), max_size=3),
    spread=st.integers(0, 3),
)
def test_lengths_of_any_kind_give_a_number_or_nothing(
    first: int, second: int, odd: list[tuple[int, int]], spread: int
) -> None:
    """A system that always runs to the limit has answers a hundred times as long: the measure is 1 for all of them."""
    lengths = np.full(61, float(first)) + np.arange(61) % (spread + 1), np.full(61, float(second))
    for place, length in odd:
        lengths[0][place] = length
    found = at_equal_length(np.arange(61) % 5 - 2.0, lengths)
    if found is not None:
        numbers = [found.difference, *found.ci95, found.slope, found.ratio]
        assert np.isfinite(numbers).all() and abs(found.difference) < 4 / FLATTEST
