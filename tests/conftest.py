"""Before any test imports torch: its threads sleep while they wait, or they starve each other on shared cores."""

import gc
import os
import shutil
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.processes import TRAINING, Starter

# The same examples on every run of CI, so that a submission fails for what it changed; new ones on a developer's machine.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# bitsandbytes 0.49 has torch compile its functions for processors as it is imported, and peft imports it: a fifth of what
# a process of a test takes. Where there is a card, compiled layers are tested.
if shutil.which("nvidia-smi") is None:
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

# A shell that starts a command in the background has it ignore Ctrl-C, and so would the processes that tests start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """What the tests' imports made stays: transformers collects garbage at the start and end of each training, and would
    walk through a million objects of torch's modules each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def training_starter() -> Iterator[Starter]:
    """Starts processes that have imported torch and all that trains."""
    with Starter(TRAINING) as starter:
        yield starter
