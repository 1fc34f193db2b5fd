"""The keys of a recipe's section `trainer`: those of TRL's SFTConfig, less what kollm decides itself, and the method's own."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from kollm.core.errors import did_you_mean
from kollm.core.resources import PACKAGE
from kollm.recipe.methods import METHODS, check_method_key


@functools.cache
def trainer_keys() -> dict[str, list[str]]:
    """SFTConfig's keys and the YAML types that each takes, as shipped in `recipe/trainer_keys.json`.

    Shipped, so that a recipe is checked without importing torch; a test compares the file with TRL's SFTConfig.
    """
    keys: dict[str, list[str]] = json.loads((PACKAGE / "recipe" / "trainer_keys.json").read_text(encoding="utf-8"))
    return keys


_OURS = {
    "accelerator_config": "--config",
    "assistant_only_loss": "loss",
    "chat_template_path": "prompt",
    "completion_only_loss": "loss",
    "dataset_kwargs": "data",
    "ddp_backend": "--config",
    "deepspeed": "--config",
    "disable_tqdm": "trainer.logging_steps",
    "eos_token": "prompt",
    "eval_strategy": "data.holdout",
    "fsdp": "--config",
    "fsdp_config": "--config",
    "gradient_accumulation_steps": "global_batch_size",
    "local_rank": "--processes",
    "loss_type": "loss",
    "model_init_kwargs": "base, quantization and attention",
    "output_dir": "-o",
    "packing_strategy": "trainer.packing",
    "padding_free": "trainer.packing",
    "parallelism_config": "--config",
    "remove_unused_columns": "data",
}
"""SFTConfig's keys that kollm sets itself, and the recipe key or option that decides them."""

_DATA = "kollm reads, orders, cuts and pads the rows itself"
_HELDOUT = "the rows of data.holdout are measured before and after training, and every trainer.eval_steps steps"
_HUB = "publish what was trained with `kollm push`, or while it trains with `kollm train --push-to ORG/NAME`"
_LOADER = "trainer.dataloader_num_workers is what kollm's loader takes"
_LOGS = "metrics.json, the tracker and the printed lines are kollm's own"
_RESUME = "the same command resumes by itself, with the same steps"
_UNUSED = {
    "auto_find_batch_size": "where memory is full, training goes on with half the device batch by itself",
    "average_tokens_across_devices": "each token of a step weighs the same, whichever process has it",
    "batch_eval_metrics": _HELDOUT,
    "bf16_full_eval": _HELDOUT,
    "data_seed": "use trainer.seed, which orders the rows too",
    "dataloader_drop_last": _DATA,
    "dataloader_in_order": _LOADER,
    "dataloader_multiprocessing_context": _LOADER,
    "dataloader_persistent_workers": _LOADER,
    "dataloader_prefetch_factor": _LOADER,
    "dataset_num_proc": _DATA,
    "dataset_text_field": _DATA,
    "debug": "a loss that is not finite stops the run",
    "do_eval": _HELDOUT,
    "do_predict": "answer tasks with `kollm generate`",
    "do_train": "`kollm train` trains",
    "enable_jit_checkpoint": "use trainer.save_steps",
    "eval_accumulation_steps": _HELDOUT,
    "eval_delay": _HELDOUT,
    "eval_do_concat_batches": _HELDOUT,
    "eval_on_start": _HELDOUT,
    "eval_packing": _HELDOUT,
    "eval_use_gather_object": _HELDOUT,
    "fp16_full_eval": _HELDOUT,
    "greater_is_better": "trainer.load_best_model_at_end goes by the held-out loss",
    "hub_always_push": _HUB,
    "hub_model_id": _HUB,
    "hub_private_repo": _HUB,
    "hub_revision": _HUB,
    "hub_strategy": _HUB,
    "hub_token": _HUB,
    "ignore_data_skip": _RESUME,
    "include_for_metrics": _HELDOUT,
    "include_num_input_tokens_seen": "metrics.json counts the tokens",
    "label_names": _DATA,
    "label_smoothing_factor": "the loss is the plain likelihood of each token",
    "length_column_name": _DATA,
    "liger_kernel_config": "use trainer.torch_compile",
    "log_level": _LOGS,
    "log_level_replica": _LOGS,
    "log_on_each_node": _LOGS,
    "logging_nan_inf_filter": "a loss that is not finite stops the run",
    "logging_strategy": "use trainer.logging_steps",
    "metric_for_best_model": "trainer.load_best_model_at_end goes by the held-out loss",
    "optim_target_modules": "name the trained matrices in adapter.targets",
    "pad_to_multiple_of": _DATA,
    "pad_token": "padding carries no loss and is seen by no token",
    "per_device_eval_batch_size": "held-out rows go by trainer.per_device_train_batch_size",
    "prediction_loss_only": _HELDOUT,
    "project": "name the run with trainer.run_name",
    "push_to_hub": _HUB,
    "restore_callback_states_from_checkpoint": _RESUME,
    "resume_from_checkpoint": _RESUME,
    "save_on_each_node": "checkpoints are written once, where every machine reads them",
    "save_only_model": _RESUME,
    "shuffle_dataset": _DATA,
    "skip_memory_metrics": "`kollm plan` tells the memory",
    "torch_compile_backend": "use trainer.torch_compile, which compiles layer by layer",
    "torch_compile_mode": "use trainer.torch_compile, which compiles layer by layer",
    "trackio_bucket_id": _LOGS,
    "trackio_space_id": _LOGS,
    "trackio_static_space_id": _LOGS,
    "train_sampling_strategy": _DATA,
    "truncation_mode": _DATA,
    "trust_remote_code": "kollm never runs a repository's code",
    "use_cache": "training keeps no cache of keys and values",
    "use_liger_kernel": "use trainer.torch_compile",
}
"""SFTConfig's keys that would change nothing in kollm, or something else than they say, and what there is instead."""

_RANGES: dict[str, tuple[float, float, str]] = {
    "adam_beta1": (0, 1, "0 or more and below 1"),
    "adam_beta2": (0, 1, "0 or more and below 1"),
    "adam_epsilon": (0, math.inf, "0 or more"),
    "dataloader_num_workers": (0, math.inf, "0 or more"),
    "ddp_timeout": (1, math.inf, "1 or more seconds"),
    "learning_rate": (0, math.inf, "0 or more"),
    "logging_steps": (1e-12, math.inf, "above 0; below 1 it is a share of all steps"),
    "max_grad_norm": (1e-12, math.inf, "above 0; a large one, as 1e9, clips nothing"),
    "max_length": (2, math.inf, "2 or more"),
    "neftune_noise_alpha": (0, math.inf, "0 or more"),
    "per_device_train_batch_size": (1, math.inf, "1 or more"),
    "router_aux_loss_coef": (0, math.inf, "0 or more"),
    "save_steps": (1e-12, math.inf, "above 0; below 1 it is a share of all steps"),
    "save_total_limit": (1, math.inf, "1 or more"),
    "seed": (0, 2**32, "0 or more and below 2**32"),
    "torch_empty_cache_steps": (1, math.inf, "1 or more"),
    "warmup_steps": (0, math.inf, "0 or more; below 1 it is a share of all steps"),
    "weight_decay": (0, math.inf, "0 or more"),
}
"""Least value, what must stay above the value, and both in words."""
_CHOICES = {"save_strategy": ("steps", "epoch", "no")}


def check_trainer(values: Mapping[str, Any], method: str = "sft") -> dict[str, Any]:
    """The `trainer` section with its numbers coerced (YAML reads `3e-4` as text).

    Args:
        values: of a recipe.
        method: whose keys are taken beside SFTConfig's.

    Raises:
        ValueError: a key that SFTConfig has not, one that kollm sets itself or never reads, or a value of the wrong type or
            out of range.
    """
    known = trainer_keys()
    checked: dict[str, Any] = {}
    for key, value in values.items():
        if key in METHODS[method].keys:
            checked[key] = check_method_key(method, key, value)
            continue
        if elsewhere := [name for name, other in METHODS.items() if key in other.keys and key not in known]:
            raise ValueError(f"trainer.{key} is for the method {' or '.join(elsewhere)}, and this one is {method}")
        if key in _OURS:
            raise ValueError(f"trainer.{key} is set by kollm - use {_OURS[key]} instead")
        if key in _UNUSED:
            raise ValueError(f"trainer.{key} has no effect in kollm - leave it out: {_UNUSED[key]}")
        if key not in known:
            raise ValueError(f"trainer.{key} is no key of SFTConfig{did_you_mean(key, known)}")
        checked[key] = _coerce(key, value, known[key])
        _check_value(key, checked[key])
    return checked


def working_keys() -> list[str]:
    """The keys that a recipe may set."""
    return [key for key in trainer_keys() if key not in _OURS and key not in _UNUSED]


def _check_value(key: str, value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"trainer.{key} is {value} - it takes a finite number")
    if key in _RANGES:
        least, above, words = _RANGES[key]
        if value is None and key != "max_length":  # left out, that is
            return
        if value is None or not least <= value < above:
            raise ValueError(f"trainer.{key} is {'null' if value is None else f'{value:g}'} - it must be {words}")
    if key in _CHOICES and value not in _CHOICES[key]:
        raise ValueError(f"trainer.{key} is '{value}' - it takes {', '.join(_CHOICES[key])}")


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
