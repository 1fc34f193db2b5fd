"""Agreement against published and hand-computed values; position bias case by case."""

import pytest

from kollm.core.errors import InputError
from kollm.judge.agreement import agreement, position_bias


def test_agreement_by_hand() -> None:
    first = {("1", "a"): 1.0, ("2", "a"): 2.0, ("3", "a"): 3.0, ("4", "a"): 4.0, ("5", "a"): None, ("9", "a"): 1.0}
    second = {("1", "a"): 1.0, ("2", "a"): 3.0, ("3", "a"): 2.0, ("4", "a"): 4.0, ("5", "a"): 5.0}
    found = agreement("overall", first, second)
    assert (found.n, found.n_one_sided, found.exact, found.mean_difference) == (4, 1, 0.5, 0.0)
    assert found.kendall == pytest.approx(4 / 6)  # five pairs in order, one not
    assert found.spearman == pytest.approx(0.8)  # 1 - 6 * 2 / (4 * 15)
    assert found.kappa == pytest.approx(0.8)  # 1 - 0.5 / 2.5


def test_nothing_in_common_is_no_number() -> None:
    found = agreement("overall", {("1", "a"): 1.0}, {("1", "a"): None})
    assert (found.n, found.exact, found.spearman, found.kendall, found.kappa, found.alpha) == (0, *[None] * 5)


def test_position_bias_case_by_case() -> None:
    forward = ["first", "second", "first", "second", "tie", "first", None]
    backward = ["second", "first", "first", "second", "tie", "tie", "first"]
    found = position_bias(forward, backward)
    assert (found.n, found.n_failed) == (6, 1)
    assert (found.wins, found.ties, found.losses) == (1, 4, 1)
    assert found.consistent == pytest.approx(3 / 6)
    assert (found.first_preferred, found.second_preferred) == (pytest.approx(1 / 6), pytest.approx(1 / 6))
    assert found.win_rate == 0.5
    assert found.ci95 is not None and found.ci95.low < 0.5 < found.ci95.high


def test_a_judge_that_always_takes_the_first_is_all_bias() -> None:
    found = position_bias(["first"] * 20, ["first"] * 20)
    assert (found.consistent, found.first_preferred, found.win_rate, found.ties) == (0.0, 1.0, 0.5, 20)


def test_no_pairs_and_unequal_lists() -> None:
    assert position_bias([None], ["tie"]).win_rate is None
    with pytest.raises(InputError, match="2 choices in one order and 1 in the other"):
        position_bias(["tie", "tie"], ["tie"])
