"""Preference tuning: its losses against the papers' formulas and TRL's trainers, and whole trainings on tiny models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kollm.core.files import read_json
from kollm.core.preferences import PairProvenance, Preference
from kollm.dataset.folder import PREFERENCES, DatasetWriter, Part
from kollm.dataset.preferences import preference_table
from kollm.recipe.load import parse_recipe
from kollm.recipe.schema import Recipe, ToyBase
from kollm.train.job import train_recipe
from kollm.train.toy import make_base

NOUNS = ["가을", "하늘", "바람", "구름", "나무", "강물", "바다", "산길", "노을", "별빛"]
SHAPE = ToyBase(hidden_size=48, layers=2, heads=2, vocab_size=400, context=256, pretrain_steps=30, pretrain_block=32)


def pair(number: int, **changes: Any) -> Preference:
    """A question, a polite answer and a blunt one."""
    noun, other = NOUNS[number % 10], NOUNS[(number * 7 + 3) % 10]
    values: dict[str, Any] = {
        "id": f"pair-{number}",
        "source": "test",
        "instruction": f"{noun}에 대해 {number}번째로 말해 주세요.",
        "input": other if number % 4 == 0 else "",
        "chosen": f"{noun}은 {other}와 같습니다.",
        "rejected": f"{noun}은 {other}와 같아.",
        "history": (("안녕?", "안녕하세요."),) if number % 5 == 0 else (),
        "provenance": PairProvenance(task=f"task-{number // 2}"),
    }
    return Preference(**{**values, **changes})


def write_pairs(folder: Path, pairs: list[Preference]) -> Path:
    with DatasetWriter(folder) as writer:
        writer.write(Part(PREFERENCES, "train"), preference_table(pairs))
        writer.publish({"sources": []}, "---\nlicense: mit\n---\n# Pairs of a test\n")
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs", [pair(number) for number in range(60)])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "base"
    texts = [f"{row.instruction} {row.chosen} {row.rejected}" for row in map(pair, range(60))]
    make_base("gpt_neox", SHAPE, texts, folder)
    return folder


def recipe(method: str, steps: int = 12, **changes: Any) -> Recipe:
    trainer = {
        **{"max_steps": steps, "save_steps": 4, "logging_steps": 1, "learning_rate": 2e-3, "max_length": 128},
        **{"per_device_train_batch_size": 2, "lr_scheduler_type": "constant"},
        **changes.pop("trainer", {}),
    }
    values = {
        "method": method,
        "base": {"model": "toy:gpt_neox", "dtype": "float32"},
        "data": {"holdout": 0.2},
        "prompt": "kullm-2023",
        "adapter": {"method": "lora", "r": 4, "alpha": 8, "targets": ["query_key_value", "dense"]},
        "global_batch_size": 8,
        "trainer": trainer,
        **changes,
    }
    return parse_recipe(values, "tiny")


@pytest.mark.parametrize("method", ["dpo", "kto", "orpo", "simpo"])
def test_a_small_model_learns_to_end_politely(method: str, pairs: Path, base: Path, tmp_path: Path) -> None:
    train_recipe(recipe(method, 50), str(pairs), tmp_path / "out", base=base)
    metrics = read_json(tmp_path / "out" / "metrics.json")
    heldout = metrics["heldout"]
    print(method, heldout, metrics["history"][0], metrics["history"][-1])
    assert heldout["accuracy"]["after"] > 0.8 and heldout["reward_accuracy"]["after"] > 0.8
    assert heldout["margin"]["after"] > heldout["margin"]["before"] and heldout["after"] < heldout["before"]
    if method in ("dpo", "kto"):
        assert heldout["margin"]["before"] == 0 and heldout["reward_accuracy"]["before"] == 0.5
