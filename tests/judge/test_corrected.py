"""Means corrected by labels: the formula by hand, coverage with a biased judge, and tables."""

from __future__ import annotations

import numpy as np
import pytest

from kollm.core.errors import InputError
from kollm.judge.corrected import correct_table, corrected_mean
from kollm.judge.labels import Labels
from kollm.judge.scores import Judging, ScoreTable


def test_the_estimate_is_that_of_the_formula() -> None:
    rng = np.random.default_rng(0)
    judged = rng.normal(3, 1, 200)
    labels = np.full(200, np.nan)
    labels[:40] = judged[:40] + rng.normal(-0.5, 0.3, 40)
    found = corrected_mean(judged, labels)
    shared = np.cov(judged[:40], labels[:40])[0, 1] / 40
    weight = shared / (judged.var(ddof=1) / 40 + judged.var(ddof=1) / 160)
    by_hand = labels[:40].mean() + weight * (judged[40:].mean() - judged[:40].mean())
    assert found.weight == pytest.approx(weight) and found.value == pytest.approx(by_hand)
    rest = (labels[:40] - weight * judged[:40]).var(ddof=1) / 40
    error = np.sqrt(rest + weight**2 * judged[40:].var(ddof=1) / 160)
    assert found.ci95 is not None and (found.ci95.high - found.ci95.low) / 2 == pytest.approx(2.0 * error, rel=0.05)


def test_a_judge_without_a_clue_leaves_the_labels_alone() -> None:
    labels = np.full(100, np.nan)
    labels[:20] = np.tile([1.0, 2.0, 4.0, 5.0], 5)
    found = corrected_mean(np.full(100, 3.0), labels, (1, 5))
    assert (found.weight, found.value) == (0.0, 3.0)
    against = corrected_mean(np.where(np.isnan(labels), 3.0, 6 - labels), labels, (1, 5))
    assert against.weight == 0.0


@pytest.mark.parametrize("shares", [[0.1, 0.2, 0.3, 0.25, 0.15], [0.02, 0.03, 0.05, 0.2, 0.7]])
def test_thirty_labels_of_252_cover_and_are_narrower_where_the_judge_knows(shares: list[float]) -> None:
    """A judge that is milder by .8 of a point and noisy; the truth is the mean of the population of labels."""
    rng = np.random.default_rng(1)
    truth = float(np.dot(np.arange(1, 6), shares))
    covered, width, alone = 0, 0.0, 0.0
    for _ in range(500):
        quality = rng.choice(5, 252, p=shares) + 1.0
        judged = np.clip(np.round(quality + 0.8 + rng.normal(0, 0.5, 252)), 1, 5)
        labels = np.full(252, np.nan)
        labels[:30] = quality[:30]
        found = corrected_mean(judged, labels, (1, 5)).ci95
        of_labels = corrected_mean(np.full(252, 3.0), labels, (1, 5)).ci95
        assert found is not None and of_labels is not None
        covered += found.low <= truth <= found.high
        width, alone = width + found.high - found.low, alone + of_labels.high - of_labels.low
    assert 0.91 <= covered / 500 <= 0.985
    assert width < 0.85 * alone


def test_answers_of_one_cluster_are_one_label() -> None:
    rng = np.random.default_rng(2)
    judged = rng.normal(3, 1, 60)
    labels = np.where(np.arange(60) < 20, judged + rng.normal(0, 0.5, 60), np.nan)
    once = corrected_mean(judged, labels)
    fourfold = corrected_mean(np.tile(judged, 4), np.tile(labels, 4), groups=np.tile(np.arange(60), 4))
    loose = corrected_mean(np.tile(judged, 4), np.tile(labels, 4))
    widths = [e.ci95.high - e.ci95.low for e in (once, fourfold, loose) if e.ci95 is not None]
    assert widths[1] == pytest.approx(widths[0], rel=0.1) and widths[2] < 0.6 * widths[0]


def table(size: int = 60) -> ScoreTable:
    found = ScoreTable(Judging("r", "sha256:r", "text", "judge"))
    found.scores = {"overall": {s: {str(n): float(1 + (n + k) % 5) for n in range(size)} for k, s in enumerate("ab")}}
    return found


def test_means_and_paired_differences_of_a_table() -> None:
    """The judge is a point too mild to a; the labels say so, and the difference of a and b loses that point."""
    judged = table()
    labels = {
        (task, system, 0): judged.scores["overall"][system][task] - (system == "a")
        for system in "ab"
        for task in map(str, range(0, 60, 3))
    }
    rows = correct_table(judged, Labels({"overall": labels}), {"overall": (0.0, 5.0)})
    assert [(row.first, row.second, row.n_labels) for row in rows] == [("a", "", 20), ("b", "", 20), ("a", "b", 20)]
    difference = rows[2]
    assert difference.judged - difference.corrected == pytest.approx(1, abs=0.05)
    assert difference.p_holm == difference.p_value is not None and rows[0].p_value is None


def test_too_few_labels_are_said() -> None:
    labels = Labels({"overall": {(str(n), "a", 0): 3.0 for n in range(9)}})
    with pytest.raises(InputError, match="are on 9 independent tasks that the judge scored, and a correction needs 10"):
        correct_table(table(), labels, {})
