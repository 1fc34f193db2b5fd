"""Statistics against values computed by hand, against scipy, and against what they promise over many samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from kollm.core.errors import InputError
from kollm.judge.stats import (
    Comparing,
    Comparison,
    compare_pair,
    compare_systems,
    detectable_difference,
    estimate,
    holm,
    length_correlation,
    rank_correlation,
    standard_error,
    worst_case_bounds,
)

SCORES = st.lists(st.one_of(st.none(), st.integers(1, 5).map(float)), min_size=1, max_size=40)


def test_worst_case_by_hand() -> None:
    assert worst_case_bounds([1.0, None, 3.0, None], 1, 5) == (1.5, 3.5)
    assert worst_case_bounds([None], 0, 1) == (0.0, 1.0)
    assert worst_case_bounds([], 0, 1) is None


@given(SCORES)
@settings(max_examples=60)
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


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def _pair(first: dict[str, float | None], second: dict[str, float | None]) -> Comparison:
    found = compare_pair("overall", ("a", first), ("b", second), Comparing(limits={"overall": (1, 5)}))
    assert found is not None
    return found


def test_a_pair_by_hand() -> None:
    found = _pair({"1": 2, "2": 4, "3": 5, "4": None, "5": 3}, {"1": 1, "2": 2, "3": 2, "4": 3, "6": 1})
    assert (found.n, found.n_dropped) == (3, 1)
    assert (found.difference, found.effect) == (2.0, 2.0)  # differences 1, 2, 3: their standard deviation is 1
    assert (found.wins, found.ties, found.losses) == (3, 0, 0)
    assert found.bounds == (1.0, 2.0)  # four common tasks: (11 + 1 .. 5) / 4 - 8 / 4
    assert found.p_value == pytest.approx(0.25) and found.n_unpaired == 2
    assert not found.distinguishable


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=2, max_size=30))
@settings(max_examples=40)
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
    against = compare_systems(scores, Comparing(baseline="same-1"))
    assert [(c.first, c.second) for c in against] == [("same-2", "same-1"), ("better", "same-1")]
    assert against[1].difference > 0 and against[1].p_holm <= found["same-1", "better"].p_holm
    with pytest.raises(InputError, match="There is no system 'nobody' - these are judged: same-1, same-2, better"):
        compare_systems(scores, Comparing(baseline="nobody"))


def test_unscored_answers_decide_the_word() -> None:
    """With 180 of 200 tasks unscored, what 20 say is no `higher`."""
    first: dict[str, float | None] = {str(n): 5.0 if n < 20 else None for n in range(200)}
    second: dict[str, float | None] = {str(n): 3.0 for n in range(200)}
    found = _pair(first, second)
    assert found.p_holm < 1e-4 and (found.n, found.n_dropped) == (20, 180)
    assert found.conclusion == "unsettled" and not found.distinguishable
    assert found.bounds is not None and found.bounds.low <= 0 < found.bounds.high
    one = {**{str(n): 5.0 for n in range(199)}, "199": None}
    assert _pair(one, second).conclusion == "first higher", "one unscored answer cannot turn this round"


def test_turns_of_a_dialogue_count_once() -> None:
    rng = np.random.default_rng(3)
    dialogues = rng.integers(-1, 3, 30)
    first = {f"{n}-{turn}": 3.0 + dialogues[n] for n in range(30) for turn in (1, 2)}
    second = dict.fromkeys(first, 3.0)
    clusters = {task: task.split("-")[0] for task in first}
    alone = compare_pair("x", ("a", first), ("b", second), Comparing(limits={"x": (1, 6)}))
    together = compare_pair("x", ("a", first), ("b", second), Comparing(limits={"x": (1, 6)}, clusters=clusters))
    assert alone is not None and together is not None
    assert (alone.n_clusters, together.n_clusters) == (60, 30)
    assert together.p_value > alone.p_value and together.detectable > 1.3 * alone.detectable
    assert together.ci95.low < alone.ci95.low


def test_the_smallest_difference_agrees_with_statsmodels() -> None:
    for size in (10, 30, 252):
        values = np.random.default_rng(size).normal(size=size)
        effect = TTestPower().solve_power(nobs=size, alpha=0.05, power=0.8)
        expected = effect * values.std(ddof=1)
        assert detectable_difference(standard_error(values, None), size) == pytest.approx(expected, rel=1e-3)
    assert detectable_difference(0.0, 10) is None and detectable_difference(None, 1) is None


def test_equivalence_agrees_with_statsmodels() -> None:
    rng = np.random.default_rng(6)
    a, b = rng.integers(1, 6, 200).astype(float), rng.integers(1, 6, 200).astype(float)
    p, (lower, *_), _ = ttost_paired(a, b, -0.4, 0.4)
    scores = {"x": {"a": {str(i): v for i, v in enumerate(a)}, "b": {str(i): v for i, v in enumerate(b)}}}
    (found,) = compare_systems(scores, Comparing(margin=0.4))
    assert found.p_equivalent == pytest.approx(p)
    assert found.p_not_worse == pytest.approx(reference.t.sf(lower, 199))
    with pytest.raises(InputError, match="The margin is -1"):
        Comparing(margin=-1)
    twin = {
        "x": {"a": scores["x"]["a"], "b": {k: v + (0.1 if int(k) % 2 else -0.1) for k, v in scores["x"]["a"].items()}}
    }
    assert compare_systems(twin, Comparing(margin=0.1))[0].conclusion == "equivalent"


def test_rank_correlation_by_hand_and_with_ties() -> None:
    assert rank_correlation([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]) == pytest.approx(0.8)  # 1 - 6 * 4 / (5 * 24)
    a, b = [1, 1, 2, 3, 3, 3, 5], [2, 1, 2, 2, 4, 5, 5]
    assert rank_correlation(a, b) == pytest.approx(reference.spearmanr(a, b).statistic)
    assert rank_correlation([1, 1, 1], [1, 2, 3]) is None


def test_length_correlation_needs_three_answers() -> None:
    assert length_correlation([(10, 1.0), (20, 2.0)]) is None
    assert length_correlation([(10, 1.0), (20, 2.0), (400, 2.5)]) == pytest.approx(1.0)
