"""Kappa and alpha against published values, scikit-style definitions and the package krippendorff; coverage of their intervals."""

from __future__ import annotations

import krippendorff
import numpy as np
import pytest

from kollm.judge.coefficients import UNDEFINED, krippendorff_alpha, weighted_kappa


def test_krippendorffs_own_example() -> None:
    """Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", example C: ordinal alpha is 0.815."""
    n = None
    judges = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, n, n, n],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, n, 3],
        [n, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, n],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, n],
    ]
    assert krippendorff_alpha(judges).value == pytest.approx(0.815, abs=0.0005)


@pytest.mark.parametrize("judges", [2, 3, 5])
def test_alpha_is_that_of_the_package(judges: int) -> None:
    rng = np.random.default_rng(judges)
    quality = rng.integers(1, 6, 60)
    data = np.clip(quality + rng.integers(-1, 2, (judges, 60)), 1, 5).astype(float)
    data[rng.random(data.shape) < 0.15] = np.nan
    theirs = krippendorff.alpha(reliability_data=data, level_of_measurement="ordinal")
    ours = krippendorff_alpha([[None if np.isnan(v) else v for v in judge] for judge in data])
    assert ours.value == pytest.approx(theirs)
    assert ours.ci95 is not None and ours.ci95.low < theirs < ours.ci95.high


def test_alpha_is_none_where_undefined() -> None:
    assert krippendorff_alpha([[1, 1, 1], [1, 1, 1]]) == UNDEFINED
    assert krippendorff_alpha([[1, None], [None, 2]]) == UNDEFINED
    assert krippendorff_alpha([[], []]) == UNDEFINED


def test_weighted_kappa_by_hand() -> None:
    # observed 0.25; expected 0.6875 + 0.5 + 0.0625 = 1.25
    assert weighted_kappa([1, 2, 3, 3], [1, 2, 3, 2]).value == pytest.approx(0.8)
    assert weighted_kappa([1, 2, 3], [1, 2, 3]).value == 1.0
    assert weighted_kappa([2, 2], [2, 2]) == UNDEFINED
    assert weighted_kappa([], []) == UNDEFINED


def test_weighted_kappa_is_that_of_statsmodels() -> None:
    from statsmodels.stats.inter_rater import cohens_kappa

    rng = np.random.default_rng(4)
    a = rng.integers(1, 6, 300)
    b = np.clip(a + rng.integers(-2, 3, 300), 1, 5)
    table = np.zeros((5, 5))
    np.add.at(table, (a - 1, b - 1), 1)
    theirs = cohens_kappa(table, wt="quadratic")
    ours = weighted_kappa(a.tolist(), b.tolist())
    assert ours.value == pytest.approx(theirs.kappa)
    assert ours.ci95 is not None and ours.ci95 == pytest.approx((theirs.kappa_low, theirs.kappa_upp), abs=0.02)


def test_whole_agreement_has_no_interval() -> None:
    scores = [1.0, 2.0, 3.0, 4.0] * 10
    assert weighted_kappa(scores, scores) == (1.0, None) == krippendorff_alpha([scores, scores])


def test_answers_of_one_cluster_count_as_one() -> None:
    rng = np.random.default_rng(5)
    a = rng.integers(1, 6, 40).astype(float)
    b = np.clip(a + rng.integers(-2, 3, 40), 1, 5)
    once, fourfold = weighted_kappa(list(a), list(b)), weighted_kappa(list(a) * 4, list(b) * 4)
    clustered = weighted_kappa(list(a) * 4, list(b) * 4, [str(n) for n in range(40)] * 4)
    assert once.ci95 is not None and fourfold.ci95 is not None and clustered.ci95 is not None
    assert clustered.ci95 == pytest.approx(once.ci95) and fourfold.ci95.high < clustered.ci95.high


def test_intervals_cover() -> None:
    """Scores on five points from two judges whose leanings correlate at .6; the truth is that of 200,000 answers."""
    rng = np.random.default_rng(6)

    def draw(size: int) -> tuple[list[float], list[float]]:
        shared = rng.normal(size=size)
        both = [np.sqrt(0.6) * shared + np.sqrt(0.4) * rng.normal(size=size) for _ in range(2)]
        a, b = (np.digitize(x, [-1.5, -0.5, 0.5, 1.5]) + 1.0 for x in both)
        return a.tolist(), b.tolist()

    whole = draw(200_000)
    truths = weighted_kappa(*whole).value, krippendorff_alpha(whole).value
    covered = np.zeros(2)
    for _ in range(400):
        pair = draw(30)
        found = weighted_kappa(*pair), krippendorff_alpha(pair)
        covered += [c.ci95 is not None and c.ci95.low <= t <= c.ci95.high for c, t in zip(found, truths, strict=True)]
    assert (np.abs(covered / 400 - 0.95) < 0.03).all()
