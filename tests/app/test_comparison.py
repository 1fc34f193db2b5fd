from __future__ import annotations

import csv
from pathlib import Path

import pytest

from kollm.answer.file import read_generations
from kollm.app.comparison import BETTER, TIE, WORSE, Comparison, Label, evidence
from kollm.core.errors import InputError
from kollm.core.verdicts import Verdict
from kollm.judge.labels import read_labels


def opened(folder: Path, verdicts: tuple[Verdict, ...] = ()) -> Comparison:
    return Comparison(read_generations(folder / "generations.jsonl"), folder / "notes", verdicts)


def verdict(id: str, system: str, score: float) -> Verdict:
    return Verdict(id, system, "", "r", "", "text", 0, "m", "m", {"overall_quality": score}, "ok", "", {})


def test_pairs_are_blind_in_random_order_and_end(answers: Path) -> None:
    comparison = opened(answers)
    pairs = list(comparison.pairs("kim"))
    assert len(pairs) == 40 and [pair.id for pair in pairs] != [f"t-{number}" for number in range(40)]
    assert 8 < sum(pair.first.system == "adapter" for pair in pairs) < 32
    assert [pair.id for pair in comparison.pairs("lee")] != [pair.id for pair in pairs]
    for _ in range(40):
        pair = next(comparison.pairs("kim"))
        comparison.choose(pair, "kim", BETTER if pair.first.system == "adapter" else WORSE)
    assert next(comparison.pairs("kim"), None) is None
    standing = comparison.standing("kim")
    assert (standing.done, standing.total) == (40, 40) and standing.enough
    with (answers / "notes" / "labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {(row["system"], row["preference"]) for row in rows} == {("adapter", "1"), ("base", "0")}
    assert list(opened(answers).pairs("kim")) == [] and len(list(opened(answers).pairs("lee"))) == 40


def test_the_labels_are_read_by_compare(answers: Path) -> None:
    comparison = opened(answers)
    answer = next(comparison.answers("kim"))
    comparison.score(answer, "kim", {"overall_quality": 4, "naturalness": 3})
    labels = read_labels(answers / "notes" / "labels.csv")
    assert labels.scores["overall_quality"][answer.id, answer.system, 0] == 4.0


def test_agreement_of_people_and_judge(answers: Path) -> None:
    judged = tuple(
        verdict(f"t-{n}", system, 5 if system == "adapter" else 2) for n in range(40) for system in ("adapter", "base")
    )
    comparison = opened(answers, judged)
    for who in ("kim", "lee"):
        for number in range(10):
            pair = sorted(comparison.pairs(who), key=lambda pair: pair.id)[0]
            better = BETTER if pair.first.system == "adapter" else WORSE
            comparison.choose(pair, who, TIE if who == "lee" and number < 2 else better)
    standing = comparison.standing("kim")
    assert standing.people is not None and standing.people[:2] == (10, 0.8)
    assert (
        standing.judge is not None and standing.judge[:2] == (20, 0.9) and standing.judge[2] < 0.9 < standing.judge[3]
    )


def test_undo_takes_the_last_label_back(answers: Path) -> None:
    comparison = opened(answers)
    assert comparison.undo("kim") is False
    first = next(comparison.pairs("kim"))
    comparison.choose(first, "kim", TIE)
    assert comparison.undo("kim") and next(comparison.pairs("kim")) == first


def test_the_evidence_is_honest_at_every_look() -> None:
    """Under no difference it reaches 20 in less than 5% of the runs, whenever one stops."""
    import random

    order = random.Random(0)
    crossed = 0
    for _ in range(200):
        labels: list[Label] = []
        for number in range(100):
            labels.append(Label(str(number), ("a", "b"), "kim", order.choice((BETTER, WORSE))))
            if number % 5 == 4 and evidence(labels, ("a", "b")) >= 20:
                crossed += 1
                break
    assert crossed <= 10
    assert evidence([Label(str(n), ("a", "b"), "kim", BETTER) for n in range(10)], ("a", "b")) > 20


def test_one_system_alone_is_refused(answers: Path) -> None:
    one = [item for item in read_generations(answers / "generations.jsonl") if item.system == "base"]
    with pytest.raises(InputError, match="two systems"):
        Comparison(one, answers / "notes")
