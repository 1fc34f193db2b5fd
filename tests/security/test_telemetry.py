"""No command lets a library tell its makers of the run, unless the user wants it to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from kollm.core.program import NO_TELEMETRY

ASK = """
import json
from kollm.cli import main
try:
    main(["recipe", "list"])
except SystemExit:
    pass
import huggingface_hub.utils._telemetry as hub, mlflow.telemetry.utils as mlflow, ray._common.usage.usage_lib as ray, wandb
hub.send_telemetry("trl/other", library_name="trl")
print(json.dumps({
    "hub": hub._TELEMETRY_THREAD is not None,
    "mlflow": not mlflow.is_telemetry_disabled(),
    "ray": ray.usage_stats_enabled(),
    "wandb": wandb.env.error_reporting_enabled(),
}))
"""


def reports(**variables: str) -> dict[str, Any]:
    """Which libraries would report, in a process of its own after a command ran there."""
    ours = {name: value for name, value in os.environ.items() if name not in NO_TELEMETRY}
    for name in ("CI", "GITHUB_ACTIONS", "PYTEST_CURRENT_TEST", "HF_HUB_OFFLINE", "DO_NOT_TRACK", "DISABLE_TELEMETRY"):
        ours.pop(name, None)
    # The loopback address refuses at once: what a library sent would go nowhere.
    ours |= {"HF_ENDPOINT": "http://127.0.0.1:9", **variables}
    done = subprocess.run([sys.executable, "-c", ASK], env=ours, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


WANTED = {
    "HF_HUB_DISABLE_TELEMETRY": "0",
    "MLFLOW_DISABLE_TELEMETRY": "false",
    "RAY_USAGE_STATS_ENABLED": "1",
    "WANDB_ERROR_REPORTING": "true",
}


@pytest.mark.slow
def test_no_library_reports() -> None:
    assert reports() == {"hub": False, "mlflow": False, "ray": False, "wandb": False}


@pytest.mark.slow
@pytest.mark.nightly("tests/security/test_telemetry.py::test_no_library_reports")
def test_a_user_who_wants_it_is_not_overruled() -> None:
    assert reports(**WANTED) == {"hub": True, "mlflow": True, "ray": True, "wandb": True}
