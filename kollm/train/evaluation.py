"""What is looked at while training: the held-out loss every so many steps, the best weights so far, and a few answers.

`trainer.eval_steps` turns it on, `early_stopping` ends training when the loss no longer falls, `trainer.load_best_model_at_end`
keeps the best weights, and `generation.during_training` answers the same questions each time, so that one sees a model learn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import TrainerCallback

from kollm.core.counting import counted
from kollm.core.files import json_line, read_jsonl, write_atomic
from kollm.core.progress import say
from kollm.recipe.schema import Recipe
from kollm.train.checkpoints import CHECKPOINTS, EVALUATIONS, SAMPLES
from kollm.train.data import IGNORED, Example
from kollm.train.trackers import Trackers

BEST = "best"
LONGEST_ANSWER = 96
"""New tokens of an answer during training: enough to see what it says."""


class Question(NamedTuple):
    """A held-out row up to its last answer."""

    id: str
    tokens: list[int]


class Evaluations(TrainerCallback):  # type: ignore[misc]
    """Measures the held-out loss every `eval_steps` steps.

    Args:
        trainer: the StepTrainer.
        recipe: what to look at, and when to stop.
        output: the adapter's folder.
        ends: ids that end an answer.
        asked: question of each held-out row that is answered, by its id.
    """

    def __init__(
        self, trainer: Any, recipe: Recipe, output: Path, ends: Sequence[int], asked: Mapping[str, str]
    ) -> None:
        self._trainer, self._recipe, self._ends, self._asked = trainer, recipe, list(ends), asked
        self._file = output / CHECKPOINTS / EVALUATIONS
        self._samples = output / CHECKPOINTS / SAMPLES
        self._best = output / CHECKPOINTS / BEST
        self._every = float(recipe.trainer.get("eval_steps") or 0)
        self._questions = questions(trainer.heldout, recipe.generation.during_training)
        self.measured: list[dict[str, Any]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Go on from what was measured before this process began, up to the checkpoint that it resumes from."""
        for path in (self._file, self._samples):
            rows = [row for row in read_jsonl(path) if row["step"] <= state.global_step] if path.is_file() else []
            if path is self._file:
                self.measured = rows
            if path.is_file() and state.is_world_process_zero:
                write_atomic(path, "".join(map(json_line, rows)))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        steps = math.ceil(self._every * state.max_steps) if self._every < 1 else int(self._every)
        if not self._trainer.heldout or state.global_step % steps or state.global_step >= state.max_steps:
            return
        before = min((row["loss"] for row in self.measured), default=math.inf)
        loss = self._trainer.heldout_loss()
        row = {"step": state.global_step, "loss": loss.loss, "tokens": loss.tokens}
        self.measured.append(row)
        for tracker in self._trainer.callback_handler.callbacks:
            if isinstance(tracker, Trackers):
                tracker.on_log(args, state, control, {"eval_loss": loss.loss})
        main = state.is_world_process_zero
        if main:
            say(f"train: step {row['step']}, held-out loss {loss.loss:.4f}")
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json_line(row))
            self._answer(state.global_step)
        if loss.loss < before and self._recipe.trainer.get("load_best_model_at_end"):
            self._trainer.save_model(str(self._best))
        self._trainer.accelerator.wait_for_everyone()
        if self._is_over():
            if main:
                say(
                    f"train: the held-out loss has not fallen in {counted(self._recipe.early_stopping or 0, 'measurement')}; stopping early"
                )
            control.should_training_stop = True

    def about(self) -> dict[str, Any]:
        """What metrics.json holds of it: the measurements, and the answers where some were asked for."""
        samples = list(read_jsonl(self._samples)) if self._samples.is_file() else []
        return {"evaluations": self.measured, **({"samples": samples} if samples else {})}

    def finish(self) -> int | None:
        """Put the best weights back, if they are wanted; the step that they are of."""
        if not self._recipe.trainer.get("load_best_model_at_end") or not self.measured or not self._best.is_dir():
            return None
        best = min(self.measured, key=lambda row: (row["loss"], row["step"]))
        set_peft_model_state_dict(self._trainer.model, load_file(self._best / "adapter_model.safetensors"))
        say(f"train: the weights of step {best['step']} are kept, whose held-out loss was the least")
        return int(best["step"])

    def _is_over(self) -> bool:
        patience = self._recipe.early_stopping
        if patience is None or len(self.measured) <= patience:
            return False
        best = min(range(len(self.measured)), key=lambda place: self.measured[place]["loss"])
        return len(self.measured) - 1 - best >= patience

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _answer(self, step: int) -> None:
        """Answer the questions greedily and append them to the table."""
        if not self._questions:
            return
        model, tokenizer = self._trainer.model, self._trainer.processing_class
        was_training = model.training
        model.eval()
        rows = []
        for question in self._questions:
            ids = torch.tensor([question.tokens], device=model.device)
            said = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=LONGEST_ANSWER,
                do_sample=False,
                eos_token_id=self._ends or None,
                pad_token_id=tokenizer.pad_token_id,
            )[0, len(question.tokens) :]
            response = tokenizer.decode(said, skip_special_tokens=True).strip()
            asked = self._asked.get(question.id, "")
            rows.append({"step": step, "id": question.id, "question": asked, "response": response})
        model.train(was_training)
        with self._samples.open("a", encoding="utf-8") as file:
            file.write("".join(map(json_line, rows)))


def questions(examples: Sequence[Example], count: int) -> list[Question]:
    """The first held-out rows up to their last answer."""
    found = []
    for example in examples[:count]:
        labels = example.labels.tolist()
        end = max(place for place, label in enumerate(labels) if label != IGNORED) + 1
        start = end
        while start > 0 and labels[start - 1] != IGNORED:
            start -= 1
        if start:
            found.append(Question(example.id, example.input_ids[:start].tolist()))
    return found
