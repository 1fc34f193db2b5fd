"""Each key of the section `trainer` does what it says, or is refused with what there is instead."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from kollm.core.errors import RecipeError
from kollm.core.files import ensure_folder
from kollm.recipe.load import parse_recipe
from kollm.recipe.schema import Recipe
from kollm.recipe.trainer_keys import trainer_keys, working_keys
from kollm.train.data import Example
from kollm.train.job import make_trainer
from kollm.train.sft import TrainingRows, trainer_config
from kollm.train.tracker import Tracker
from tests.train.tiny import tiny_model, word_tokenizer

BASE = {"max_steps": 6, "learning_rate": 0.01, "max_length": 64, "logging_steps": 1, "save_strategy": "no"}
BASE |= {"per_device_train_batch_size": 2, "seed": 1, "optim": "adamw_torch"}


def recipe_with(changes: dict[str, Any], **top: Any) -> Recipe:
    trainer = {key: value for key, value in {**BASE, **changes}.items() if value is not ...}
    adapter = {"r": 2, "targets": ["q_proj"], "dropout": 0.0}
    values = {"base": {"model": "tiny", "dtype": "float32"}, "adapter": adapter, "global_batch_size": 4}
    return parse_recipe({**values, "trainer": trainer, **top}, "of a test")


def examples() -> list[Example]:
    random = np.random.default_rng(0)
    rows = [random.integers(3, 60, 4 + number % 9).astype(np.int32) for number in range(12)]
    return [Example(f"row-{number}", ids, ids) for number, ids in enumerate(rows)]


def made(output: Path, changes: dict[str, Any], architecture: str = "llama") -> Any:
    recipe = recipe_with(changes)
    config = trainer_config(recipe, output)
    model = tiny_model(architecture)
    return make_trainer(recipe, config, model, TrainingRows(examples(), [], word_tokenizer(63)), 1)


def trained(output: Path, changes: dict[str, Any], architecture: str = "llama") -> SimpleNamespace:
    """What is to be seen of a training of six steps."""
    trainer = made(output, changes, architecture)
    shapes: list[tuple[int, ...]] = []
    collate = trainer.data_collator

    def collating(rows: Any) -> Any:
        batch = collate(rows)
        shapes.append(tuple(batch["input_ids"].shape))
        return batch

    trainer.data_collator = collating
    ensure_folder(output / "checkpoints")
    (output / "checkpoints" / "identity.json").write_text("{}")  # by which checkpoints are known as kollm's
    trainer.train()
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    weights = {name: value.detach() for name, value in trainer.model.named_parameters() if value.requires_grad}
    return SimpleNamespace(
        steps=trainer.state.global_step,
        logged=[entry["step"] for entry in history],
        losses=[entry["loss"] for entry in history],
        rates=[entry["learning_rate"] for entry in history],
        weights=torch.cat([value.flatten() for value in weights.values()]).tolist(),
        saved=sorted(int(path.name[11:]) for path in (output / "checkpoints").glob("checkpoint-*")),
        shapes=shapes,
    )


TRAINS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "adam_beta1": (0.5, "weights", {}),
    "adam_beta2": (0.5, "weights", {}),
    "adam_epsilon": (0.1, "weights", {}),
    "learning_rate": (0.02, "weights", {}),
    "logging_first_step": (False, "logged", {"logging_steps": 4}),
    "logging_steps": (3, "logged", {}),
    "lr_scheduler_kwargs": ({"min_lr_rate": 0.5}, "rates", {"lr_scheduler_type": "cosine_with_min_lr"}),
    "lr_scheduler_type": ("constant", "rates", {}),
    "max_grad_norm": (1e-3, "weights", {"optim": "sgd"}),
    "max_steps": (3, "steps", {}),
    "neftune_noise_alpha": (50.0, "losses", {}),
    "num_train_epochs": (1, "steps", {"max_steps": ...}),
    "optim": ("sgd", "weights", {}),
    "optim_args": ("momentum=0.9", "weights", {"optim": "sgd"}),
    "packing": (True, "shapes", {}),
    "per_device_train_batch_size": (1, "shapes", {}),
    "save_steps": (2, "saved", {"save_strategy": "steps"}),
    "save_strategy": ("epoch", "saved", {}),
    "save_total_limit": (1, "saved", {"save_strategy": "steps", "save_steps": 2}),
    "seed": (2, "shapes", {}),
    "warmup_steps": (3, "rates", {}),
    "weight_decay": (5.0, "weights", {}),
}
"""Key -> value, what of a training it changes, and settings beside it."""
OTHERWISE = {"lr_scheduler_kwargs": {"min_lr_rate": 0.1}}
"""What to compare with where leaving the key out is refused."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    return lambda: tmp_path_factory.mktemp("run")


@pytest.mark.parametrize("key", TRAINS)
def test_a_key_changes_the_training(key: str, folder: Callable[[], Path]) -> None:
    value, seen, beside = TRAINS[key]
    without = {**beside, key: OTHERWISE[key]} if key in OTHERWISE else beside
    before, after = trained(folder(), without), trained(folder(), {**beside, key: value})
    assert getattr(before, seen) != getattr(after, seen)


def test_counts_are_those_that_were_asked_for(folder: Callable[[], Path]) -> None:
    run = trained(
        folder(), {"max_steps": ..., "num_train_epochs": 1.5, "logging_steps": 2, "logging_first_step": False}
    )
    assert (run.steps, run.logged) == (5, [2, 4])
    run = trained(folder(), {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 2})
    assert run.saved == [4, 6]
    assert trained(folder(), {"save_strategy": "epoch"}).saved == [3, 6]
    assert trained(folder(), {"warmup_steps": 2, "lr_scheduler_type": "constant_with_warmup"}).rates == [
        0.0,
        0.005,
        *[0.01] * 4,
    ]
    assert trained(folder(), {"max_grad_norm": 1e9, "optim": "sgd"}).losses


def checkpointing(trainer: Any) -> bool | None:
    """Whether the layers are computed again on the way back, by torch's reentrant way or the other; None for not."""
    trainer.train()
    layer = trainer.model.get_base_model().model.layers[0]
    return bool(layer._gradient_checkpointing_func.keywords["use_reentrant"]) if layer.gradient_checkpointing else None


REENTRANT = {"use_reentrant": True}
SEEN: dict[str, tuple[Any, dict[str, Any], Callable[[Any], Any], Any]] = {
    "activation_checkpointing": (True, {}, checkpointing, False),
    "activation_checkpointing_kwargs": (REENTRANT, {"activation_checkpointing": True}, checkpointing, True),
    "gradient_checkpointing": (True, {}, checkpointing, False),
    "gradient_checkpointing_kwargs": (REENTRANT, {"gradient_checkpointing": True}, checkpointing, True),
    "bf16": (True, {}, lambda trainer: trainer.accelerator.mixed_precision, "bf16"),
    "dataloader_num_workers": (2, {}, lambda trainer: trainer.get_train_dataloader().num_workers, 2),
    "max_length": (32, {}, lambda trainer: trainer.step_layout.max_length, 32),
    "use_cpu": (True, {}, lambda trainer: trainer.args.device.type, "cpu"),
}
"""Key -> value, settings beside it, what to look at in a trainer, and what is there."""


@pytest.mark.parametrize("key", SEEN)
def test_a_key_sets_up_the_trainer(key: str, tmp_path: Path) -> None:
    value, beside, look, expected = SEEN[key]
    assert look(made(tmp_path, {**beside, key: value})) == expected
    if key != "use_cpu":
        assert look(made(tmp_path, beside)) != expected


DISTRIBUTED = {
    "ddp_broadcast_buffers": False,
    "ddp_bucket_cap_mb": 7,
    "ddp_find_unused_parameters": True,
    "ddp_static_graph": True,
}


def test_what_concerns_several_processes_reaches_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handlers = []
    build = trainer_config(recipe_with(DISTRIBUTED), tmp_path)
    assert {key: getattr(build, key) for key in DISTRIBUTED} == DISTRIBUTED
    from transformers import trainer as transformers_trainer

    real = transformers_trainer.DistributedDataParallelKwargs
    monkeypatch.setattr(
        transformers_trainer,
        "DistributedDataParallelKwargs",
        lambda **values: handlers.append(values) or real(**values),
    )
    made(tmp_path, DISTRIBUTED)
    assert handlers == [{key.removeprefix("ddp_"): value for key, value in DISTRIBUTED.items()}]


def test_the_time_that_processes_wait_for_each_other_is_the_recipes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kollm.train import job

    given: dict[str, Any] = {}

    class StopError(Exception):
        pass

    def state(**options: Any) -> None:
        given.update(options)
        raise StopError

    monkeypatch.setattr(job, "PartialState", state)
    with pytest.raises(StopError):
        job.train_recipe(recipe_with({"ddp_timeout": 90}), "data", tmp_path)
    assert given["timeout"].total_seconds() == 90


def test_the_auxiliary_loss_of_experts_has_its_coefficient(folder: Callable[[], Path]) -> None:
    few, much = (trained(folder(), {"router_aux_loss_coef": value}, "mixtral").losses[0] for value in (0.0, 1.0))
    assert much > few + 0.5
    with pytest.raises(ValueError, match="not a Mixture-of-Experts"):
        made(folder(), {"router_aux_loss_coef": 1.0})


def test_full_determinism_asks_torch_for_it(folder: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("transformers.trainer.enable_full_determinism", asked.append)
    made(folder(), {"full_determinism": True})
    assert asked == [1]


def test_memory_is_emptied_every_so_many_steps(folder: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[bool] = []
    monkeypatch.setattr("transformers.trainer.clear_device_cache", lambda: emptied.append(True))
    trained(folder(), {"torch_empty_cache_steps": 3})
    few = len(emptied)
    trained(folder(), {"torch_empty_cache_steps": 1})
    assert 0 < few < len(emptied) - few


def test_torch_compile_compiles_layer_by_layer(folder: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []
    monkeypatch.setattr("kollm.train.job.compile_layers", compiled.append)
    made(folder(), {"torch_compile": True})
    assert len(compiled) == 1
    made(folder(), {})
    assert len(compiled) == 1


def test_a_run_has_the_name_that_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    names: list[str] = []
    storage = SimpleNamespace(SQLiteStorage=SimpleNamespace(get_logs=lambda *_, **__: []))
    trackio = SimpleNamespace(init=lambda **given: names.append(given["name"]) or SimpleNamespace(id="1"))
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    monkeypatch.setitem(sys.modules, "trackio.sqlite_storage", storage)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    state = SimpleNamespace(is_world_process_zero=True, global_step=0, log_history=[])
    for name in ("r64-try", None):
        Tracker(tmp_path / "adapter").on_train_begin(SimpleNamespace(run_name=name), state, None)
    assert names == ["r64-try", "adapter"]


def test_fp16_and_what_needs_a_gpu(tmp_path: Path) -> None:
    assert trainer_config(recipe_with({"fp16": True}), tmp_path).fp16
    for key in ("tf32", "activation_offloading"):
        with pytest.raises(RecipeError, match=rf"{key}"):
            trainer_config(recipe_with({key: True}), tmp_path)
    memory = trainer_config(recipe_with({"dataloader_pin_memory": False}), tmp_path)
    assert not memory.dataloader_pin_memory


ELSEWHERE = {"activation_offloading", "dataloader_pin_memory", "ddp_timeout", "fp16", "full_determinism"}
ELSEWHERE |= {"eval_steps", "load_best_model_at_end"}  # in test_evaluation.py
ELSEWHERE |= {"report_to"}  # in test_trackers.py
ELSEWHERE |= {"router_aux_loss_coef", "run_name", "tf32", "torch_compile", "torch_empty_cache_steps"}


def test_every_key_is_tried_here_or_refused_with_what_there_is_instead() -> None:
    assert set(TRAINS) | set(SEEN) | set(DISTRIBUTED) | ELSEWHERE == set(working_keys())
    for key in set(trainer_keys()) - set(working_keys()):
        with pytest.raises(
            RecipeError, match=rf"trainer\.{key} (is set by kollm - use .+ instead|has no effect .+: .+)"
        ):
            recipe_with({key: 1})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"learning_rate": float("nan")}, r"trainer\.learning_rate is nan - it takes a finite number"),
        ({"num_train_epochs": float("inf")}, r"trainer\.num_train_epochs is inf - it takes a finite number"),
        ({"adam_beta2": 1.5}, r"trainer\.adam_beta2 is 1\.5 - it must be 0 or more and below 1"),
        ({"adam_beta1": 1}, r"trainer\.adam_beta1 is 1 - it must be 0 or more and below 1"),
        ({"max_grad_norm": 0}, r"trainer\.max_grad_norm is 0 - it must be above 0; a large one, as 1e9, clips nothing"),
        ({"save_steps": 0}, r"trainer\.save_steps is 0 - it must be above 0"),
        ({"save_total_limit": 0}, r"trainer\.save_total_limit is 0 - it must be 1 or more"),
        ({"save_strategy": "best"}, r"trainer\.save_strategy is 'best' - it takes steps, epoch, no"),
        ({"warmup_steps": -1}, r"trainer\.warmup_steps is -1 - it must be 0 or more"),
        ({"parallelism_config": {}}, r"trainer\.parallelism_config is set by kollm - use --config instead"),
        ({"metric_for_best_model": "loss"}, r"metric_for_best_model has no effect .*: .* goes by the held-out loss"),
        ({"data_seed": 1}, r"data_seed has no effect in kollm - leave it out: use trainer\.seed"),
        ({"resume_from_checkpoint": "x"}, "the same command resumes by itself"),
        ({"push_to_hub": True}, "publish what was trained with `kollm push`"),
    ],
)
def test_values_that_train_nothing_sensible_are_one_sentence(values: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        recipe_with(values)


def test_warm_up_is_no_longer_than_the_run(folder: Callable[[], Path]) -> None:
    with pytest.raises(RecipeError, match=r"trainer\.warmup_steps is 7, and the run has 6 steps - lower it"):
        made(folder(), {"warmup_steps": 7})
    made(folder(), {"warmup_steps": 6})
    made(folder(), {"warmup_steps": 0.5})
    with pytest.raises(RecipeError, match="the run has 5 steps"):
        made(folder(), {"max_steps": ..., "num_train_epochs": 1.5, "warmup_steps": 6})


def test_rows_are_no_longer_than_the_context(tmp_path: Path) -> None:
    from kollm.train.check import check_recipe

    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "max_position_embeddings": 48}))
    said = r"trainer\.max_length is 64, and the base's context is 48 tokens - lower it"
    with pytest.raises(RecipeError, match=said):
        check_recipe(recipe_with({}), base=tmp_path)
    check_recipe(recipe_with({"max_length": 48}), base=tmp_path)
    check_recipe(recipe_with({"max_length": ...}), base=tmp_path)


@pytest.mark.parametrize("wanted", ["trackio", "all", ["trackio", "tensorboard"], "none"])
def test_kollms_own_tracker_is_the_one_that_writes_to_trackio(
    wanted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = ["tensorboard", "trackio", "wandb", "mlflow", "comet_ml"]
    monkeypatch.setattr("kollm.train.sft.get_available_reporting_integrations", lambda: there)
    given = trainer_config(recipe_with({"report_to": wanted}), tmp_path).report_to
    assert given == (["comet_ml"] if wanted == "all" else [])
