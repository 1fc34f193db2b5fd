"""What a training says of its own length after some steps, beside what `kollm plan` had promised."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import torch
from transformers import TrainerCallback

from kollm.core.progress import say
from kollm.recipe.bases import BaseFacts
from kollm.recipe.schema import Recipe
from kollm.train.batches import StepBatches
from kollm.train.gpus import gpu_named
from kollm.train.plan import Setup, Sharding, checkpointing, memory_of, speed_of

STEPS = 20
"""Steps after which a training knows its own speed; the first of them is left out, since it starts things."""


SHARED: dict[str, Sharding] = {"FSDP": "fsdp", "DEEPSPEED": "zero2"}
"""What accelerate calls a way of sharing -> what the plan does."""


class Promise(NamedTuple):
    """What the plan says of this training on these cards: tokens a second over all of them, and bytes on the fullest."""

    tokens_per_second: float
    memory: float


def promise(recipe: Recipe, facts: BaseFacts, accelerator: Any, length: int) -> Promise | None:
    """The plan for this very training; None for a card that is not in the table, a processor say, and for preferences.

    Args:
        accelerator: of the training: its device, its processes, and what they share.
        length: tokens of the longest row.
    """
    gpu = gpu_named(torch.cuda.get_device_name()) if accelerator.device.type == "cuda" else None
    if gpu is None or recipe.method != "sft":
        return None
    batch = int(recipe.trainer.get("per_device_train_batch_size", 8))
    setup = Setup(
        recipe.quantization, checkpointing(recipe), batch, SHARED.get(accelerator.distributed_type.value, "ddp")
    )
    memory = memory_of(facts, recipe.adapter, setup, length, accelerator.num_processes)
    return Promise(accelerator.num_processes * speed_of(facts, recipe, setup, length, gpu), memory.total)


class Forecast(TrainerCallback):  # type: ignore[misc]
    """After `STEPS` steps says how long the rest takes; what it says goes into metrics.json.

    Args:
        batches: of the training, for the tokens of its steps.
        planned: what the plan promised; None where there is no plan for the device.
    """

    def __init__(self, batches: StepBatches, planned: Promise | None) -> None:
        self._batches, self._planned = batches, planned
        self._first, self._since = 0, 0.0
        self.said: dict[str, Any] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._first = state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        done = state.global_step - self._first
        if done not in (1, STEPS):
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if done == 1:
            self._since = time.monotonic()
            return
        seconds = max(time.monotonic() - self._since, 1e-9)
        speed = self._batches.tokens(self._first + 1, state.global_step).real / seconds
        step = float(self._batches.lengths.sum()) / self._batches.steps  # tokens of one, on the mean
        rest = (state.max_steps - state.global_step) * step / speed / 3600
        self.said = {"steps": STEPS, "tokens_per_second": round(speed, 1), "hours_left": round(rest, 4)}
        if self._planned is not None:
            self.said |= {
                "planned_tokens_per_second": round(self._planned.tokens_per_second, 1),
                "difference": round(speed / self._planned.tokens_per_second - 1, 4),
                "planned_memory_bytes": int(self._planned.memory),
                "memory_bytes": torch.cuda.max_memory_reserved(),
            }
        if state.is_world_process_zero:
            say(f"train: {self._sentence()}")

    def _sentence(self) -> str:
        own = f"{self.said['tokens_per_second']:,.0f} tokens a second, about {_spoken(self.said['hours_left'])} left"
        if self._planned is None:
            return f"{own} (no plan for this device)"
        return f"{own}; the plan said {self._planned.tokens_per_second:,.0f} tokens a second ({self.said['difference']:+.0%})"


def _spoken(hours: float) -> str:
    """A length of time in the unit that suits it."""
    seconds = hours * 3600
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 6000 else f"{hours:.1f} hours"
