"""Before any test imports torch: its threads sleep while they wait, or they starve each other on shared cores."""

import gc
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests import warm
from tests.processes import TRAINING, Starter

# The same examples on every run of CI, so that a submission fails for what it changed; new ones on a developer's machine.
# None fails for the time that it takes, which is the machine's.
settings.register_profile(
    "kollm",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("kollm")

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# The tests of one worker fill a core; a second thread over tiny tensors costs a fifth more and wins nothing.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# bitsandbytes 0.49 has torch compile its functions for processors as it is imported, and peft imports it: a fifth of what
# a process of a test takes. Where there is a card, compiled layers are tested.
if shutil.which("nvidia-smi") is None:
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

# A shell that starts a command in the background has it ignore Ctrl-C, and so would the processes that tests start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

WARM: pytest.StashKey["subprocess.Popen[bytes]"] = pytest.StashKey()
"""The process that workers are forked off."""

_AT_FIRST: dict[str, Any] = {}
"""What compiles chat templates in this process: transformers' own, as it was before any test."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: list[Any]) -> None:
    """Workers are forked off one process that has collected the tests; to fork it is safe on Linux alone."""
    if sys.platform == "linux":
        config.stash[WARM] = warm.start(config.args, config.invocation_params.dir)
        for spec in specs:
            spec.python = shlex.join(warm.python())


def pytest_unconfigure(config: pytest.Config) -> None:
    if server := config.stash.get(WARM, None):
        server.communicate()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no worker begins one when the others are done."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """What the tests' imports made stays: transformers collects garbage at the start and end of each training, and would
    walk through a million objects of torch's modules each time."""
    gc.collect()
    gc.freeze()
    if module := sys.modules.get("transformers.utils.chat_template_utils"):
        _AT_FIRST["compile"] = module._compile_jinja_template


@pytest.fixture(scope="module", autouse=True)
def what_is_there_stays() -> None:
    """What earlier files imported is frozen too, once it is much."""
    if len(gc.get_objects()) > 100_000:
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True)
def templates_rendered_as_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever loads a model has all chat templates rendered in processes of their own from then on, .7 s for each template; a
    test that loads none would otherwise take a second or a thirtieth of it, by what ran before."""
    module = sys.modules.get("transformers.utils.chat_template_utils")
    if module is not None and "compile" in _AT_FIRST:
        monkeypatch.setattr(module, "_compile_jinja_template", _AT_FIRST["compile"])


@pytest.fixture(scope="session")
def training_starter() -> Iterator[Starter]:
    """Starts processes that have imported torch and all that trains."""
    with Starter(TRAINING) as starter:
        yield starter
