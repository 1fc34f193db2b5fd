"""Preference tuning: kollm's trainer on pairs of answers, with what the model said before its first step as the reference.

The reference is the model that training starts from: the base where the adapter is fresh, else the adapter that was given. It
never changes, so that its words on every pair are measured once, before the first step, and kept for a resumed run; no second
model and no second adapter is held. Dropout is off, as in TRL's trainers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save
from transformers import TrainerCallback
from trl.trainer.utils import disable_dropout_in_model

from kollm.core.counting import counted
from kollm.core.errors import StateError
from kollm.core.files import write_atomic
from kollm.core.progress import say
from kollm.recipe.methods import METHODS, method_settings
from kollm.recipe.schema import Recipe
from kollm.train.checkpoints import CHECKPOINTS, REFERENCE
from kollm.train.data import IGNORED
from kollm.train.heldout import keep_weight_layout
from kollm.train.pairs import PairCollator, PairExample
from kollm.train.preference_losses import Given, Loss, Said, loss_of
from kollm.train.sft import Examples, StepTrainer

Words = NDArray[np.float64]
"""Summed log-probabilities, shape (pairs, 2): chosen, rejected; (pairs, 4) with KTO's mismatched answers behind them."""


class PairLoss(NamedTuple):
    """What held-out pairs show.

    Attributes:
        loss: mean over the pairs.
        tokens: tokens of the answers.
        pairs: how many.
        accuracy: share of the pairs whose chosen answer the model finds the likelier one, by the token for a method that compares
            by the token; a tie counts half.
        margin: mean of the implicit reward of the chosen answer less that of the rejected one.
        reward_accuracy: share of the pairs in which that difference is above zero; a tie counts half.
    """

    loss: float
    tokens: int
    pairs: int
    accuracy: float
    margin: float
    reward_accuracy: float

    @property
    def over(self) -> int:
        """What the loss is a mean over."""
        return self.pairs


class PairExamples(Examples):
    """Pairs with their places, by which the reference's words on them are found."""

    def __getitem__(self, index: int) -> tuple[int, PairExample]:
        return index, self.examples[index]


class PreferenceTrainer(StepTrainer):
    """StepTrainer on pairs: the same order of rows, microbatches, checkpoints and resumption, another loss.

    A step's loss is the mean over the step's pairs, whichever process and microbatch has them.
    """

    measurement = PairLoss
    unit = "pair"

    def __init__(self, recipe: Recipe, *arguments: Any) -> None:
        self.method = METHODS[recipe.method]
        self._loss, self._settings = loss_of(recipe.method), method_settings(recipe.method, recipe.trainer)
        self.reference: dict[str, Words] = {}
        self._step_pairs = self._step_tokens = 1
        self._divergence = torch.zeros(())
        super().__init__(*arguments)
        disable_dropout_in_model(self.model)

    def collator(self, pad_token_id: int) -> Any:
        return PairCollator(pad_token_id)

    def dataset(self, examples: Sequence[Any]) -> Examples:
        return PairExamples(examples)

    def get_batch_samples(self, *args: Any) -> Any:
        """The step's microbatches of this process; what is counted over the whole step is counted here."""
        samples, items = super().get_batch_samples(*args)
        if not samples:
            return samples, items
        pairs = sum(len(batch["places"]) for batch in samples)
        tokens = sum(int((batch["labels"][: len(batch["places"]), 1:] != IGNORED).sum()) for batch in samples)
        counted = torch.tensor([pairs, tokens], dtype=torch.long, device=self.accelerator.device)
        self._step_pairs, self._step_tokens = self.accelerator.reduce(counted, reduction="sum").clamp(min=1).tolist()
        if self.method.diverges:
            self._divergence = self._measure_divergence(samples)
        return samples, items

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The microbatch's share of the step's loss."""
        places = inputs["places"]
        outputs = model(**_of_rows(inputs), use_cache=False, fused_lm_head=True)
        policy = said(outputs, len(places))
        words = torch.as_tensor(self.reference["train"][places.cpu().numpy()], dtype=torch.float32).to(
            policy.chosen.device
        )
        found = self._loss(Given(policy, (words[:, 0], words[:, 1]), self._divergence), self._settings)
        loss = found.values.sum() / self._step_pairs
        if found.likelihood:
            loss = loss - policy.chosen.sum() / self._step_tokens
        if not len(places):  # a microbatch without pairs stays connected to the model, with a gradient of zero
            loss = loss + 0.0 * outputs.log_probs.sum()
        if self.aux_loss_enabled:
            loss = loss + self.router_aux_loss_coef * len(places) / self._step_pairs * outputs.aux_loss
        return loss * self.accelerator.num_processes  # DDP averages the gradients over the processes

    def measure(self, examples: Sequence[PairExample]) -> Words:
        """What the model says of each pair now, in evaluation; the same numbers on any number of processes."""
        columns = 4 if self.method.diverges else 2
        words = torch.zeros(len(examples), columns, dtype=torch.float64, device=_exact(self.accelerator.device))
        rows = self.args.per_device_train_batch_size
        ordered = sorted(range(len(examples)), key=lambda place: (-examples[place].length, place))
        batches = [ordered[start : start + rows] for start in range(0, len(ordered), rows)]
        processes = self.accelerator.num_processes
        was_training = self.model_wrapped.training
        self.model_wrapped.eval()
        keep_weight_layout(self.model_wrapped)
        with torch.no_grad():
            for turn in range(math.ceil(len(batches) / processes)):  # every process takes part in each sharded forward
                index = turn * processes + self.accelerator.process_index
                places = batches[index] if index < len(batches) else []
                batch = self._on_device(self.data_collator([(place, examples[place]) for place in places]))
                for column, prefix in enumerate(("", "kl_") if self.method.diverges else ("",)):
                    found = self._words(batch, prefix)
                    if places:
                        words[places, 2 * column] = found.chosen.to(words.device).double()
                        words[places, 2 * column + 1] = found.rejected.to(words.device).double()
        self.model_wrapped.train(was_training)
        total: torch.Tensor = self.accelerator.reduce(words, reduction="sum")
        measured: Words = total.cpu().numpy()
        return measured

    def heldout_loss(self) -> PairLoss:
        """The held-out pairs' loss, and how often and by how much the chosen answer is ahead."""
        pairs: Sequence[PairExample] = self.heldout
        words, reference = self.measure(pairs), self.reference["heldout"]
        found = self._loss_of(pairs, words, reference)
        loss = float(found.values.mean())
        tokens = np.array([[pair.chosen.supervised, pair.rejected.supervised] for pair in pairs])
        if found.likelihood:
            loss -= float(words[:, 0].sum() / tokens[:, 0].sum())
        likelier = words[:, :2] / tokens if self.method.by_token else words[:, :2]
        return PairLoss(
            loss=loss,
            tokens=int(tokens.sum()),
            pairs=len(pairs),
            accuracy=_share_above(likelier[:, 0] - likelier[:, 1]),
            margin=float(found.margins.mean()),
            reward_accuracy=_share_above(found.margins.numpy()),
        )

    def compared(self, before: PairLoss, after: PairLoss) -> dict[str, Any]:
        """Accuracy and margin of the held-out pairs, before the first step and after the last."""
        if self.accelerator.is_main_process:
            say(
                f"train: held-out accuracy {before.accuracy:.3f} before, {after.accuracy:.3f} after; margin {before.margin:.4f} "
                f"before, {after.margin:.4f} after"
            )
        names = ("accuracy", "margin", "reward_accuracy")
        return {name: {"before": getattr(before, name), "after": getattr(after, name)} for name in names}

    def _loss_of(self, pairs: Sequence[PairExample], words: Words, reference: Words) -> Loss:
        tensors = [torch.from_numpy(column) for column in words.T]
        counts = [torch.tensor([getattr(pair, side).supervised for pair in pairs]) for side in ("chosen", "rejected")]
        divergence = torch.zeros(())
        if self.method.diverges:
            divergence = torch.as_tensor(max(float((words[:, 2:] - reference[:, 2:]).mean()), 0.0))
        base = (torch.from_numpy(reference[:, 0]), torch.from_numpy(reference[:, 1]))
        return self._loss(Given(Said(tensors[0], tensors[1], *counts), base, divergence), self._settings)

    def _measure_divergence(self, samples: Sequence[Mapping[str, Any]]) -> torch.Tensor:
        """Mean of log policy - log reference over the mismatched answers of the whole step, not below 0."""
        total = torch.zeros(2, dtype=torch.float64, device=_exact(self.accelerator.device))
        with torch.no_grad():
            for batch in samples:
                places = batch["places"]
                found = self._words(self._on_device(batch), "kl_")
                if len(places):
                    words = torch.as_tensor(self.reference["train"][places.cpu().numpy(), 2:]).to(total.device)
                    total[0] += (
                        torch.stack([found.chosen, found.rejected], dim=1).to(total.device).double() - words
                    ).sum()
                    total[1] += 2 * len(places)
        total = self.accelerator.reduce(total, reduction="sum")
        return (total[0] / total[1].clamp(min=1)).clamp(min=0).float().to(self.accelerator.device)

    def _words(self, batch: Mapping[str, Any], prefix: str) -> Said:
        with self.accelerator.autocast():
            # A process without pairs has no such rows, and takes part all the same.
            rows = _of_rows(batch, prefix) or _of_rows(batch)
            outputs = self.model_wrapped(**rows, use_cache=False, fused_lm_head=True)
        return said(outputs, len(batch["places"]))

    def _on_device(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value.to(self.accelerator.device) for key, value in batch.items()}


def said(outputs: Any, pairs: int) -> Said:
    """What the rows of a microbatch come to: the chosen ones first, then as many rejected ones."""
    sums, counts = outputs.log_probs.sum(1).float(), outputs.label_mask.sum(1)
    return Said(sums[:pairs], sums[pairs : 2 * pairs], counts[:pairs], counts[pairs : 2 * pairs])


class Reference(TrainerCallback):  # type: ignore[misc]
    """Measures the reference's words where the weights are as training has them, once; reads them back on resuming."""

    def __init__(self, trainer: PreferenceTrainer, output: Path) -> None:
        self._trainer = trainer
        self._file = output / CHECKPOINTS / REFERENCE

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        trainer = self._trainer
        parts = {"train": trainer.train_dataset.examples, "heldout": trainer.heldout}
        columns = 4 if trainer.method.diverges else 2
        if not trainer.method.reference:
            trainer.reference = {name: np.zeros((len(examples), columns)) for name, examples in parts.items()}
            return
        if state.global_step > 0:
            trainer.reference = self._read(parts, columns)
            return
        if state.is_world_process_zero:
            pairs = sum(map(len, parts.values()))
            say(
                f"train: what the model says of {counted(pairs, 'pair')} before training is measured once, as the reference"
            )
        trainer.reference = {name: trainer.measure(examples) for name, examples in parts.items()}
        if state.is_world_process_zero:
            write_atomic(self._file, save(trainer.reference))
        trainer.accelerator.wait_for_everyone()

    def _read(self, parts: Mapping[str, Sequence[Any]], columns: int) -> dict[str, Words]:
        found = load_file(self._file) if self._file.is_file() else {}
        if any(found.get(name, np.zeros(0)).shape != (len(examples), columns) for name, examples in parts.items()):
            raise StateError(
                f"'{self._file}', the reference's words on the pairs, is not there or of other pairs - remove the checkpoints' "
                "folder and train again."
            )
        return dict(found)


def _exact(device: torch.device) -> torch.device:
    """Where float64 can be summed: Apple's GPUs have none."""
    return torch.device("cpu") if device.type == "mps" else device


def _of_rows(batch: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    names = ("input_ids", "labels", "attention_mask")
    return {name: batch[f"{prefix}{name}"] for name in names if f"{prefix}{name}" in batch}


def _share_above(values: Any) -> float:
    """The share of values above zero; a tie counts half."""
    return float(((values > 0) + 0.5 * (values == 0)).mean())
