"""Agreement against published and hand-computed values; position bias case by case."""

import pytest

from kollm.core.errors import InputError
from kollm.judge.agreement import agreement, krippendorff_alpha, position_bias, weighted_kappa


def test_krippendorffs_own_example() -> None:
    """Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", example C: ordinal alpha is 0.815."""
    n = None
    judges = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, n, n, n],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, n, 3],
        [n, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, n],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, n],
    ]
    assert krippendorff_alpha(judges) == pytest.approx(0.815, abs=0.0005)


def test_alpha_is_none_where_undefined() -> None:
    assert krippendorff_alpha([[1, 1, 1], [1, 1, 1]]) is None
    assert krippendorff_alpha([[1, None], [None, 2]]) is None
    assert krippendorff_alpha([[], []]) is None


def test_weighted_kappa_by_hand() -> None:
    # observed 0.25; expected 0.6875 + 0.5 + 0.0625 = 1.25
    assert weighted_kappa([1, 2, 3, 3], [1, 2, 3, 2]) == pytest.approx(0.8)
    assert weighted_kappa([1, 2, 3], [1, 2, 3]) == 1.0
    assert weighted_kappa([2, 2], [2, 2]) is None
    assert weighted_kappa([], []) is None


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
