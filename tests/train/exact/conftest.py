"""A small dataset folder and small bases, and the demo recipe trained on them in this process."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file

from kollm.core.files import read_json
from kollm.core.records import Record
from kollm.dataset.folder import DatasetWriter, Part
from kollm.dataset.tables import to_table
from kollm.recipe.load import load_recipe
from kollm.recipe.schema import ToyBase

SPEC = ToyBase(hidden_size=64, layers=2, heads=2, vocab_size=500, context=512, pretrain_steps=0)
WORDS = ["가을", "하늘", "바람", "구름", "나무", "강물", "바다", "산길", "노을", "별빛"]


def make_records(count=60):
    """Rows of different lengths, some with input, some conversations."""
    rows = []
    for index in range(count):
        answer = " ".join(WORDS[(index + step) % 10] for step in range(3 + index * 7 % 23)) + "입니다."
        history = ((f"{index}번째 첫 질문?", f"{WORDS[index % 10]} 이야기입니다."),) if index % 5 == 0 else ()
        rows.append(
            Record(f"test-{index}", "test", f"{index}번째 질문에 답하세요.", "입력 " * (index % 3), answer, history)
        )
    return rows


@pytest.fixture(scope="session")
def overrides():
    """What makes the demo recipe small and free of chance."""
    return (
        "data.holdout=0.15",
        "adapter.dropout=0.0",
        "trainer.max_length=256",
        "trainer.logging_steps=1",
        "trainer.packing=false",
        "trainer.per_device_train_batch_size=4",
        "trainer.learning_rate=1e-3",
        "global_batch_size=8",
    )


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "dataset"
    with DatasetWriter(folder) as writer:
        writer.write(Part("test", "train"), to_table(make_records()))
        writer.publish({"sources": ["test"]}, "card")
    return folder


@pytest.fixture(scope="session")
def make_toy(tmp_path_factory):
    """A function that makes a toy base of a shape, once for each."""
    from kollm.train.toy import make_base

    made = {}

    def toy(architecture="gpt_neox", **shape) -> Path:
        key = (architecture, *sorted(shape.items()))
        if key not in made:
            made[key] = tmp_path_factory.mktemp("base")
            texts = [text for row in make_records() for text in (row.instruction, row.output)]
            make_base(architecture, SPEC.model_copy(update=shape), texts, made[key])
        return made[key]

    return toy


@pytest.fixture(scope="session")
def base(make_toy):
    return make_toy()


@pytest.fixture
def run_training(tmp_path, dataset, base, overrides):
    """Train the demo recipe with overrides in this process; gives metrics, weights, losses and the folder."""
    from kollm.train.job import train_recipe

    def run(*more, name="adapter", base_folder=None):
        output = tmp_path / name
        train_recipe(load_recipe("demo", (*overrides, *more)), str(dataset), output, base=base_folder or base)
        weights = output / "adapter_model.safetensors"
        metrics = read_json(output / "metrics.json")
        return SimpleNamespace(
            folder=output,
            metrics=metrics,
            weights=load_file(weights if weights.is_file() else output / "model.safetensors"),
            losses=[entry["loss"] for entry in metrics["history"]],
        )

    return run
