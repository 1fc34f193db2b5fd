"""One tiny training through `python -m kollm.train`: what it leaves behind, and what it refuses."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
from safetensors import safe_open

from kollm.core.errors import InputError, RecipeError, StateError
from kollm.core.files import read_json
from kollm.dataset.folder import read_records
from kollm.recipe.load import load_recipe
from kollm.recipe.schema import Recipe
from tests.processes import Starter, finish
from tests.security.hostile_models import Bomb
from tests.train.conftest import row, write_dataset

pytestmark = pytest.mark.slow


def options(recipe: Path, dataset: Path, base: Path, output: Path, *extra: str) -> list[str]:
    return ["--recipe", str(recipe), "--dataset", str(dataset), "--base", str(base), "-o", str(output), *extra]


@pytest.fixture(scope="module")
def adapter(
    recipe_file: Path, dataset: Path, base: Path, tmp_path_factory: pytest.TempPathFactory, training_starter: Starter
) -> Path:
    output = tmp_path_factory.mktemp("trained") / "adapter"
    arguments = options(recipe_file, dataset, base, output)
    finish([training_starter.start(arguments, output.parent, {}, "kollm.train")])
    return output


def train(recipe: Recipe, dataset: Path, output: Path, base: Path) -> None:
    from kollm.train.job import train_recipe

    train_recipe(recipe, str(dataset), output, base=base)


def test_the_adapter_folder_holds_what_users_need_and_no_pickle(adapter: Path) -> None:
    files = {path.name for path in adapter.rglob("*") if path.is_file() and "trackio" not in path.parts}
    assert files == {
        "adapter_model.safetensors",
        "adapter_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "recipe.yaml",
        "metrics.json",
        "training.json",
    }
    assert max(adapter.iterdir(), key=lambda path: path.stat().st_mtime_ns if path.is_file() else 0).name == (
        "training.json"
    )


def test_the_adapter_can_be_published_as_it_is(adapter: Path, dataset: Path, base: Path) -> None:
    from kollm.hub.preparation import Names, prepare
    from kollm.hub.publication import as_bytes

    ready = prepare("adapter", adapter, "maker/tiny", Names(unjudged=True, dataset=str(dataset)), base_commit="0" * 40)
    assert {"adapter_model.safetensors", "training.json", "recipe.yaml", "README.md"} <= set(ready.files)
    assert not any(name.startswith("trackio") for name in ready.files)
    for name, content in ready.files.items():
        assert str(base.parent).encode() not in as_bytes(content), f"{name} names a folder of this machine"


def test_training_json_tells_what_was_trained_on_what(adapter: Path, dataset: Path, base: Path) -> None:
    from kollm.dataset.folder import dataset_fingerprint
    from kollm.hub.lineage import find_base
    from kollm.recipe.prompt import PromptTemplate

    about = read_json(adapter / "training.json")
    assert about["dataset"] == dataset_fingerprint(dataset)
    assert (about["prompt"], about["prompt_sha256"]) == ("kullm-2023", PromptTemplate.load("kullm-2023").sha256)
    assert about["recipe"]["adapter"]["r"] == 4
    assert about["hardware"]["processes"] == 1
    assert {"torch", "trl", "peft", "kollm"} <= set(about["versions"])
    assert find_base(adapter, about) == (None, base)  # what `kollm push adapter` reads


def test_the_saved_adapter_is_fp32_and_named_as_peft_names_it(adapter: Path) -> None:
    with safe_open(adapter / "adapter_model.safetensors", "pt") as file:
        shapes = {name: file.get_slice(name) for name in list(file.keys())}
        assert {part.get_dtype() for part in shapes.values()} == {"F32"}
        layers = {name: part.get_shape() for name, part in shapes.items()}
    prefix = "base_model.model.gpt_neox.layers"
    assert layers == {
        f"{prefix}.{layer}.attention.query_key_value.lora_{side}.weight": shape
        for layer in range(2)
        for side, shape in (("A", [4, 32]), ("B", [96, 4]))
    }


def test_metrics_count_rows_tokens_and_steps(adapter: Path, dataset: Path) -> None:
    from kollm.train.data import split_heldout

    metrics = read_json(adapter / "metrics.json")
    split = split_heldout(read_records(dataset), 0.2)
    assert metrics["rows"]["train"] == len(split.train)
    assert metrics["heldout"]["rows"] == len(split.heldout)
    assert metrics["heldout"]["conversations"] == len(split.heldout)
    assert metrics["steps"] == 16
    assert [entry["step"] for entry in metrics["history"]] == [1, 2, 4, 6, 8, 10, 12, 14, 16]
    assert 0 < metrics["tokens"]["supervised"] < metrics["tokens"]["total"]
    speed = metrics["throughput"]
    assert speed["padded_tokens_per_second"] >= speed["tokens_per_second"] > speed["supervised_tokens_per_second"] > 0
    assert metrics["history"][-1]["loss"] < metrics["history"][0]["loss"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_heldout_loss_is_the_mean_over_tokens(adapter: Path, dataset: Path, base: Path, when: str) -> None:
    """Computed anew, row by row, by a plain cross entropy."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from kollm.recipe.prompt import PromptTemplate
    from kollm.recipe.tokens import TextEncoder
    from kollm.train.data import IGNORED, split_heldout, tokenise

    tokenizer = AutoTokenizer.from_pretrained(adapter)
    rows = split_heldout(read_records(dataset), 0.2).heldout
    examples = tokenise(rows, TextEncoder(PromptTemplate.load("kullm-2023"), tokenizer), max_length=256).examples
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if when == "after":
        model = PeftModel.from_pretrained(model, adapter)
    model.eval()
    total = tokens = 0.0
    with torch.no_grad():
        for example in examples:
            logits = model(torch.tensor(example.input_ids)[None].long()).logits[0, :-1]
            labels = torch.tensor(example.labels)[1:].long()
            total += torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum").item()
            tokens += int((labels != IGNORED).sum())
    measured = read_json(adapter / "metrics.json")["heldout"]
    assert measured["tokens"] == tokens
    assert measured[when] == pytest.approx(total / tokens, abs=1e-5)


def test_a_finished_training_is_left_alone(
    adapter: Path, recipe_file: Path, dataset: Path, base: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = (adapter / "adapter_model.safetensors").stat().st_mtime_ns
    train(load_recipe(recipe_file), dataset, adapter, base)
    assert "is trained already" in capfd.readouterr().err
    assert (adapter / "adapter_model.safetensors").stat().st_mtime_ns == before
    train(load_recipe(recipe_file, ["trainer.logging_steps=3"]), dataset, adapter, base)  # without effect on the result


def test_another_recipe_over_a_finished_training_is_refused(
    adapter: Path, recipe_file: Path, dataset: Path, base: Path
) -> None:
    with pytest.raises(StateError, match="holds a training with another adapter - choose another -o"):
        train(load_recipe(recipe_file, ["adapter.r=8"]), dataset, adapter, base)


def test_another_recipe_over_a_checkpoint_is_one_sentence(
    recipe_file: Path, dataset: Path, base: Path, adapter: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from kollm.train.__main__ import main

    identity = {key: read_json(adapter / "training.json")[key] for key in ("recipe", "dataset", "prompt_sha256")}
    (tmp_path / "checkpoints" / "checkpoint-4").mkdir(parents=True)
    (tmp_path / "checkpoints" / "identity.json").write_text(json.dumps(identity), encoding="utf-8")
    (tmp_path / "checkpoints" / "checkpoint-4" / "complete.json").write_text("{}", encoding="utf-8")
    changed = ["--set", "trainer.learning_rate=1e-4", "--set", "loss=all"]
    assert main(options(recipe_file, dataset, base, tmp_path, *changed)) == 1
    assert capfd.readouterr().err.strip().splitlines() == [
        f"Error: '{tmp_path}' holds a training with another trainer, loss - choose another -o, or remove that folder."
    ]


def test_a_start_that_failed_does_not_bind_the_next_one(
    recipe_file: Path, dataset: Path, base: Path, tmp_path: Path
) -> None:
    for length in (8, 9):
        with pytest.raises(InputError, match=rf"room for an answer in {length} tokens - raise trainer\.max_length"):
            train(load_recipe(recipe_file, [f"trainer.max_length={length}"]), dataset, tmp_path / "adapter", base)


def test_a_target_that_matches_nothing_names_what_there_is(
    recipe_file: Path, dataset: Path, base: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(recipe_file, ["adapter.targets=[query_key_value, xxx]"])
    with pytest.raises(RecipeError, match=r"'xxx' matches no module - the model has .*dense.*query_key_value"):
        train(recipe, dataset, tmp_path / "adapter", base)


def test_a_dataset_without_rows_to_train_on_is_an_error(recipe_file: Path, base: Path, tmp_path: Path) -> None:
    lone = write_dataset(tmp_path / "lone", [row(1)])
    with pytest.raises(InputError, match=r"The dataset's 1 row leaves none to .* at data\.holdout=0\.2"):
        train(load_recipe(recipe_file), lone, tmp_path / "adapter", base)
    empty = tmp_path / "empty"
    shutil.copytree(lone, empty)
    manifest = read_json(empty / "manifest.json")
    (empty / "manifest.json").write_text(json.dumps({**manifest, "files": {}}), encoding="utf-8")
    with pytest.raises(InputError, match="has no rows of config 'all', split 'train'"):
        train(load_recipe(recipe_file), empty, tmp_path / "adapter", base)


def test_a_missing_base_is_said_before_anything_is_written(recipe_file: Path, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no model"):
        train(load_recipe(recipe_file), dataset, tmp_path / "adapter", tmp_path)
    with pytest.raises(InputError, match="made on the spot - `kollm run` makes it"):
        from kollm.train.job import train_recipe

        train_recipe(load_recipe(recipe_file), str(dataset), tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize("name", ["optimizer.pt", "rng_state.pth", "scheduler.pt"])
def test_a_checkpoint_with_pickled_code_runs_none(
    name: str, recipe_file: Path, dataset: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kollm.train import job

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    recipe = load_recipe(recipe_file, ["trainer.max_steps=2", "trainer.save_steps=1", "data.holdout=0"])
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(job, "_finish", killed)
        train(recipe, dataset, tmp_path / "out", base)
    marker, checkpoint = tmp_path / "ran", tmp_path / "out" / "checkpoints" / "checkpoint-2"
    (checkpoint / name).write_bytes(pickle.dumps(Bomb(marker)))
    with pytest.raises(StateError, match=f"'{checkpoint}' is damaged, or holds pickled code, which is never run"):
        train(recipe, dataset, tmp_path / "out", base)
    assert not marker.exists()
    shutil.rmtree(checkpoint)
    train(recipe, dataset, tmp_path / "out", base)
    assert (tmp_path / "out" / "training.json").is_file()
