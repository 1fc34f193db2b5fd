"""The local tracker: trackio, in the adapter's folder, beside metrics.json.

TRACKIO_DIR=OUT/trackio trackio show --project kollm
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

PROJECT = "kollm"


class Tracker(TrainerCallback):  # type: ignore[misc]
    """Logs every log entry of the first process to trackio's database under `OUT/trackio`."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._trackio: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not state.is_world_process_zero:
            return
        os.environ.setdefault("TRACKIO_DIR", str(self._output / "trackio"))  # trackio reads it on import
        with contextlib.redirect_stdout(io.StringIO()):
            self._trackio = importlib.import_module("trackio")
            self._trackio.init(project=PROJECT, name=self._output.absolute().name, resume="allow", embed=False)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if self._trackio is not None and logs and "loss" in logs:
            self._trackio.log(logs, step=state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._trackio is not None:
            with contextlib.redirect_stdout(io.StringIO()):
                self._trackio.finish()
