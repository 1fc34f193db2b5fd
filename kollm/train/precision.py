"""Which number type a run computes in, and a watchdog that stops a run that does not train."""

from __future__ import annotations

import math
from typing import Any

import torch
from transformers import TrainerCallback

from kollm.core.errors import RecipeError, StateError
from kollm.recipe.schema import Recipe

WATCHED_STEPS = 10
_SAMPLE = 1 << 20
"""Longer tensors are watched at this many places spread evenly."""


def check_precision(recipe: Recipe) -> None:
    """Refuse a number type that the card at hand does not compute in.

    Raises:
        RecipeError: bf16 on a card without it.
    """
    if recipe.base.dtype == "bfloat16" and torch.cuda.is_available() and not torch.cuda.is_bf16_supported(False):
        raise RecipeError(
            f"base.dtype is bfloat16, which {torch.cuda.get_device_name()} does not compute in - set base.dtype to float32; "
            "float16 gives NaN in GPT-NeoX attention."
        )


class Watchdog(TrainerCallback):  # type: ignore[misc]
    """Stops the run if, after ten steps, a trainable tensor is where it began, or as soon as the loss is not finite.

    A frozen adapter looks healthy from outside: the loss is the base's and wanders with the rows.
    """

    def __init__(self) -> None:
        self._start: dict[str, torch.Tensor] = {}
        self._first = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self._first = state.global_step
        self._start = {name: _places(tensor).clone() for name, tensor in _trainable(model)}
        if not self._start:
            raise StateError("Nothing of the model is trainable - check the recipe's adapter section.")

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if not self._start or state.global_step - self._first < WATCHED_STEPS:
            return
        seen = [(name, _places(tensor)) for name, tensor in _trainable(model) if tensor.numel()]  # ZeRO-3 hides some
        still = [name for name, places in seen if torch.equal(self._start[name], places)]
        self._start = {}
        if still:
            raise StateError(
                f"After {WATCHED_STEPS} steps {len(still)} trainable tensors have not moved, the first is {still[0]} - "
                "the learning rate is too small for their number type, or no gradient reaches them."
            )

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            raise StateError(
                f"The loss is {loss} at step {state.global_step} - lower trainer.learning_rate, or use bfloat16 or float32."
            )


def _trainable(model: Any) -> list[tuple[str, torch.Tensor]]:
    return [(name, parameter.data) for name, parameter in model.named_parameters() if parameter.requires_grad]


def _places(tensor: torch.Tensor) -> torch.Tensor:
    flat = tensor.flatten()
    return flat if flat.numel() <= _SAMPLE else flat[:: flat.numel() // _SAMPLE]
