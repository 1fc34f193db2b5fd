"""Bradley-Terry strengths against a logistic regression of statsmodels, and the test that all are equal."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm

from kollm.judge import ranking
from kollm.judge.pairwise import PairVerdict, summarize_pairs
from kollm.judge.ranking import PRIOR, rank

CHOICES = {
    "a": ("first", "second"),
    "b": ("second", "first"),
    "tie": ("tie", "tie"),
    "inconsistent": ("first", "first"),
}


def pair(number: int, first: str, second: str, outcome: str | None, cluster: str = "") -> PairVerdict:
    forward, backward = CHOICES.get(outcome or "", (None, None))
    return PairVerdict(
        f"t-{number}", first, second, "h1", "h2", "p", "judge", "judge", forward, backward, outcome, ("", ""),  # type: ignore[arg-type]
        cluster=cluster,
    )  # fmt: skip


def drawn(strengths: dict[str, float], tasks: int, seed: int, ties: float = 0.2) -> list[PairVerdict]:
    rng = np.random.default_rng(seed)
    names = list(strengths)
    found = []
    for task in range(tasks):
        for i, first in enumerate(names):
            for second in names[i + 1 :]:
                chance = 1 / (1 + np.exp(strengths[second] - strengths[first]))
                decided = "a" if rng.random() < chance else "b"
                found.append(pair(task, first, second, "tie" if rng.random() < ties else decided))
    return found


def test_strengths_are_those_of_a_logistic_regression() -> None:
    """Ties are half a win for each side, and each two systems that met have PRIOR of a tie more."""
    verdicts = drawn({"x": 1.0, "y": 0.0, "z": -0.5}, 40, 0)
    names = ["x", "y", "z"]
    counts: dict[tuple[str, str], np.ndarray] = {}
    for verdict in verdicts:
        half = {"a": (1.0, 0.0), "b": (0.0, 1.0)}.get(str(verdict.outcome), (0.5, 0.5))
        counts[verdict.system_a, verdict.system_b] = counts.get(
            (verdict.system_a, verdict.system_b), np.full(2, PRIOR / 2)
        ) + np.array(half)
    design = np.array([[(name == a) - (name == b) for name in names[1:]] for a, b in counts], dtype=float)
    theirs = sm.GLM(np.array(list(counts.values())), design, family=sm.families.Binomial()).fit().params
    logarithms = np.array([0.0, *theirs])
    expected = dict(zip(names, logarithms - logarithms.mean(), strict=True))
    found = rank(verdicts)
    assert [row.system for row in found.rows] == ["x", "y", "z"]
    assert {row.system: row.strength for row in found.rows} == pytest.approx(expected, abs=1e-4)
    assert all(row.ci95 and row.ci95.low < row.strength < row.ci95.high for row in found.rows)
    assert sum(row.wins for row in found.rows) == sum(row.losses for row in found.rows)


def test_unequal_systems_are_found_and_equal_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "RESAMPLES", 60)
    found = rank(drawn({"x": 1.0, "y": 0.0, "z": 0.0}, 60, 1))
    assert found.p_equal is not None and found.p_equal < 0.001
    alarms = [rank(drawn({"x": 0.0, "y": 0.0, "z": 0.0}, 40, seed)).p_equal for seed in range(12)]
    assert sum(p is not None and p < 0.05 for p in alarms) <= 3


def test_pairs_of_one_cluster_count_as_one() -> None:
    once = drawn({"x": 0.5, "y": 0.0}, 30, 2)
    fourfold = [
        pair(4 * n + copy, v.system_a, v.system_b, v.outcome, v.id) for n, v in enumerate(once) for copy in range(4)
    ]
    loose = rank([pair(n, v.system_a, v.system_b, v.outcome) for n, v in enumerate(fourfold)])
    p_once, p_fourfold = rank(once).p_equal, rank(fourfold).p_equal
    assert p_once is not None and p_fourfold is not None and loose.p_equal is not None
    assert loose.p_equal < p_fourfold and p_fourfold == pytest.approx(p_once, rel=0.5)


def test_too_few_tasks_or_failures_alone_are_no_test() -> None:
    assert rank(drawn({"x": 1.0, "y": 0.0}, 5, 3)).p_equal is None
    assert rank([pair(n, "x", "y", None) for n in range(20)]).rows == []


def test_pairs_of_several_systems_are_corrected_together() -> None:
    found = summarize_pairs(drawn({"x": 1.0, "y": 0.0, "z": -1.0}, 20, 4))
    p_values = sorted((s.p_value, s.p_holm) for s in found.values() if s.p_value is not None and s.p_holm is not None)
    assert len(p_values) == 3 and p_values[0][1] == pytest.approx(min(1, 3 * p_values[0][0]))
    assert all(after >= before for before, after in p_values)
