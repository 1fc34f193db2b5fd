"""What is looked at while training: the held-out loss, the best weights, a few answers, and when to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kollm.core.errors import RecipeError
from kollm.core.files import read_json
from kollm.core.records import Record
from kollm.recipe.load import parse_recipe
from kollm.recipe.schema import Recipe, ToyBase
from kollm.train.check import check_recipe
from kollm.train.job import train_recipe
from kollm.train.toy import random_model, train_tokenizer
from tests.train.conftest import write_dataset

WORDS = "질문 대답 지시어 응답 아래는 작업을 설명하는 명령어입니다."


def recipe(base: Path, **changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "name": "watched",
        "base": {"model": str(base), "dtype": "float32"},
        "data": {"holdout": 0.3},
        "prompt": "kullm-2023",
        "adapter": {"r": 4, "targets": ["query_key_value"]},
        "trainer": {
            "max_steps": 8,
            "max_length": 128,
            "per_device_train_batch_size": 4,
            "eval_steps": 2,
            "learning_rate": 1e-3,
        },
        "global_batch_size": 4,
    }
    trainer = {**values["trainer"], **changes.pop("trainer", {})}
    return parse_recipe({**values, **changes, "trainer": trainer}, "test")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tokenizer = train_tokenizer([WORDS] * 8, 400)
    random_model("gpt_neox", ToyBase(hidden_size=32, layers=2, heads=2, context=256), tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data") / "dataset"
    write_dataset(folder, [Record(f"r-{n}", "own", f"질문 {n}", "", f"대답 {n % 3}") for n in range(20)])
    return str(folder)


@pytest.mark.slow
def test_the_loss_is_measured_and_answers_are_kept(base: Path, dataset: str, tmp_path: Path) -> None:
    watched = recipe(base, generation={"during_training": 2}, trainer={"load_best_model_at_end": True})
    train_recipe(watched, dataset, tmp_path / "a")
    metrics = read_json(tmp_path / "a" / "metrics.json")
    measured = metrics["evaluations"]
    assert [row["step"] for row in measured] == [2, 4, 6]
    assert metrics["heldout"]["before"] > measured[0]["loss"] > measured[-1]["loss"]
    assert metrics["best_step"] == 6
    assert metrics["heldout"]["after"] == pytest.approx(measured[-1]["loss"], abs=1e-6), "the best weights are kept"
    assert [row["step"] for row in metrics["samples"]] == [2, 2, 4, 4, 6, 6]
    assert {row["id"]: row["question"] for row in metrics["samples"]}.items() <= {
        f"r-{n}": f"질문 {n}" for n in range(20)
    }.items()
    assert not (tmp_path / "a" / "checkpoints").exists()
    assert metrics["shares"]["dolly"]["rows"] == metrics["rows"]["train"]
    plain = recipe(base)
    train_recipe(plain, dataset, tmp_path / "b")
    losses = [[entry["loss"] for entry in read_json(tmp_path / name / "metrics.json")["history"]] for name in "ab"]
    assert losses[0] == losses[1], "looking changes nothing"


@pytest.mark.slow
def test_training_stops_when_the_loss_no_longer_falls(base: Path, dataset: str, tmp_path: Path) -> None:
    still = recipe(base, early_stopping=2, trainer={"learning_rate": 0.0, "max_steps": 40, "weight_decay": 0.0})
    train_recipe(still, dataset, tmp_path / "a")
    metrics = read_json(tmp_path / "a" / "metrics.json")
    assert metrics["steps"] == 6
    assert [row["step"] for row in metrics["evaluations"]] == [2, 4, 6]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"holdout": 0.0}}, "no rows are held out to measure"),
        ({"early_stopping": 2, "trainer": {"eval_steps": None}}, "early_stopping is set, and nothing is measured"),
        ({"generation": {"during_training": 2}, "trainer": {"eval_steps": None}}, "during_training is set"),
        ({"trainer": {"load_best_model_at_end": True, "eval_steps": None}}, "load_best_model_at_end is set"),
        ({"trainer": {"eval_steps": 0}}, "it must be more than 0"),
    ],
)
def test_watching_what_is_not_measured_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        check_recipe(recipe(Path("base"), **changes))
