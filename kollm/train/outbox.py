"""Whole checkpoints as adapters of their own, set aside for the command above, which publishes them: `train` knows no Hub.

`OUT/outbox/step-200` appears whole or not at all, in the order of the steps, and holds what a finished adapter holds. Who
sends it removes it, and notes its step in `sent.json`.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from kollm.core.files import ensure_folder, read_jsonl, read_object, write_json
from kollm.core.ownership import list_files, write_sealed
from kollm.core.progress import say
from kollm.train.checkpoints import CHECKPOINTS, EVALUATIONS, MARKER, OUTBOX, RECIPE, SENT

WEIGHTS = "adapter_model.safetensors"
_KEPT = (".safetensors", ".json", ".jinja", ".txt", ".model")
_LEFT = ("trainer_state.json", "complete.json")


class Outbox(TrainerCallback):  # type: ignore[misc]
    """Sets each checkpoint aside once it is whole; a resumed training's newest too, if it was not sent.

    Args:
        output: the adapter's folder.
        about: what training.json says of an adapter in a folder.
        metrics: what is known of the data.
    """

    def __init__(self, output: Path, about: Callable[[Path], Mapping[str, Any]], metrics: Mapping[str, Any]) -> None:
        self._output, self._about, self._metrics = output, about, metrics
        self._started = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step and state.is_world_process_zero:
            self._put(state)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            self._put(state)

    def _put(self, state: Any) -> None:
        step = int(state.global_step)
        checkpoint = self._output / CHECKPOINTS / f"checkpoint-{step}"
        place = self._output / OUTBOX / f"step-{step}"
        if place.is_dir() or step in sent_steps(self._output):
            return
        if not (checkpoint / WEIGHTS).is_file():
            say(f"train: checkpoint {step} is not set aside to be pushed, since its weights are shared over processes")
            return
        work = ensure_folder(place.with_name(f".{place.name}"))
        for path in checkpoint.iterdir():
            if path.suffix in _KEPT and path.name not in _LEFT:
                _link(path, work / path.name)
        _link(self._output / RECIPE, work / RECIPE)
        evaluations = self._output / CHECKPOINTS / EVALUATIONS
        measured = list(read_jsonl(evaluations)) if evaluations.is_file() else []
        metrics = {
            **{key: value for key, value in self._metrics.items() if key in ("rows", "tokens", "shares")},
            "history": [entry for entry in state.log_history if "loss" in entry],
            "evaluations": [row for row in measured if row["step"] <= step],
            "heldout": {"rows": 0, "tokens": 0, "before": None, "after": None},  # measured at the end alone
            "seconds": round(time.monotonic() - self._started, 1),
            "steps": step,
        }
        write_json(work / "metrics.json", metrics)
        about = {**self._about(place), "checkpoint": {"step": step, "of": int(state.max_steps)}}
        write_sealed(work / MARKER, {**about, "files": list_files(work)})
        work.rename(place)


def sent_steps(output: Path) -> set[int]:
    """The steps whose checkpoints were sent."""
    path = output / OUTBOX / SENT
    return set(read_object(path).get("steps", ())) if path.is_file() else set()


def waiting(output: Path) -> list[Path]:
    """The checkpoints that wait to be sent, in order."""
    found = (path for path in (output / OUTBOX).glob("step-*") if (path / MARKER).is_file())
    return sorted(found, key=step_of)


def step_of(folder: Path) -> int:
    """The step of a checkpoint in the outbox."""
    return int(folder.name.removeprefix("step-"))


def _link(source: Path, target: Path) -> None:
    """The same file under another name, so that it stays when the checkpoint is removed; a copy where links are not had."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
