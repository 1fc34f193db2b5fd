"""The options that people know from `trl sft`, as overrides of a recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import click

from kollm.recipe.methods import METHODS


class _Option(NamedTuple):
    """An option, the recipe key that it sets, and its type."""

    flag: str
    key: str
    kind: Any
    help: str


_OPTIONS = (
    _Option("--method", "method", click.Choice(list(METHODS)), "How to train."),
    _Option("--beta", "trainer.beta", float, "Strength of a preference method."),
    _Option("--learning-rate", "trainer.learning_rate", float, "Peak learning rate."),
    _Option("--num-train-epochs", "trainer.num_train_epochs", float, "Epochs."),
    _Option("--max-steps", "trainer.max_steps", int, "Steps, in place of epochs."),
    _Option("--max-length", "trainer.max_length", int, "Tokens of a row at most."),
    _Option("--packing/--no-packing", "trainer.packing", bool, "Rows end to end, kept apart by attention."),
    _Option("--per-device-train-batch-size", "trainer.per_device_train_batch_size", int, "Rows on a device at once; memory only."),
    _Option("--global-batch-size", "global_batch_size", int, "Rows of a step, over all devices and accumulation."),
    _Option("--lr-scheduler-type", "trainer.lr_scheduler_type", str, "Schedule of the learning rate."),
    _Option("--warmup-steps", "trainer.warmup_steps", float, "Steps of warm-up; below 1, a share of all."),
    _Option("--weight-decay", "trainer.weight_decay", float, "Weight decay."),
    _Option("--seed", "trainer.seed", int, "Seed."),
    _Option("--lora-r", "adapter.r", int, "Rank of LoRA."),
    _Option("--lora-alpha", "adapter.alpha", int, "Scale of LoRA."),
    _Option("--lora-dropout", "adapter.dropout", float, "Dropout of LoRA."),
    _Option("--lora-target-modules", "adapter.targets", str, "Matrices, parted by commas; all-linear for all."),
    _Option("--gradient-checkpointing/--no-gradient-checkpointing", "trainer.gradient_checkpointing", bool, "Layers computed again on the way back."),
    _Option("--eval-steps", "trainer.eval_steps", float, "Steps between two measurements of the held-out loss."),
    _Option("--save-steps", "trainer.save_steps", float, "Steps between two checkpoints."),
    _Option("--logging-steps", "trainer.logging_steps", float, "Steps between two lines."),
    _Option("--report-to", "trainer.report_to", str, "tensorboard, wandb, mlflow or trackio."),
    _Option("--attn-implementation", "attention", str, "auto, sdpa, eager, varlen or flash_attention_2."),
)  # fmt: skip


TRL_NAMES = (
    *(flag.partition("/")[0].removeprefix("--").replace("-", "_") for flag, *_ in _OPTIONS),
    "load_in_4bit",
    "load_in_8bit",
)
"""The options' names as parameters."""


def trl_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options by the names that TRL gives them."""
    for option in reversed(_OPTIONS):
        kind = {} if option.kind is bool else {"type": option.kind}
        function = click.option(option.flag, _name(option), default=None, help=f"{option.help} [{option.key}]", **kind)(
            function
        )
    for bits, name in (("4", "nf4"), ("8", "int8")):
        function = click.option(
            f"--load-in-{bits}bit", f"load_in_{bits}bit", is_flag=True, help=f"[quantization={name}]"
        )(function)
    return function


def trl_overrides(options: dict[str, Any]) -> tuple[str, ...]:
    """The overrides that the given options mean; they leave `options`."""
    given = []
    for option in _OPTIONS:
        value = options.pop(_name(option))
        if value is None or (option.key == "adapter.targets" and value == "all-linear"):
            continue
        if option.key == "adapter.targets":
            value = "[" + ", ".join(part.strip() for part in value.split(",")) + "]"
        given.append(f"{option.key}={str(value).lower() if isinstance(value, bool) else _number(value)}")
    if options.pop("load_in_4bit"):
        given.append("quantization=nf4")
    if options.pop("load_in_8bit"):
        given.append("quantization=int8")
    return tuple(given)


def _name(option: _Option) -> str:
    return option.flag.partition("/")[0].removeprefix("--").replace("-", "_")


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
