"""Bridging two judges: the mapping by hand, coverage, too few answers, and a mapping that does not fit a system."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from kollm.cli import cli
from kollm.core.errors import InputError
from kollm.judge import bridge as bridging
from kollm.judge.bridge import bridge
from kollm.judge.scores import Judging, ScoreTable
from tests.report.fabricate import make_work_folder


def table(model: str, **systems: np.ndarray) -> ScoreTable:
    """Scores of tasks t-0, t-1, ...; NaN where the judge did not score."""
    found = ScoreTable(Judging("r", "sha256:r", "text", model))
    found.scores = {
        "overall": {
            s: {f"t-{n}": float(v) for n, v in enumerate(scores) if not np.isnan(v)} for s, scores in systems.items()
        }
    }
    return found


def harsher(scores: np.ndarray) -> np.ndarray:
    """A new judge that gives 1, 1, 2, 3, 5 where the old one gave 1 to 5."""
    return np.array([1.0, 1.0, 2.0, 3.0, 5.0])[scores.astype(int) - 1]


def test_the_mapping_of_exact_scores_is_exact() -> None:
    both, alone = np.arange(60) % 5 + 1.0, np.arange(60) % 3 + 3.0
    found = bridge(table("old", both=both, alone=alone), table("new", both=harsher(both), fresh=harsher(both)))
    (mean,) = found.means
    assert (mean.first, mean.old, mean.n) == ("alone", pytest.approx(4.0), 60)
    assert mean.bridged == pytest.approx(harsher(alone).mean())
    assert mean.ci95.low < mean.bridged < mean.ci95.high
    assert {row.second for row in found.differences} == {"both", "fresh"}
    assert found.differences[0].bridged == pytest.approx(harsher(alone).mean() - harsher(both).mean())
    assert found.n_both == {"overall": 60}


def test_a_system_of_which_the_new_judge_saw_a_part_is_bridged() -> None:
    old = np.arange(100) % 5 + 1.0
    new = np.where(np.arange(100) < 40, harsher(old), np.nan)
    (mean,) = bridge(table("old", a=old), table("new", a=new)).means
    assert mean.bridged == pytest.approx(harsher(old).mean()) and mean.n == 100


def test_the_interval_covers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two noisy judges of the same quality on other scales; 40 answers that both judged, and a system of 150 by the old."""
    monkeypatch.setattr(bridging, "RESAMPLES", 200)
    rng = np.random.default_rng(0)

    def judge(quality: np.ndarray, slope: float, start: float) -> np.ndarray:
        return np.clip(np.round(slope * quality + start + rng.normal(0, 0.5, len(quality))), 1, 5)

    truth = judge(rng.normal(3, 1, 200_000), 0.8, 0.1).mean()
    covered = 0
    for _ in range(100):
        quality, alone = rng.normal(3, 1, 40), rng.normal(3, 1, 150)
        old = table("old", both=judge(quality, 1, 0), alone=judge(alone, 1, 0))
        (mean,) = bridge(old, table("new", both=judge(quality, 0.8, 0.1))).means
        covered += mean.ci95.low <= truth <= mean.ci95.high
    assert covered >= 90


def test_too_few_answers_are_an_error() -> None:
    few = np.arange(29) % 5 + 1.0
    with pytest.raises(InputError, match="scored overall on 29 independent tasks, and a bridge needs 30"):
        bridge(table("old", both=few, alone=few), table("new", both=few))
    with pytest.raises(InputError, match="there is nothing to bridge"):
        bridge(table("old", both=np.ones(40)), table("new", both=np.ones(40)))


def test_a_system_that_the_new_judge_takes_otherwise_is_told() -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.integers(1, 6, 60).astype(float) for _ in range(2))
    new = table("new", a=np.clip(a - 1, 1, 5), b=np.clip(b + 1, 1, 5))
    fits = {fit.system: fit for fit in bridge(table("old", a=a, b=b, alone=a), new).fits}
    assert fits["a"].residual < 0 < fits["b"].residual and max(fit.p_holm for fit in fits.values()) < 0.001


def test_the_command_writes_what_the_report_marks(tmp_path: Path) -> None:
    texts = {(s, n): f"답 {s} {n}" for s in ("adapter", "base", "kept") for n in range(40)}
    old = make_work_folder(tmp_path / "old", tasks=40, answers=texts, model="gpt-4-0613", failures=0.0)
    kept = {"kept": 0.5}
    both = [
        make_work_folder(tmp_path / m, tasks=40, systems=kept, answers=texts, model=m) for m in ("gpt-4-0613", "new")
    ]
    paths = [old, *(folder / "verdicts.jsonl" for folder in both)]
    for folder in both:
        (folder / "generations.jsonl").unlink()
    arguments = ["verdicts", "bridge", *map(str, paths), "--old", "gpt-4-0613", "--new", "new", "-o", str(both[1])]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert "From gpt-4-0613 to new, by answers that both judged: understandability" in result.output
    rows = json.loads((both[1] / "bridge.json").read_text())
    assert {row["first"] for row in rows["means"]} == {"adapter", "base"}
    assert {row["second"] for row in rows["differences"]} == {"kept"}
    wrong = CliRunner().invoke(cli, ["nobody" if word == "gpt-4-0613" else word for word in arguments])
    assert isinstance(wrong.exception, InputError) and "There are 0 tables of scores by 'nobody'" in str(
        wrong.exception
    )
