"""The local tracker: trackio, in the adapter's folder, beside metrics.json.

TRACKIO_DIR=OUT/trackio trackio show --project kollm
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from kollm.train.checkpoints import TRACKER

PROJECT = "kollm"


class Tracker(TrainerCallback):  # type: ignore[misc]
    """Logs every log entry of the first process to trackio's database under `OUT/trackio`: one run, each step once."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._trackio: Any = None
        self._logged: set[int] = set()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not state.is_world_process_zero:
            return
        folder, resume = self._output / TRACKER, "allow" if state.global_step else "never"
        if not state.global_step:  # what a start left that ended before its first checkpoint
            for path in folder.glob(f"{PROJECT}*"):
                path.unlink()
        os.environ.setdefault("TRACKIO_DIR", str(folder))  # trackio reads it on import
        with contextlib.redirect_stdout(io.StringIO()):
            self._trackio = importlib.import_module("trackio")
            name = args.run_name or self._output.absolute().name
            run = self._trackio.init(project=PROJECT, name=name, resume=resume, embed=False)
        storage = importlib.import_module("trackio.sqlite_storage").SQLiteStorage
        self._logged = {entry["step"] for entry in storage.get_logs(PROJECT, run_id=run.id)}
        for entry in state.log_history:  # a kill loses what trackio had not written yet
            self._log(entry, entry["step"])

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        self._log(logs or {}, state.global_step)

    def _log(self, entry: Mapping[str, Any], step: int) -> None:
        """Log an entry with a loss, unless the run has its step: those between checkpoint and kill come a second time."""
        if self._trackio is not None and "loss" in entry and step not in self._logged:
            self._trackio.log({key: value for key, value in entry.items() if key != "step"}, step=step)
            self._logged.add(step)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._trackio is not None:
            with contextlib.redirect_stdout(io.StringIO()):
                self._trackio.finish()
