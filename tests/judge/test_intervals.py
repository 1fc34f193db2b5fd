"""Intervals: what they say agrees with the literature, and they cover as often as they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from kollm.judge.intervals import difference_interval, mean_interval

SCALE = (1.0, 5.0)
POPULATIONS = {
    "248 of 252 are 5": ([5, 4], [248 / 252, 4 / 252]),
    "skewed": ([5, 4, 3, 1], [0.9, 0.06, 0.03, 0.01]),
    "spread": ([1, 2, 3, 4, 5], [0.02, 0.05, 0.13, 0.3, 0.5]),
    "two values": ([1, 5], [0.3, 0.7]),
    "uniform": ([1, 2, 3, 4, 5], [0.2] * 5),
}


@pytest.mark.parametrize("size", [10, 30, 252])
@pytest.mark.parametrize("name", POPULATIONS)
def test_the_interval_covers_the_mean(name: str, size: int) -> None:
    """At least 93 % of 2,000 samples; more where nearly all scores are equal, as no rule can tell those apart."""
    values, shares = POPULATIONS[name]
    truth, rng = float(np.dot(values, shares)), np.random.default_rng(size)
    found = [mean_interval(rng.choice(values, size, p=shares).astype(float), SCALE) for _ in range(2000)]
    covered = np.mean([i is not None and i.low - 1e-9 <= truth <= i.high + 1e-9 for i in found])
    assert covered >= 0.93
    if name in ("spread", "uniform"):
        assert covered <= 0.975


def test_two_values_give_the_jeffreys_interval() -> None:
    scores = [1.0] * 70 + [0.0] * 182
    theirs = proportion_confint(70, 252, method="jeffreys")
    assert mean_interval(scores, (0, 1)) == pytest.approx(theirs, abs=0.001)


def test_equal_scores_have_an_interval_with_width() -> None:
    found = mean_interval([5.0] * 252, SCALE)
    assert found is not None and found.high == 5.0 and 4.9 < found.low < 5.0
    narrow = mean_interval([3.0] * 252, SCALE)
    assert narrow is not None and narrow.low < 3.0 < narrow.high


def test_where_an_interval_means_nothing_there_is_none() -> None:
    assert mean_interval([3.0], SCALE) is None
    assert mean_interval([3.0, 3.0], None) is None
    assert mean_interval([3.0, 4.0], SCALE, np.array([0, 0])) is None


def test_without_ends_it_is_students() -> None:
    from scipy import stats

    values = np.random.default_rng(1).normal(size=40)
    theirs = stats.t.interval(0.95, 39, loc=values.mean(), scale=stats.sem(values))
    assert mean_interval(values, None) == pytest.approx(theirs)


def test_turns_of_one_dialogue_are_no_independent_answers() -> None:
    rng = np.random.default_rng(0)
    covered, ignored = [], []
    for _ in range(400):
        dialogues = rng.choice([3.0, 4.0, 5.0], 60, p=[0.2, 0.3, 0.5])
        scores, groups = np.repeat(dialogues, 2), np.repeat(np.arange(60), 2)
        for found, place in ((mean_interval(scores, SCALE, groups), covered), (mean_interval(scores, SCALE), ignored)):
            place.append(found is not None and found.low <= 4.3 <= found.high)
    assert np.mean(covered) >= 0.93 > np.mean(ignored)


@given(st.lists(st.integers(1, 5).map(float), min_size=2, max_size=60))
@settings(max_examples=100)
def test_it_holds_the_mean_and_stays_on_the_scale(values: list[float]) -> None:
    found = mean_interval(values, SCALE)
    mirrored = mean_interval([6 - value for value in values], SCALE)
    assert found is not None and mirrored is not None
    assert 1 <= found.low <= np.mean(values) + 1e-9 and np.mean(values) - 1e-9 <= found.high <= 5
    if len(values) % 2:
        assert (6 - mirrored.high, 6 - mirrored.low) == pytest.approx(found)


def test_differences_that_are_all_0_have_an_interval_with_width() -> None:
    found = difference_interval([0.0] * 252, SCALE)
    assert found is not None and -0.1 < found.low < 0 < found.high < 0.1


def test_the_interval_of_a_difference_covers_it() -> None:
    rng, hits = np.random.default_rng(2), 0
    for _ in range(500):
        found = difference_interval(rng.choice([0, 1, -1, 2], 30, p=[0.5, 0.25, 0.15, 0.1]).astype(float), SCALE)
        hits += found is not None and found.low <= 0.3 <= found.high
    assert hits / 500 >= 0.93
