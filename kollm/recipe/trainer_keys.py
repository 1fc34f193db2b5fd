"""The keys of a recipe's section `trainer`: those of TRL's SFTConfig, less what kollm decides itself."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from kollm.core.errors import did_you_mean
from kollm.core.resources import PACKAGE


@functools.cache
def trainer_keys() -> dict[str, list[str]]:
    """SFTConfig's keys and the YAML types that each takes, as shipped in `recipe/trainer_keys.json`.

    Shipped, so that a recipe is checked without importing torch; a test compares the file with TRL's SFTConfig.
    """
    keys: dict[str, list[str]] = json.loads((PACKAGE / "recipe" / "trainer_keys.json").read_text(encoding="utf-8"))
    return keys


_OURS = {
    "output_dir": "-o",
    "gradient_accumulation_steps": "global_batch_size",
    "completion_only_loss": "loss",
    "assistant_only_loss": "loss",
    "chat_template_path": "prompt",
    "model_init_kwargs": "base, quantization and attention",
    "loss_type": "loss",
    "packing_strategy": "trainer.packing",
    "padding_free": "trainer.packing",
    "eval_strategy": "data.holdout",
    "deepspeed": "--config",
    "fsdp": "--config",
    "fsdp_config": "--config",
}
"""SFTConfig's keys that kollm sets itself, and the recipe key that decides them."""

_UNUSED = frozenset(
    {
        "dataloader_drop_last",
        "label_smoothing_factor",
        "pad_to_multiple_of",
        "shuffle_dataset",
        "train_sampling_strategy",
        "truncation_mode",
    }
)
"""SFTConfig's keys that would change nothing, since kollm orders, cuts and pads the rows and computes the loss itself."""


def check_trainer(values: Mapping[str, Any]) -> dict[str, Any]:
    """The `trainer` section with its numbers coerced (YAML reads `3e-4` as text).

    Raises:
        ValueError: a key that SFTConfig has not, one that kollm sets itself or never reads, or a value of the wrong type.
    """
    known = trainer_keys()
    checked: dict[str, Any] = {}
    for key, value in values.items():
        if key in _OURS:
            raise ValueError(f"trainer.{key} is set by kollm - use {_OURS[key]} instead")
        if key in _UNUSED:
            raise ValueError(f"trainer.{key} has no effect in kollm - leave it out")
        if key not in known:
            raise ValueError(f"trainer.{key} is no key of SFTConfig{did_you_mean(key, known)}")
        checked[key] = _coerce(key, value, known[key])
    return checked


def _coerce(key: str, value: Any, types: Sequence[str]) -> Any:
    if "any" in types or (value is None and "none" in types):
        return value
    if isinstance(value, bool):
        if "bool" in types:
            return value
    elif isinstance(value, int | float | str):
        if isinstance(value, str) and "str" in types:
            return value
        try:
            number = float(value)
        except ValueError:
            number = None
        if number is not None and "int" in types and number.is_integer():
            return int(number)
        if number is not None and "float" in types:
            return number
    elif isinstance(value, dict) and "dict" in types:
        return {name: _number(part) for name, part in value.items()}
    elif isinstance(value, list) and "list" in types:
        return value
    raise ValueError(f"trainer.{key} is {value!r} - it takes {' or '.join(types)}")


def _number(value: Any) -> Any:
    """The number that YAML reads as text, as it does `1e-5`; any other value as it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
