"""A base of two narrow layers, a dataset folder, and a recipe for them: training that is mostly starting processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kollm.core.records import Record
from kollm.dataset.folder import DatasetWriter, Part
from kollm.dataset.tables import to_table
from kollm.recipe.schema import ToyBase

SHAPE = ToyBase(hidden_size=32, layers=2, heads=2, vocab_size=600, context=512, pretrain_steps=20, pretrain_block=32)
WORDS = [
    "서울은",
    "대한민국의",
    "수도이며",
    "한강이",
    "도시를",
    "가로지릅니다",
    "물은",
    "섭씨",
    "백",
    "도에서",
    "끓고",
    "영",
    "도에서",
    "업니다",
]


def row(number: int, **changes: object) -> Record:
    """A row whose lengths vary with its number; every third has an input, every fifth an earlier turn."""
    values = {
        "id": f"dolly-{number}",
        "source": "dolly",
        "instruction": " ".join(WORDS[: 2 + number % 7]) + f"? {number}",
        "input": " ".join(WORDS[number % 5 :]) if number % 3 == 0 else "",
        "output": " ".join(WORDS[number % 11 :]) + f". {number}",
        "history": (("안녕하세요?", "네, 안녕하세요."),) if number % 5 == 0 else (),
        "lang": "ko",
    }
    return Record(**{**values, **changes})  # type: ignore[arg-type]


CARD = "---\nlicense: cc-by-sa-3.0\n---\n# Rows of a test\n"


def write_dataset(folder: Path, rows: list[Record], card: str = CARD) -> Path:
    with DatasetWriter(folder) as writer:
        writer.write(Part("dolly", "train"), to_table(rows))
        writer.publish({"sources": ["dolly"]}, card)
    return folder


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "dataset", [row(number) for number in range(60)])


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from kollm.train.toy import make_base

    folder = tmp_path_factory.mktemp("base") / "base"
    make_base("gpt_neox", SHAPE, [f"{row(number).instruction} {row(number).output}" for number in range(60)], folder)
    return folder


@pytest.fixture(scope="session")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe for `base` and `dataset`: 16 steps, a checkpoint every 4."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    values = {
        "base": {"model": "toy:gpt_neox", "dtype": "float32"},
        "data": {"holdout": 0.2},
        "adapter": {"method": "lora", "r": 4, "alpha": 8, "dropout": 0.1, "targets": ["query_key_value"]},
        "global_batch_size": 8,
        "trainer": {
            "max_steps": 16,
            "save_steps": 4,
            "logging_steps": 2,
            "learning_rate": 0.01,
            "max_length": 256,
            "per_device_train_batch_size": 4,
        },
    }
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path
