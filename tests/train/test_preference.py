"""Preference tuning: whole trainings on tiny models, stopped and resumed, in several processes; and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import TrainerCallback

from kollm.core.errors import InputError, RecipeError, StateError
from kollm.core.files import read_json
from kollm.core.preferences import PairProvenance, Preference
from kollm.dataset.folder import PREFERENCES, DatasetWriter, Part
from kollm.dataset.preferences import preference_table
from kollm.recipe.load import parse_recipe
from kollm.recipe.schema import Recipe, ToyBase
from kollm.train.data import IGNORED
from kollm.train.job import train_recipe
from kollm.train.launch import Machine, launch_command
from kollm.train.toy import make_base
from tests.processes import Starter, finish, start_training

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


@pytest.mark.parametrize(
    "method",
    [
        *("dpo", "kto"),
        *(
            pytest.param(
                name,
                marks=pytest.mark.nightly("tests/train/test_preference.py::test_a_small_model_learns_to_end_politely"),
            )
            for name in ("orpo", "simpo")
        ),
    ],
)
def test_a_small_model_learns_to_end_politely(method: str, pairs: Path, base: Path, tmp_path: Path) -> None:
    train_recipe(recipe(method, 30), str(pairs), tmp_path / "out", base=base)
    metrics = read_json(tmp_path / "out" / "metrics.json")
    heldout = metrics["heldout"]
    assert heldout["accuracy"]["after"] > 0.8 and heldout["reward_accuracy"]["after"] > 0.8
    assert heldout["margin"]["after"] > heldout["margin"]["before"] and heldout["after"] < heldout["before"]
    assert metrics["rows"]["train"] + metrics["rows"]["heldout"] == 60 and metrics["kl_to_reference"] > 0.001
    if method in ("dpo", "kto"):
        assert heldout["margin"]["before"] == 0 and heldout["reward_accuracy"]["before"] == 0.5
        assert metrics["history"][0]["loss"] == pytest.approx(math.log(2) if method == "dpo" else 0.5)
    else:
        assert not (tmp_path / "out" / "checkpoints").exists()


def test_an_adapter_is_the_start_and_the_reference(pairs: Path, base: Path, tmp_path: Path) -> None:
    train_recipe(recipe("simpo", 8), str(pairs), tmp_path / "first", base=base)
    still = recipe("dpo", 4, trainer={"learning_rate": 0.0}, adapter={"method": "lora", "r": 2, "targets": ["dense"]})
    train_recipe(still, str(pairs), tmp_path / "still", base=base, start=tmp_path / "first")
    first, after = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("first", "still"))
    assert first.keys() == after.keys() and all(torch.equal(first[name], after[name]) for name in first)
    metrics = read_json(tmp_path / "still" / "metrics.json")
    assert metrics["heldout"]["margin"] == {"before": 0, "after": 0} and metrics["kl_to_reference"] == 0
    kept = yaml.safe_load((tmp_path / "still" / "recipe.yaml").read_text(encoding="utf-8"))
    assert (kept["adapter"]["r"], kept["adapter"]["targets"]) == (4, ["dense", "query_key_value"])
    train_recipe(recipe("dpo", 4), str(pairs), tmp_path / "moved", base=base, start=tmp_path / "first")
    assert read_json(tmp_path / "moved" / "metrics.json")["kl_to_reference"] > 0
    with pytest.raises(StateError, match="another adapter, start"):
        train_recipe(recipe("dpo", 4), str(pairs), tmp_path / "moved", base=base)


class Stop(TrainerCallback):  # type: ignore[misc]
    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 6:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(
            "dpo",
            marks=pytest.mark.nightly(
                "tests/train/test_preference.py::test_a_stopped_training_resumes_to_the_same_bytes"
            ),
        ),
        "kto",
    ],
)
def test_a_stopped_training_resumes_to_the_same_bytes(
    method: str, pairs: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_recipe(recipe(method), str(pairs), tmp_path / "whole", base=base)
    with monkeypatch.context() as patch:
        patch.setattr("kollm.train.job.Watchdog", Stop)
        with pytest.raises(KeyboardInterrupt):
            train_recipe(recipe(method), str(pairs), tmp_path / "stopped", base=base)
    train_recipe(recipe(method), str(pairs), tmp_path / "stopped", base=base)
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert weights[0] == weights[1]
    whole, stopped = (read_json(tmp_path / name / "metrics.json") for name in ("whole", "stopped"))
    assert whole["heldout"] == stopped["heldout"] and whole["kl_to_reference"] == stopped["kl_to_reference"]


@pytest.mark.slow
def test_processes_share_a_step_and_change_nothing(
    pairs: Path, base: Path, tmp_path: Path, training_starter: Starter
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe("kto", 5).model_dump(mode="json")), encoding="utf-8")
    found = {}  # KTO: its divergence too is of the whole step
    for processes in (1, 4):
        output = tmp_path / str(processes)
        command = launch_command(path, pairs, output, Machine("cpu_2proc"), base=base)
        finish(start_training(training_starter, command, tmp_path, processes))
        metrics = read_json(output / "metrics.json")
        found[processes] = (
            [entry["loss"] for entry in metrics["history"]],
            load_file(output / "adapter_model.safetensors"),
        )
    assert found[4][0] == pytest.approx(found[1][0], abs=2e-5)
    for name, value in found[1][1].items():
        assert torch.allclose(value, found[4][1][name], atol=2e-4), name


def test_the_mask_is_that_of_supervised_training(base: Path) -> None:
    from kollm.services.local_model import find_model
    from kollm.train.data import tokenise
    from kollm.train.model import load_base_tokenizer
    from kollm.train.pairs import tokenise_pairs
    from kollm.train.prompts import make_encoder

    encoder = make_encoder("kullm-2023", load_base_tokenizer(find_model(base)))
    row = pair(4)  # with an input; no earlier turns, whose answers supervised training learns too
    (made,) = tokenise_pairs([row], encoder, max_length=256).examples
    for side, example in (("chosen", made.chosen), ("rejected", made.rejected)):
        (expected,) = tokenise([row.record(side)], encoder, max_length=256).examples
        assert example.input_ids.tolist() == expected.input_ids.tolist()
        assert example.labels.tolist() == expected.labels.tolist() and example.labels[-1] == encoder.ends[0]
    talk = pair(5)
    (made,) = tokenise_pairs([talk], encoder, max_length=256).examples
    answer = encoder.row(talk.record("chosen"), True).spans[-1].ids
    assert made.chosen.labels[made.chosen.labels != IGNORED].tolist() == answer
    room = made.chosen.length - 2
    cut = tokenise_pairs([replace(talk, history=())], encoder, max_length=256).counts
    short = tokenise_pairs([talk], encoder, max_length=room)
    assert not cut and short.counts["history_cut"] == 1
    first, second = short.examples[0].chosen, short.examples[0].rejected
    prompt = int((first.labels == IGNORED).sum())
    assert (
        first.input_ids[:prompt].tolist() == second.input_ids[:prompt].tolist() and first.labels[-1] == encoder.ends[0]
    )


def test_what_cannot_be_trained_on(pairs: Path, base: Path, tmp_path: Path) -> None:
    for changes, said in (
        ({"trainer": {"packing": True}}, "compares whole answers"),
        ({"loss": "all"}, "of answers alone"),
        ({"trainer": {"neftune_noise_alpha": 5.0}}, "without noise"),
        ({"trainer": {"label_smoothing": 0.1}}, "loss_type robust alone"),
    ):
        with pytest.raises(RecipeError, match=said):
            train_recipe(recipe("dpo", **changes), str(pairs), tmp_path / "out", base=base)
    for trainer, said in (
        ({"beta": 0}, "trainer.beta is 0 - it takes a number, above 0"),
        ({"beta": "much"}, "'much'"),
        ({"loss_type": "nca"}, "it takes sigmoid, hinge, ipo, robust"),
        ({"simpo_gamma": 1.0}, "is for the method simpo, and this one is dpo"),
    ):
        with pytest.raises(RecipeError, match=said):
            recipe("dpo", trainer=trainer)
    with pytest.raises(RecipeError, match="is for the method dpo or kto or orpo or simpo, and this one is sft"):
        recipe("sft", trainer={"beta": 0.1})
    one = write_pairs(tmp_path / "one", [pair(1)])
    with pytest.raises(InputError, match="there is one pair alone"):
        train_recipe(recipe("kto", data={"holdout": 0.0}), str(one), tmp_path / "out", base=base)
    with pytest.raises(InputError, match="leaves none to hold out"):
        train_recipe(recipe("dpo", data={"holdout": 0.01}), str(one), tmp_path / "out", base=base)
    with pytest.raises(InputError, match="has room for its answers in 8 tokens"):
        train_recipe(recipe("dpo", trainer={"max_length": 8}), str(pairs), tmp_path / "out", base=base)
    for changes, said in (({"rejected": pair(0).chosen}, "equal"), ({"rejected": " "}, "rejected answer is empty")):
        bad = write_pairs(tmp_path / said.split()[0], [pair(0, **changes), pair(1)])
        with pytest.raises(InputError, match=said):
            train_recipe(recipe("dpo"), str(bad), tmp_path / "out", base=base)


def test_an_adapter_of_another_base_is_no_reference(pairs: Path, base: Path, tmp_path: Path) -> None:
    train_recipe(recipe("dpo", 1), str(pairs), tmp_path / "first", base=base)
    other = tmp_path / "other"
    make_base("gpt_neox", SHAPE.model_copy(update={"seed": 1}), [pair(0).chosen], other)
    with pytest.raises(InputError, match="start from an adapter of the same base"):
        train_recipe(recipe("dpo"), str(pairs), tmp_path / "out", base=other, start=tmp_path / "first")
    with pytest.raises(InputError, match="is no adapter"):
        train_recipe(recipe("dpo"), str(pairs), tmp_path / "out", base=base, start=base)
    with pytest.raises(InputError, match="was trained with the prompt 'kullm-2023', and the recipe's is 'plain'"):
        train_recipe(recipe("dpo", prompt="plain"), str(pairs), tmp_path / "out", base=base, start=tmp_path / "first")


@pytest.mark.parametrize(
    "changes",
    [
        {"adapter": {"method": "dora", "r": 2, "targets": ["dense"]}},
        {"quantization": "nf4"},
        {"quantization": "int8"},
        {"adapter": {"method": "full"}},
    ],
    ids=["dora", "nf4", "int8", "full"],
)
def test_other_bases_and_adapters(changes: dict[str, Any], pairs: Path, base: Path, tmp_path: Path) -> None:
    if "quantization" in changes:
        pytest.importorskip("bitsandbytes")
    train_recipe(recipe("dpo", 2, **changes), str(pairs), tmp_path / "out", base=base)
    metrics = read_json(tmp_path / "out" / "metrics.json")
    assert metrics["history"][0]["loss"] == pytest.approx(math.log(2), abs=2e-3)  # int8 rounds otherwise in training
    assert metrics["heldout"]["margin"]["before"] == 0 and (metrics["kl_to_reference"] is None) == (
        changes.get("adapter") == {"method": "full"}
    )
