"""Settings that exclude each other, found before torch is imported or a weight is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from kollm.core.counting import counted
from kollm.core.errors import InputError, RecipeError
from kollm.core.files import read_object, read_text, read_yaml
from kollm.core.reading import as_object, foreign_errors, shown
from kollm.core.resources import resource_folder
from kollm.recipe.bases import BASES, CURRENT, MIXTURES, BaseFacts
from kollm.recipe.schema import TOY_PREFIX, Recipe, ToyBase
from kollm.train.packing import check_packing
from kollm.train.plan import Sharding, trainable_parameters

ADAPTION_PROMPTS = ("gpt_neox", "llama", "mistral", "gpt2")
"""Architectures that the method adaption_prompt knows."""
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
    _check_preferences(recipe)
    context = context_of(recipe, base)
    if context is not None:
        check_length(recipe, context)
    _check_watching(recipe)
    architecture = architecture_of(recipe, base)
    if architecture is not None and recipe.trainer.get("packing"):
        check_packing(architecture)
    if architecture is not None:
        _check_method(recipe.adapter.method, architecture)
    if architecture == "bloom" and recipe.attention not in ("auto", "eager"):
        raise RecipeError(f"attention is '{recipe.attention}', and BLOOM has eager attention alone - use eager.")
    if recipe.trainer.get("packing") and recipe.attention == "eager":
        raise RecipeError("trainer.packing needs attention auto, varlen or sdpa - eager would let packed rows mix.")
    if config is not None:
        _check_sharding(recipe, config)


def check_length(recipe: Recipe, context: int) -> None:
    """Refuse rows that are longer than the base's context.

    Raises:
        RecipeError: they may be.
    """
    length = recipe.trainer.get("max_length")
    if length is not None and length > context:
        raise RecipeError(f"trainer.max_length is {length}, and the base's context is {context} tokens - lower it.")


def context_of(recipe: Recipe, base: Path | None = None) -> int | None:
    """The base's context in tokens where it is known without a network, as for `architecture_of`, and limited."""
    values = _base_config(recipe, base)
    if values is not None:
        text = values.get("text_config")
        inner: dict[str, Any] = text if isinstance(text, dict) else values
        length = inner.get("max_position_embeddings", inner.get("n_positions"))
        return length if isinstance(length, int) else None
    if recipe.base.is_toy:
        return (recipe.base.toy or ToyBase()).context
    facts = BASES.get(recipe.base.model)
    return facts.context if facts else None


def _check_watching(recipe: Recipe) -> None:
    """Refuse to watch what is not measured."""
    steps = recipe.trainer.get("eval_steps")
    wants = {
        "early_stopping": recipe.early_stopping is not None,
        "trainer.load_best_model_at_end": bool(recipe.trainer.get("load_best_model_at_end")),
        "generation.during_training": recipe.generation.during_training > 0,
    }
    for key, wanted in wants.items():
        if wanted and not steps:
            raise RecipeError(f"{key} is set, and nothing is measured while training - set trainer.eval_steps too.")
    if steps and recipe.data.holdout == 0:
        raise RecipeError(
            "trainer.eval_steps is set, and no rows are held out to measure - set data.holdout, e.g. to 0.05."
        )
    if steps is not None and steps <= 0:
        raise RecipeError(f"trainer.eval_steps is {steps} - it must be more than 0.")
    if recipe.trainer.get("load_best_model_at_end") and recipe.adapter.method == "full":
        raise RecipeError(
            "trainer.load_best_model_at_end keeps the best adapter, and adapter.method is full - leave it out."
        )


def _check_method(method: str, architecture: str) -> None:
    """Refuse an adapter that means nothing for an architecture."""
    if method == "adaption_prompt" and architecture not in ADAPTION_PROMPTS:
        raise RecipeError(
            f"adapter.method is adaption_prompt, which PEFT and kollm write for {', '.join(ADAPTION_PROMPTS)}, and the base is "
            f"'{architecture}' - use lora."
        )
    if method == "ia3" and architecture in MIXTURES:
        raise RecipeError(
            f"adapter.method is ia3, which scales the feed-forward part, and the experts of '{architecture}' are one tensor that "
            "cannot be scaled one by one - use lora on the attention's matrices."
        )


def architecture_of(recipe: Recipe, base: Path | None = None) -> str | None:
    """The base's model type where it is known without a network: of a folder, a toy, or a base that kollm has facts of."""
    values = _base_config(recipe, base)
    if values is not None:
        return values.get("model_type")
    if recipe.base.is_toy:
        return recipe.base.model.removeprefix(TOY_PREFIX)
    facts = BASES.get(recipe.base.model)
    return facts.architecture if facts else CURRENT.get(recipe.base.model)


def _base_config(recipe: Recipe, base: Path | None) -> dict[str, Any] | None:
    """`config.json` of a base that is a folder."""
    path = (base or Path(recipe.base.model)) / "config.json"
    return read_object(path) if path.is_file() else None


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
    steps, epochs = trainer.get("max_steps", -1), trainer.get("num_train_epochs", 3)
    if steps == 0 or (steps < 0 and epochs <= 0):
        raise RecipeError(
            f"There is nothing to train in {counted(max(steps, 0), 'step')} and {counted(epochs, 'epoch')} - raise one of them."
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


def _check_preferences(recipe: Recipe) -> None:
    """Refuse what a loss over pairs of answers cannot be combined with."""
    if recipe.method == "sft":
        return
    if recipe.trainer.get("packing"):
        raise RecipeError(
            f"trainer.packing is true, and the method {recipe.method} compares whole answers, a row each - leave it out."
        )
    if recipe.loss != "completion":
        raise RecipeError(
            f"loss is '{recipe.loss}', and the method {recipe.method} is of answers alone - leave it out."
        )
    if recipe.trainer.get("neftune_noise_alpha"):
        raise RecipeError(
            f"trainer.neftune_noise_alpha is set, and the method {recipe.method} compares with a reference without noise - leave it out."
        )
    if recipe.trainer.get("label_smoothing") and recipe.trainer.get("loss_type", "sigmoid") != "robust":
        raise RecipeError("trainer.label_smoothing is for loss_type robust alone - set loss_type too, or leave it out.")


def _check_sharding(recipe: Recipe, config: str | Path) -> None:
    values = accelerate_settings(config)
    shards = sharding(values)
    if shards and recipe.quantization != "none":
        raise RecipeError(
            f"quantization is {recipe.quantization}, and the config '{config}' shards the weights ({shards}), which "
            "quantised weights do not survive - use ddp_4gpu or single_gpu, or quantization none."
        )
    if shards == "ZeRO-3" and not values["deepspeed_config"].get("zero3_save_16bit_model"):
        raise RecipeError(
            f"The config '{config}' shares the weights (ZeRO-3) and never gathers them, so that none would be saved - add "
            "zero3_save_16bit_model: true to its deepspeed_config."
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
