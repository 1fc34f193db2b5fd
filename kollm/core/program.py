"""What every program of kollm's sets for its process before it imports what is large."""

from __future__ import annotations

import atexit
import gc
import os

NO_TELEMETRY = {
    "HF_HUB_DISABLE_TELEMETRY": "1",  # trl tells the Hub the architecture, the GPU and where the rows came from
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "WANDB_ERROR_REPORTING": "false",
}
"""Environment variable -> the value with which a library tells its makers nothing of the run."""


def prepare_process() -> None:
    """Set threads, telemetry and Python's collector, for this process and, by the environment, for those it starts.

    What the user has set in the environment stays.
    """
    for name, value in NO_TELEMETRY.items():
        os.environ.setdefault(name, value)
    # Torch's threads spin while they wait: on cores shared with other work that made training twenty times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Rows and verdicts are many, live long and hold no cycles: looking for cycles as often as Python does by default took a
    # sixth of the time of a replay and of a report.
    gc.set_threshold(10_000, 20, 20)
    # Nor at the end, which takes 1.5 seconds once torch and trl are loaded: what has to be closed is closed where it was
    # opened, and memory goes with the process.
    atexit.unregister(gc.freeze)  # of an earlier call
    atexit.register(gc.freeze)
