"""Sealed sets: what is sealed, that it stays so, and what a steady, a changed and an unsure judge are called."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from llmock.pytest_plugin import LLMock

from kollm.cli import cli
from kollm.core.errors import InputError
from kollm.core.files import json_line
from kollm.core.verdicts import Verdict
from kollm.judge.drift import drift, next_round, read_sealed, seal
from kollm.judge.verdicts import read_verdicts
from kollm.services.ledger import Ledger
from tests.judge.conftest import REPLY, answers

LIMITS = {"overall": (1.0, 5.0)}
WORSE = REPLY.replace(": 4", ": 2")


def kollm(*arguments: object) -> str:
    result = CliRunner().invoke(cli, list(map(str, arguments)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


@pytest.fixture
def folder(llmock: LLMock, ledger: Ledger, tmp_path: Path) -> Path:
    """A work folder of 30 answers, each judged alike."""
    llmock.reply(REPLY, times=30)
    path = tmp_path / "run"
    path.mkdir()
    (path / "generations.jsonl").write_text("".join(json_line(a.to_row()) for a in answers(30)), encoding="utf-8")
    kollm("judge", path / "generations.jsonl", "-o", path / "verdicts.jsonl")
    return path


def test_a_judge_that_stays_and_one_that_changes(llmock: LLMock, folder: Path, tmp_path: Path) -> None:
    sealed = tmp_path / "sealed"
    assert "20 answers and 20 verdicts" in kollm("verdicts", "seal", folder, "-o", sealed, "--tasks", 20)
    asked = len(llmock.requests)
    llmock.reply(REPLY, times=20)
    steady = kollm("verdicts", "drift", sealed)
    assert "no drift was found" in steady and len(llmock.requests) == asked + 20  # no stored reply stands in
    assert (sealed / "rounds" / "1.jsonl").is_file()
    llmock.reply(WORSE, times=20)
    later = tmp_path / "later"
    changed = kollm("verdicts", "drift", sealed, "-o", later)
    assert "Round 2" in changed and "the judge drifted on" in changed
    found = json.loads((later / "drift.json").read_text())
    assert {row["conclusion"] for row in found["axes"]} == {"drifted", "undecided"}
    assert next_round(read_sealed(sealed))[0] == 3


def test_what_was_judged_before_and_after_a_drift_is_not_compared(llmock: LLMock, folder: Path, tmp_path: Path) -> None:
    kollm("verdicts", "seal", folder, "-o", tmp_path / "sealed")
    later = tmp_path / "later"
    later.mkdir()
    rows = "".join(json_line(a.to_row()) for a in answers(30, "base"))
    (later / "generations.jsonl").write_text(rows, encoding="utf-8")
    llmock.reply(WORSE, times=None)
    kollm("judge", later / "generations.jsonl", "-o", later / "verdicts.jsonl")
    assert "adapter - base" in kollm("compare", folder, later)
    kollm("verdicts", "drift", tmp_path / "sealed", "-o", later)
    with pytest.raises(InputError, match=r"Between 'adapter' and 'base' the judge .* drifted on"):
        kollm("compare", folder, later)
    assert "adapter - base" in kollm("compare", folder, later, "--across-judges")


def test_a_round_that_was_cut_goes_on(llmock: LLMock, folder: Path, tmp_path: Path) -> None:
    sealed = tmp_path / "sealed"
    kollm("verdicts", "seal", folder, "-o", sealed)
    llmock.reply(REPLY, times=None)
    kollm("verdicts", "drift", sealed)
    path = sealed / "rounds" / "1.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:10]))
    asked = len(llmock.requests)
    assert "Round 1" in kollm("verdicts", "drift", sealed)
    assert len(read_verdicts(path)) == 30 and len(llmock.requests) == asked  # bought before the cut


def test_a_sealed_set_is_never_changed(folder: Path, tmp_path: Path) -> None:
    sealed = tmp_path / "sealed"
    kollm("verdicts", "seal", folder, "-o", sealed)
    with pytest.raises(InputError, match="holds a sealed set already"):
        kollm("verdicts", "seal", folder, "-o", sealed)
    with (sealed / "verdicts.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(InputError, match=r"verdicts\.jsonl' was changed since it was sealed"):
        read_sealed(sealed)
    with pytest.raises(InputError, match="holds no sealed set"):
        read_sealed(folder)


def test_which_tasks_are_sealed_does_not_hang_on_their_order(folder: Path, tmp_path: Path) -> None:
    verdicts = read_verdicts(folder / "verdicts.jsonl")
    given = {(a.system, a.id): [a] for a in answers(30)}
    one = seal(given, verdicts, tmp_path / "a", 10)
    other = seal(given, verdicts[::-1], tmp_path / "b", 10)
    assert {v.id for v in one.verdicts} == {v.id for v in other.verdicts} and len(one.answers) == 10


def test_two_judges_are_not_sealed_together(folder: Path, tmp_path: Path) -> None:
    path = folder / "verdicts.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text(path.read_text() + "".join(json_line({**row, "model_requested": "another"}) for row in rows))
    with pytest.raises(InputError, match=r"verdicts of 2 judges .* seal those of one: --judge MODEL"):
        kollm("verdicts", "seal", folder, "-o", tmp_path / "sealed")
    assert "30 verdicts of another" in kollm(
        "verdicts", "seal", folder, "-o", tmp_path / "sealed", "--judge", "another"
    )
    with pytest.raises(InputError, match="holds no verdict of nobody"):
        kollm("verdicts", "seal", folder, "-o", tmp_path / "x", "--judge", "nobody")


def verdicts(scores: np.ndarray) -> list[Verdict]:
    return [
        Verdict(f"t-{n}", "a", f"h-{n}", "r", "sha256:r", "text", 0, "j", "j", {"overall": float(s)}, "ok", "", {})
        for n, s in enumerate(scores)
    ]


def test_a_change_within_the_margin_is_steady_though_significant() -> None:
    """Every twentieth of 400 answers a point lower: p is small, and .05 of a point is no drift on a scale of five."""
    then = np.full(400, 4.0)
    now = then - (np.arange(400) % 20 == 0)
    (row,) = drift(verdicts(then), verdicts(now), LIMITS)
    assert row.p_holm < 0.001 and row.conclusion == "steady" and row.change == pytest.approx(-0.05)


def test_sixty_equal_answers_are_enough_to_call_a_judge_steady() -> None:
    then = np.arange(60) % 5 + 1.0
    assert drift(verdicts(then), verdicts(then), LIMITS)[0].conclusion == "steady"
    assert drift(verdicts(then[:20]), verdicts(then[:20]), LIMITS)[0].conclusion == "undecided"


def test_few_answers_prove_no_steadiness() -> None:
    rng = np.random.default_rng(0)
    then = rng.integers(1, 6, 12).astype(float)
    (row,) = drift(verdicts(then), verdicts(np.clip(then + rng.integers(-1, 2, 12), 1, 5)), LIMITS)
    assert row.conclusion == "undecided"


def test_false_alarms_are_rare_and_a_real_drift_is_found() -> None:
    """60 sealed answers, a judge with noise of its own; without a change 'drifted' stays below 5 %."""
    rng = np.random.default_rng(1)
    alarms = found = 0
    for _ in range(100):
        quality = rng.normal(3, 1, 60)
        then, again, harsher = (
            np.clip(np.round(quality + shift + rng.normal(0, 0.5, 60)), 1, 5) for shift in (0, 0, -0.5)
        )
        alarms += drift(verdicts(then), verdicts(again), LIMITS)[0].conclusion == "drifted"
        found += drift(verdicts(then), verdicts(harsher), LIMITS)[0].conclusion == "drifted"
    assert alarms <= 8 and found >= 90
