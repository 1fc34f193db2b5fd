"""The trainable part of a model: PEFT's configuration for each method of a recipe."""

from __future__ import annotations

from typing import Any

from peft import IA3Config, LoraConfig, PeftConfig, TaskType

from kollm.errors import RecipeError
from kollm.recipe import Adapter


def peft_config(adapter: Adapter) -> PeftConfig | None:
    """PEFT's configuration of a recipe's adapter; None for full fine-tuning."""
    if adapter.method == "full":
        return None
    if adapter.method in ("lora", "dora"):
        return LoraConfig(
            r=adapter.r,
            lora_alpha=adapter.alpha,
            lora_dropout=adapter.dropout,
            target_modules=sorted(adapter.targets),
            use_dora=adapter.method == "dora",
            bias="none",
            task_type=TaskType.CAUSAL_LM,
        )
    if adapter.method == "ia3":
        return IA3Config(
            target_modules=sorted({*adapter.targets, *adapter.feedforward}),
            feedforward_modules=sorted(adapter.feedforward),
            task_type=TaskType.CAUSAL_LM,
        )
    raise RecipeError(f"adapter.method '{adapter.method}' cannot be trained.")


def check_targets(model: Any, names: tuple[str, ...]) -> None:
    """Every target must name a module: PEFT accepts a list in which only some of the names match.

    Raises:
        RecipeError: a name that matches nothing; the message lists the names that there are.
    """
    leaves = {name for name, module in model.named_modules() if not any(True for _ in module.children())}
    for target in names:
        if not any(name == target or name.endswith(f".{target}") for name in leaves):
            there = sorted({name.rsplit(".", 1)[-1] for name in leaves if not name.rsplit(".", 1)[-1].isdigit()})
            raise RecipeError(f"The adapter's target '{target}' matches no module - the model has {', '.join(there)}.")
