"""Supervised fine-tuning: TRL's SFTTrainer, with kollm's own order of rows, loss mask and checkpoints."""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from peft import PeftConfig, PeftModel
from torch.utils.data import DataLoader
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, get_scheduler
from transformers.integrations import get_available_reporting_integrations
from transformers.modeling_layers import GradientCheckpointingLayer
from trl import SFTConfig, SFTTrainer

from kollm.core.counting import counted
from kollm.core.errors import RecipeError, StateError
from kollm.core.files import read_json, write_json
from kollm.core.progress import say
from kollm.recipe.methods import METHODS
from kollm.recipe.schema import Recipe
from kollm.train.adapters import computes_in_base_type
from kollm.train.batches import Collator, Layout, RunLength, StepBatches
from kollm.train.checkpoints import (
    BEFORE,
    CHECKPOINTS,
    OUT_OF_MEMORY,
    complete,
    keep_newest,
    last_checkpoint,
    saving,
)
from kollm.train.data import Example
from kollm.train.evaluation import Evaluations
from kollm.train.head import add_compact_head
from kollm.train.heldout import TokenLoss, token_loss
from kollm.train.trackers import KINDS

DEFAULTS: dict[str, Any] = {
    "gradient_checkpointing": False,
    "logging_steps": 10,
    "logging_first_step": True,
    "save_steps": 200,
    "save_total_limit": 2,
    "report_to": "none",  # trackio and metrics.json are written anyway; this adds others
    "logging_nan_inf_filter": False,  # the watchdog wants to see them
    "per_device_train_batch_size": 8,
}
"""What kollm trains with where a recipe says nothing and TRL's default is another."""


class TrainingRows(NamedTuple):
    """What a trainer learns from, tokens already: examples of one method, those that are held out, and their tokenizer."""

    examples: Sequence[Any]
    heldout: Sequence[Any]
    tokenizer: Any


class Examples(torch.utils.data.Dataset):  # type: ignore[misc]
    """The training rows as torch's DataLoader reads them."""

    def __init__(self, examples: Sequence[Any]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Any:
        return self.examples[index]


def trainer_config(recipe: Recipe, output: Path) -> SFTConfig:
    """SFTConfig for a recipe: its `trainer` keys over kollm's defaults.

    Raises:
        RecipeError: a value that SFTConfig or the schedule of the learning rate refuses, or that this machine cannot do.
    """
    values = {**DEFAULTS, **recipe.trainer}
    for key in METHODS[recipe.method].keys:  # its loss is kollm's own, see preference_losses.py
        values.pop(key, None)
    for key in ("eval_steps", "load_best_model_at_end"):  # kollm measures the held-out loss itself, see evaluation.py
        values.pop(key, None)
    values.pop("packing", None)  # kollm packs by step, see batches.py
    values.pop("torch_compile", None)  # and compiles by layer, see compile_layers
    values["report_to"] = _trackers(values["report_to"])
    values.setdefault("use_cpu", not torch.cuda.is_available())
    values.setdefault("bf16", recipe.base.dtype == "bfloat16" and not computes_in_base_type(recipe))
    values.setdefault("fp16", recipe.base.dtype == "float16")
    # An adapter's tensors are in every pass; looking for unused ones would walk the whole graph in each.
    values.setdefault("ddp_find_unused_parameters", recipe.adapter.method == "full")
    try:
        config = SFTConfig(
            **values,
            output_dir=str(output / CHECKPOINTS),
            remove_unused_columns=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            accelerator_config={"even_batches": False},  # every epoch's microbatches are a multiple of the processes
            disable_tqdm=True,
        )
        _try_optimizer(config)
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        raise refused(recipe, error) from error
    if config.activation_offloading and config.use_cpu:
        raise RecipeError(
            "trainer.activation_offloading is true, and there is no GPU to take the activations from - leave it out."
        )
    return config


def _try_optimizer(config: SFTConfig) -> None:
    """Build the optimizer and the schedule of its learning rate once, which transformers does when training begins."""
    kind, values = SFTTrainer.get_optimizer_cls_and_kwargs(config)
    optimizer = kind([torch.zeros(1, requires_grad=True)], **values)
    get_scheduler(config.lr_scheduler_type, optimizer, config.get_warmup_steps(100), 100, config.lr_scheduler_kwargs)


def _trackers(wanted: Any) -> list[str]:
    """What transformers reports to: no tracker that kollm writes to itself, see tracker.py and trackers.py."""
    names = [wanted] if isinstance(wanted, str) else list(wanted or ())
    if "all" in names:
        names = get_available_reporting_integrations()
    return [name for name in names if name not in ("trackio", "none", *KINDS)]


def refused(recipe: Recipe, error: Exception) -> RecipeError:
    """What transformers or TRL says of a recipe's settings, as one sentence."""
    reason = " ".join(str(error).split()).rstrip(".")
    return RecipeError(f"Recipe {recipe.name}: the trainer section is refused ({reason}) - change it.")


def layout(recipe: Recipe, config: SFTConfig, processes: int) -> Layout:
    """How the recipe's steps are laid out on this many processes."""
    return Layout(
        global_batch=recipe.global_batch_size,
        processes=processes,
        device_batch=config.per_device_train_batch_size,
        max_length=config.max_length,
        packed=bool(recipe.trainer.get("packing", False)),
        seed=config.seed,
    )


def _check_warmup(config: SFTConfig, steps: int) -> None:
    if config.get_warmup_steps(steps) > steps:
        raise RecipeError(
            f"trainer.warmup_steps is {config.warmup_steps:g}, and the run has {counted(steps, 'step')} - lower it; below 1 it is a share "
            "of them."
        )


class StepTrainer(SFTTrainer):  # type: ignore[misc]
    """SFTTrainer on rows that are tokens already, in the order and the microbatches of `StepBatches`.

    `measurement` is the kind of what `heldout_loss` returns, `unit` what its loss is a mean over.

    Args:
        model: the base model.
        config: its gradient accumulation is set from the layout.
        rows: to train on, and those whose loss is measured before the first step and after the last; the tokenizer is saved
            beside the weights.
        step_layout: see `layout`.
        peft_config: the adapter; None for full fine-tuning, and where the model has one already.
        callbacks: more of transformers' callbacks.
    """

    measurement: Any = TokenLoss
    unit = "token"

    def __init__(
        self,
        model: Any,
        config: SFTConfig,
        rows: TrainingRows,
        step_layout: Layout,
        peft_config: PeftConfig | None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        examples, self.heldout, tokenizer = rows
        self.step_layout = step_layout
        lengths = [example.length for example in examples]
        supervised = [example.supervised for example in examples]
        length = RunLength(config.num_train_epochs, config.max_steps)
        self.batches = StepBatches(lengths, step_layout, length, supervised)
        _check_warmup(config, length.steps_of(self.batches.steps))
        config.gradient_accumulation_steps = self.batches.accumulation
        first = {"input_ids": [examples[0].input_ids.tolist()], "labels": [examples[0].labels.tolist()]}
        super().__init__(
            model=model,
            args=config,
            train_dataset=Dataset.from_dict(first),  # a sample for TRL's checks; the rows follow below
            data_collator=self.collator(tokenizer.pad_token_id),
            processing_class=tokenizer,
            peft_config=peft_config,
            callbacks=[EpochStart(self.batches), Lines(), Clock(), *callbacks],
        )
        self.train_dataset = self.dataset(examples)
        self.data_collator.masks_padding = self.aux_loss_enabled
        if self.accelerator.device.type == "cpu":
            add_compact_head(self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model)
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)

    def collator(self, pad_token_id: int) -> Any:
        """What makes a microbatch of examples."""
        return Collator(pad_token_id, self.step_layout.packed)

    def dataset(self, examples: Sequence[Any]) -> Examples:
        """The examples as the collator takes them."""
        return Examples(examples)

    def get_train_dataloader(self) -> DataLoader[Example]:
        loader = DataLoader(
            self.train_dataset,
            batch_sampler=self.batches,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory and torch.cuda.is_available(),
        )
        prepared: DataLoader[Example] = self.accelerator.prepare(loader)
        return prepared

    def get_batch_samples(self, *args: Any) -> Any:
        if self.state.global_step >= self.state.max_steps:  # resumed from the last step's checkpoint, within an epoch,
            return [], None  # where transformers looks for the end only after one step more
        return super().get_batch_samples(*args)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The microbatch's share of the step's loss: its summed loss over the supervised tokens of the whole step.

        TRL's own also gathers entropy and accuracy from all processes for every microbatch, which costs a
        synchronisation each.
        """
        outputs = model(**inputs, use_cache=False, fused_lm_head=True)
        loss = -outputs.log_probs.sum() / torch.as_tensor(num_items_in_batch).clamp(min=1)
        if self.aux_loss_enabled:  # each microbatch's by its share of the step's supervised tokens, as the loss itself
            share = outputs.label_mask.sum() / torch.as_tensor(num_items_in_batch).clamp(min=1)
            loss = loss + self.router_aux_loss_coef * share * outputs.aux_loss
        # num_items_in_batch counts all processes' tokens, and DDP averages the gradients over the processes.
        return loss * self.accelerator.num_processes

    def heldout_loss(self) -> Any:
        """The held-out rows' loss, over all processes."""
        rows = self.args.per_device_train_batch_size
        pad = self.processing_class.pad_token_id
        measured: TokenLoss = token_loss(self.model_wrapped, self.accelerator, self.heldout, pad, rows)
        return measured

    def compared(self, before: Any, after: Any) -> dict[str, Any]:
        """What metrics.json holds of the held-out rows beside their loss."""
        return {}

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save what was trained whole, whatever an accelerate config says of the checkpoints that are resumed from.

        Under FSDP with SHARDED_STATE_DICT transformers saves the processes' shards alone, which no reader of an adapter knows.
        """
        super().save_model(output_dir, _internal_call)
        if self.is_fsdp_enabled and "FULL_STATE_DICT" not in str(self.accelerator.state.fsdp_plugin.state_dict_type):
            gathered = self.accelerator.get_state_dict(self.model)  # by all processes
            self._save(output_dir or self.args.output_dir, state_dict=gathered)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        limit, self.args.save_total_limit = self.args.save_total_limit, None  # transformers removes whole folders
        with saving(Path(self.args.output_dir)):
            super()._save_checkpoint(model, trial)
        self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()  # each process writes its own random state
        if self.args.should_save:
            folder = Path(self.args.output_dir)
            complete(folder / f"checkpoint-{self.state.global_step}")
            keep_newest(folder.parent, limit)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: kollm writes its own cards."""


def compile_layers(model: Any) -> None:
    """Have torch.compile fuse what stands between the matrix products, once for all of a model's layers.

    transformers' own `torch_compile` makes one program of all layers; a layer at a time, they share theirs.
    """
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):  # what transformers makes its decoder layers of
            module.compile(dynamic=True)


class EpochStart(TrainerCallback):  # type: ignore[misc]
    """Tells the batches which epoch begins: the one that the step counter says, on resuming too."""

    def __init__(self, batches: StepBatches) -> None:
        self._batches = batches

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._batches.epoch = state.global_step // self._batches.steps


class Lines(TrainerCallback):  # type: ignore[misc]
    """One plain line a log entry, from the first process."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if state.is_world_process_zero and logs and "loss" in logs:
            say(f"train: step {state.global_step} of {state.max_steps}, loss {logs['loss']:.4f}")


class Clock(TrainerCallback):  # type: ignore[misc]
    """Seconds spent in optimizer steps, and the step that this process began with."""

    def __init__(self) -> None:
        self.first_step = 0
        self.seconds = 0.0
        self._since = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.first_step, self._since = state.global_step, time.monotonic()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.seconds = time.monotonic() - self._since


class Before(TrainerCallback):  # type: ignore[misc]
    """The held-out loss of the untrained adapter: measured when the weights are where training has them (sharded, on
    the device), once; read back on resuming."""

    def __init__(self, trainer: StepTrainer, file: Path) -> None:
        self._trainer, self._file = trainer, file
        self.measured: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not self._trainer.heldout:
            return
        if state.global_step > 0 and self._file.is_file():
            self.measured = self._trainer.measurement(**read_json(self._file))
            return
        self.measured = self._trainer.heldout_loss()
        if state.is_world_process_zero:
            write_json(self._file, self.measured._asdict())


def train(trainer: StepTrainer, output: Path, evaluations: Evaluations | None = None) -> dict[str, Any]:
    """Train to the end, from the last whole checkpoint if there is one.

    Returns:
        What `metrics.json` holds: the history, the held-out loss before and after, throughput and seconds.

    Raises:
        StateError: the memory of the device is full; `out_of_memory.json` then tells `launch` to halve the device batch.
    """
    started = time.monotonic()
    checkpoint = last_checkpoint(output)
    main = trainer.accelerator.is_main_process
    try:
        before = Before(trainer, output / CHECKPOINTS / BEFORE)
        trainer.add_callback(before)
        if evaluations is not None:
            trainer.add_callback(evaluations)
        if checkpoint is not None and main:
            say(f"train: resuming from {checkpoint.name}")
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        best = evaluations.finish() if evaluations is not None else None
        after = trainer.heldout_loss() if trainer.heldout else None
    except torch.OutOfMemoryError as error:
        batch = trainer.step_layout.device_batch
        write_json(output / CHECKPOINTS / OUT_OF_MEMORY, {"device_batch": batch})
        raise StateError(
            f"The device's memory is full at trainer.per_device_train_batch_size={batch} - lower it, or set "
            "trainer.gradient_checkpointing=true; `kollm plan` tells what fits."
        ) from error
    except pickle.UnpicklingError as error:  # torch unpickles nothing but tensors and numbers
        raise StateError(
            f"'{checkpoint}' is damaged, or holds pickled code, which is never run - remove that folder; the training goes on "
            "from the checkpoint before."
        ) from error
    if before.measured and after and main:
        say(
            f"train: held-out loss {before.measured.loss:.4f} before, {after.loss:.4f} after, over {counted(after.over, trainer.unit)}"
        )
    return {
        "history": [entry for entry in trainer.state.log_history if "loss" in entry],
        "heldout": {
            "rows": len(trainer.heldout),
            "tokens": after.tokens if after else 0,
            "before": before.measured.loss if before.measured else None,
            "after": after.loss if after else None,
            **(trainer.compared(before.measured, after) if before.measured and after else {}),
        },
        **({**evaluations.about(), "best_step": best} if evaluations is not None else {}),
        "throughput": throughput(trainer),
        "seconds": round(time.monotonic() - started, 1),
        "steps": trainer.state.global_step,
    }


def throughput(trainer: StepTrainer) -> dict[str, float]:
    """Tokens a second over all processes: of data, with padding, and of those under the loss; since the last resume."""
    clock = next(item for item in trainer.callback_handler.callbacks if isinstance(item, Clock))
    count = trainer.batches.tokens(clock.first_step, trainer.state.global_step)
    seconds = max(clock.seconds, 1e-9)
    return {
        "seconds": round(clock.seconds, 2),
        "steps": trainer.state.global_step - clock.first_step,
        "tokens_per_second": round(count.real / seconds, 1),
        "padded_tokens_per_second": round(count.computed / seconds, 1),
        "supervised_tokens_per_second": round(count.supervised / seconds, 1),
        "padding": round(1 - count.real / max(count.computed, 1), 4),
    }
