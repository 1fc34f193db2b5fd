"""Differences at equal length, against statsmodels and against a judge that pays for length alone."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm

from kollm.judge.length import at_equal_length


def test_it_agrees_with_statsmodels() -> None:
    rng = np.random.default_rng(0)
    lengths = [(int(a), int(b)) for a, b in rng.integers(20, 900, (60, 2))]
    differences = rng.integers(-3, 4, 60).astype(float)
    clusters = [str(n // 2) for n in range(60)]
    found = at_equal_length(list(differences), lengths, clusters)
    ratio = np.log([(a + 1) / (b + 1) for a, b in lengths])
    theirs = sm.OLS(differences, sm.add_constant(ratio)).fit(
        cov_type="cluster", cov_kwds={"groups": np.arange(60) // 2}, use_t=True
    )
    assert found is not None and found.difference == pytest.approx(theirs.params[0])
    assert found.ci95 == pytest.approx(theirs.conf_int()[0])


def test_a_judge_that_pays_for_length_alone_is_seen_through() -> None:
    rng = np.random.default_rng(1)
    lengths = [(int(a), int(b)) for a, b in zip(rng.integers(400, 900, 100), rng.integers(50, 300, 100), strict=True)]
    paid = [np.log((a + 1) / (b + 1)) + rng.normal(0, 0.1) for a, b in lengths]
    found = at_equal_length(paid, lengths, [str(n) for n in range(100)])
    assert found is not None and np.mean(paid) > 0.8 and found.ci95.low < 0 < found.ci95.high
    assert found.slope == pytest.approx(1, abs=0.1) and found.ratio > 2


def test_where_it_says_nothing() -> None:
    assert at_equal_length([1.0] * 5, [(1, 2)] * 5, list("abcde")) is None
    assert at_equal_length([1.0] * 20, [(5, 5)] * 20, [str(n) for n in range(20)]) is None
