"""Settings that exclude each other, found before torch is imported or a weight is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from kollm.core.errors import InputError, RecipeError
from kollm.core.files import read_object, read_text, read_yaml
from kollm.core.reading import as_object, foreign_errors, shown
from kollm.core.resources import resource_folder
from kollm.recipe.bases import BASES, BaseFacts
from kollm.recipe.schema import TOY_PREFIX, Recipe
from kollm.train.packing import check_packing
from kollm.train.plan import Sharding, trainable_parameters

_LEAST = {"max_length": 2, "per_device_train_batch_size": 1, "learning_rate": 0, "seed": 0}
"""Smallest values of trainer keys that SFTConfig takes as they come."""


def config_names() -> list[str]:
    """Names of the shipped accelerate configs, sorted."""
    return sorted(path.stem for path in resource_folder("accelerate_configs").glob("*.yaml"))


def config_file(config: str | Path) -> Path:
    """The file of a shipped accelerate config by name, or a file by path.

    Raises:
        InputError: there is none.
    """
    shipped = resource_folder("accelerate_configs") / f"{config}.yaml"
    path = shipped if str(config) in config_names() else Path(config)
    if not path.is_file():
        raise InputError(
            f"There is no accelerate config '{config}' - use {', '.join(config_names())}, or a file's path."
        )
    return path


def accelerate_settings(config: str | Path) -> dict[str, Any]:
    """What an accelerate config says.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    path = config_file(config)
    values = as_object(read_yaml(path) or {}, path)
    with foreign_errors(f"The accelerate config '{path}'", "mend it"):  # accelerate makes dates of what looks like one
        yaml.safe_load(read_text(path))
    for key in ("num_processes", "num_machines"):
        if values.get(key) is not None and (type(values[key]) is not int or values[key] < 1):
            raise InputError(f"{path}: {key} is {shown(values[key])} - it must be a whole number from 1.")
    if not isinstance(values.get("fsdp_config") or {}, dict) or not isinstance(
        values.get("deepspeed_config") or {}, dict
    ):
        raise InputError(f"{path}: fsdp_config and deepspeed_config must hold keys and values - mend the file.")
    return values


def check_recipe(recipe: Recipe, config: str | Path | None = None, base: Path | None = None) -> None:
    """Refuse what cannot train, or would train something else than the recipe says.

    Args:
        recipe: the recipe.
        config: accelerate config that it is to run with, by name or file.
        base: folder of the base, if not the recipe's.

    Raises:
        RecipeError: settings that exclude each other, or a target that the base has not.
    """
    _check_numbers(recipe)
    _check_adapter(recipe)
    architecture = architecture_of(recipe, base)
    if architecture is not None and recipe.trainer.get("packing"):
        check_packing(architecture)
    if architecture == "bloom" and recipe.attention not in ("auto", "eager"):
        raise RecipeError(f"attention is '{recipe.attention}', and BLOOM has eager attention alone - use eager.")
    if recipe.trainer.get("packing") and recipe.attention == "eager":
        raise RecipeError("trainer.packing needs attention auto, varlen or sdpa - eager would let packed rows mix.")
    if config is not None:
        _check_sharding(recipe, config)


def architecture_of(recipe: Recipe, base: Path | None = None) -> str | None:
    """The base's model type where it is known without a network: of a folder, a toy, or a base that kollm has facts of."""
    config = (base or Path(recipe.base.model)) / "config.json"
    if config.is_file():
        values = read_object(config)
        return values.get("model_type") if isinstance(values, dict) else None
    if recipe.base.is_toy:
        return recipe.base.model.removeprefix(TOY_PREFIX)
    facts = BASES.get(recipe.base.model)
    return facts.architecture if facts else None


def base_location(recipe: Recipe, base: Path | None) -> str:
    """Where the base is: the folder given, else the recipe's model.

    Raises:
        InputError: a toy base without a folder: it has to be made first.
    """
    if base is not None:
        if not (base / "config.json").is_file():
            raise InputError(f"The folder '{base}' holds no model (no config.json) - check --base.")
        return str(base)
    if recipe.base.is_toy:
        raise InputError(
            f"The base '{recipe.base.model}' is made on the spot - `kollm run` makes it, or pass --base FOLDER."
        )
    return recipe.base.model


def _check_numbers(recipe: Recipe) -> None:
    trainer = recipe.trainer
    for key, least in _LEAST.items():
        value = trainer.get(key, least)
        if value is None or value < least:
            raise RecipeError(f"trainer.{key} is {'null' if value is None else value} - it must be {least} or more.")
    steps, epochs = trainer.get("max_steps", -1), trainer.get("num_train_epochs", 3)
    if steps == 0 or (steps < 0 and epochs <= 0):
        raise RecipeError(
            f"There is nothing to train in {max(steps, 0)} steps and {epochs} epochs - raise one of them."
        )


def _check_adapter(recipe: Recipe) -> None:
    adapter, trainer = recipe.adapter, recipe.trainer
    if adapter.method in ("lora", "dora", "ia3") and not (adapter.targets or adapter.feedforward):
        raise RecipeError(f"adapter.targets is empty - name the matrices that {adapter.method} adapts.")
    if adapter.method == "full" and recipe.quantization != "none":
        raise RecipeError(
            f"adapter.method is full, and quantization is {recipe.quantization}: quantised weights cannot be trained - "
            "set quantization to none, or train an adapter."
        )
    if adapter.method == "ia3":
        if trainer.get("weight_decay"):
            raise RecipeError(
                f"trainer.weight_decay is {trainer['weight_decay']}: it would pull IA3's scales, which start at 1, to 0 - "
                "set it to 0."
            )
        strange = set(adapter.feedforward) & set(adapter.targets)
        if strange:
            raise RecipeError(f"adapter.feedforward and adapter.targets both name {', '.join(sorted(strange))}.")
    elif adapter.feedforward:
        raise RecipeError("adapter.feedforward is for ia3 alone - move its names to adapter.targets.")
    if recipe.base.new_tokens and adapter.method in ("adaption_prompt", "full"):
        raise RecipeError(
            "base.new_tokens needs the lora, dora or ia3 method, which can train the embeddings beside it."
        )
    if "lm_head" in adapter.targets or "embed_out" in adapter.targets:
        raise RecipeError(
            "adapter.targets cannot hold the head - to train it, extend the vocabulary by base.new_tokens."
        )
    facts: BaseFacts | None = BASES.get(recipe.base.model)
    if facts is not None:
        try:
            trainable_parameters(facts, adapter)
        except InputError as error:
            raise RecipeError(str(error)) from error


def _check_sharding(recipe: Recipe, config: str | Path) -> None:
    values = accelerate_settings(config)
    shards = sharding(values)
    if shards and recipe.quantization != "none":
        raise RecipeError(
            f"quantization is {recipe.quantization}, and the config '{config}' shards the weights ({shards}), which "
            "quantised weights do not survive - use ddp_4gpu or single_gpu, or quantization none."
        )
    processes = values.get("num_processes")
    if isinstance(processes, int) and processes > recipe.global_batch_size:
        raise RecipeError(
            f"global_batch_size is {recipe.global_batch_size}, fewer rows than the {processes} processes."
        )


def sharding(values: dict[str, Any]) -> str:
    """What an accelerate config shards the weights with; empty for nothing."""
    if values.get("distributed_type") == "FSDP":
        return "FSDP"
    if values.get("distributed_type") == "DEEPSPEED" and (values.get("deepspeed_config") or {}).get("zero_stage") == 3:
        return "ZeRO-3"
    return ""


def sharding_of(config: str | Path) -> Sharding:
    """What a config shares between its GPUs, as `plan` counts it."""
    values = accelerate_settings(config)
    if sharding(values):
        return "fsdp"
    return "zero2" if values.get("distributed_type") == "DEEPSPEED" else "ddp"
