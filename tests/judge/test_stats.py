"""Statistics against values computed by hand, against scipy, and against what they promise over many samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference

from kollm.judge.stats import (
    ALPHA,
    Comparison,
    bootstrap_interval,
    compare_pair,
    compare_systems,
    estimate,
    holm,
    length_correlation,
    permutation_test,
    rank_correlation,
    worst_case_bounds,
)

SCORES = st.lists(st.one_of(st.none(), st.integers(1, 5).map(float)), min_size=1, max_size=40)


def test_bootstrap_of_two_values_is_their_range() -> None:
    assert bootstrap_interval([0.0, 1.0]) == (0.0, 1.0)


def test_bootstrap_agrees_with_scipy_for_few_and_for_many_distinct_values() -> None:
    rng = np.random.default_rng(7)
    for values in (rng.integers(1, 6, 252).astype(float), rng.normal(3, 1, 252)):
        ours = bootstrap_interval(values)
        theirs = reference.bootstrap((values,), np.mean, method="percentile", random_state=1).confidence_interval
        assert ours == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_bootstrap_is_seeded_and_bounded_in_work() -> None:
    values = list(np.random.default_rng(0).normal(size=20_000))
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values)


def test_bootstrap_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    shares = [0.1, 0.2, 0.3, 0.25, 0.15]
    truth = float(np.dot(shares, range(1, 6)))
    intervals = [
        bootstrap_interval(rng.choice(np.arange(1.0, 6.0), 100, p=shares), resamples=1000, seed=i) for i in range(400)
    ]
    covered = np.mean([interval is not None and interval.low <= truth <= interval.high for interval in intervals])
    assert 0.91 <= covered <= 0.98


def test_too_few_values_have_no_interval_and_infinity_is_refused() -> None:
    assert bootstrap_interval([]) is None
    assert bootstrap_interval([3.0]) is None
    with pytest.raises(ValueError, match="finite"):
        bootstrap_interval([1.0, float("nan")])


def test_worst_case_by_hand() -> None:
    assert worst_case_bounds([1.0, None, 3.0, None], 1, 5) == (1.5, 3.5)
    assert worst_case_bounds([None], 0, 1) == (0.0, 1.0)
    assert worst_case_bounds([], 0, 1) is None


@given(SCORES)
@settings(max_examples=60, deadline=None)
def test_the_mean_lies_between_its_bounds(values: list[float | None]) -> None:
    found = estimate(values, (1, 5))
    assert found.n == len(values)
    assert found.n_scored == sum(v is not None for v in values)
    assert found.bounds is not None and found.bounds.low <= found.bounds.high
    if found.n_scored == found.n:
        assert found.bounds == pytest.approx((found.mean, found.mean))


def test_nothing_scored_is_no_number() -> None:
    found = estimate([None, None], (1, 5))
    assert (found.mean, found.ci95, found.bounds, found.n, found.n_scored) == (None, None, (1.0, 5.0), 2, 0)
    assert estimate([2.0, 4.0]).bounds is None


@pytest.mark.parametrize(
    ("differences", "exact"),
    [
        ([1.0] * 5, 2 / 32),
        ([1.0, 2.0, 3.0], 2 / 8),
        ([1.0, -1.0], 1.0),
        ([2.0, 1.0], 2 / 4),
        ([0.0, 0.0], 1.0),
        ([], 1.0),
    ],
)
def test_permutation_test_against_all_flips(differences: list[float], exact: float) -> None:
    assert permutation_test(differences) == pytest.approx(exact, abs=0.012)


def test_permutation_test_of_a_large_difference_is_small_but_not_zero() -> None:
    assert permutation_test([1.0] * 100) == pytest.approx(1 / 10_001)


def test_permutation_test_rejects_a_true_hypothesis_one_time_in_twenty() -> None:
    rng = np.random.default_rng(5)
    rejected = [
        permutation_test(rng.integers(1, 6, 60) - rng.integers(1, 6, 60), resamples=1000, seed=i) < ALPHA
        for i in range(500)
    ]
    assert 0.02 <= np.mean(rejected) <= 0.08


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def _pair(first: dict[str, float | None], second: dict[str, float | None]) -> Comparison:
    found = compare_pair("overall", ("a", first), ("b", second), (1, 5))
    assert found is not None
    return found


def test_a_pair_by_hand() -> None:
    found = _pair({"1": 2, "2": 4, "3": 5, "4": None, "5": 3}, {"1": 1, "2": 2, "3": 2, "4": 3, "6": 1})
    assert (found.n, found.n_dropped) == (3, 1)
    assert (found.difference, found.effect) == (2.0, 2.0)  # differences 1, 2, 3: their standard deviation is 1
    assert (found.wins, found.ties, found.losses) == (3, 0, 0)
    assert found.bounds == (1.0, 2.0)  # four common tasks: (11 + 1 .. 5) / 4 - 8 / 4
    assert found.p_value == pytest.approx(0.25, abs=0.012)
    assert not found.distinguishable


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=2, max_size=30))
@settings(max_examples=40, deadline=None)
def test_swapping_the_systems_mirrors_the_comparison(scores: list[tuple[int, int]]) -> None:
    a: dict[str, float | None] = {str(i): float(x) for i, (x, _) in enumerate(scores)}
    b: dict[str, float | None] = {str(i): float(y) for i, (_, y) in enumerate(scores)}
    there, back = _pair(a, b), _pair(b, a)
    assert there.difference == pytest.approx(-back.difference)
    assert (there.wins, there.losses) == (back.losses, back.wins)
    assert there.p_value == back.p_value


def test_no_common_scored_task_is_no_comparison() -> None:
    assert compare_pair("x", ("a", {"1": 2.0}), ("b", {"2": 2.0})) is None
    assert compare_pair("x", ("a", {"1": 2.0}), ("b", {"1": None})) is None


def test_a_family_is_corrected_together_and_stays_able_to_tell() -> None:
    rng = np.random.default_rng(1)

    def system(shift: float) -> dict[str, float | None]:
        return {str(i): float(v) for i, v in enumerate(np.clip(rng.normal(3 + shift, 0.7, 120).round(), 1, 5))}

    scores = {"overall": {"same-1": system(0), "same-2": system(0), "better": system(1)}}
    found = {(c.first, c.second): c for c in compare_systems(scores)}
    assert not found["same-1", "same-2"].distinguishable
    assert found["same-1", "better"].distinguishable and found["same-1", "better"].difference < 0
    assert all(c.p_holm >= c.p_value for c in found.values())
    many = compare_systems({"overall": {f"s{n}": system(n % 2) for n in range(16)}})
    assert len(many) == 120
    assert min(c.p_holm for c in many) <= 0.0101


def test_rank_correlation_by_hand_and_with_ties() -> None:
    assert rank_correlation([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]) == pytest.approx(0.8)  # 1 - 6 * 4 / (5 * 24)
    a, b = [1, 1, 2, 3, 3, 3, 5], [2, 1, 2, 2, 4, 5, 5]
    assert rank_correlation(a, b) == pytest.approx(reference.spearmanr(a, b).statistic)
    assert rank_correlation([1, 1, 1], [1, 2, 3]) is None


def test_length_correlation_needs_three_answers() -> None:
    assert length_correlation([(10, 1.0), (20, 2.0)]) is None
    assert length_correlation([(10, 1.0), (20, 2.0), (400, 2.5)]) == pytest.approx(1.0)
