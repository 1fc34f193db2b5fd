"""`kollm doctor`: what a person needs to know before the first long run, and what to send with a bug report."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
from packaging.utils import canonicalize_name

from kollm.core.counting import counted
from kollm.core.extras import extras

DEMO = ("judge", "train", "translate")
"""The extras without which the demo does not run."""
KEYS = {
    "DEEPL_AUTH_KEY": "translation with DeepL",
    "OPENAI_API_KEY": "the judge, and translation by a model",
    "HF_TOKEN": "private repositories and publishing",
}
ENDPOINTS = ("DEEPL_SERVER_URL", "OPENAI_BASE_URL", "HF_ENDPOINT")
PUBLIC_MODEL = "EleutherAI/polyglot-ko-1.3b"
ROOM_GIB = 20.0
"""Disk below which a real run is likely to end early: a 5.8B base takes 11.9 GB in bf16, its checkpoints little more."""


class Line(NamedTuple):
    """One finding; `good` is None for a plain fact."""

    topic: str
    text: str
    good: bool | None = None


@click.command(short_help="Check versions, devices, keys, disk and the Hub.")
@click.option("--offline", is_flag=True, help="Do not try to reach the Hub.")
def doctor(offline: bool) -> None:
    """Check versions, devices, keys, disk and the Hub. Prints no key and changes nothing."""
    marks = {True: "ok   ", False: "--   ", None: "     "}
    for line in _lines(offline):
        click.echo(f"{marks[line.good]}{line.topic:<14} {line.text}")
    click.echo(
        f"\nThe demo needs these extras only: pip install 'kollm[{','.join(DEMO)}]'; no key, no GPU, no network."
    )


def _lines(offline: bool) -> Iterator[Line]:
    from kollm.core.address import without_password
    from kollm.core.version import __version__

    yield Line(
        "kollm", f"{__version__} on Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    )
    yield from _packages()
    yield from _devices()
    for name, use in KEYS.items():
        present = bool(os.environ.get(name))
        yield Line("key", f"{name} {'is set' if present else 'is not set'} ({use})", present)
    for name in ENDPOINTS:
        if os.environ.get(name):
            yield Line("endpoint", f"{name} points to {without_password(os.environ[name])}")
    yield from _disk()
    yield _ledger()
    if not offline:
        yield _hub()


def _packages() -> Iterator[Line]:
    installed: dict[str, str] = {
        canonicalize_name(each.name): each.version for each in importlib.metadata.distributions()
    }
    for extra, names in extras().items():
        found = [f"{name} {installed[name]}" for name in names if name in installed]
        missing = [name for name in names if name not in installed]
        if found:
            yield Line(extra, ", ".join(found), not missing)
        if missing:
            yield Line(extra, f"missing {', '.join(missing)} - pip install 'kollm[{extra}]'", False)


def _devices() -> Iterator[Line]:
    yield Line(
        "processor",
        counted(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, "core"),
    )
    if not importlib.util.find_spec("torch"):
        return
    import torch

    if not torch.cuda.is_available():
        yield Line("GPU", "none: the demo and the tests run; a real recipe wants one or more", None)
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        bf16 = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no bf16"
        yield Line("GPU", f"{index}: {properties.name}, {properties.total_memory / 2**30:.0f} GiB, {bf16}", True)


def _disk() -> Iterator[Line]:
    from huggingface_hub.constants import HF_HOME

    for name, folder in (("disk here", Path.cwd()), ("disk cache", Path(HF_HOME))):
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(existing).free / 2**30
        yield Line(name, f"{free:.0f} GiB free at {folder}", free >= ROOM_GIB)


def _ledger() -> Line:
    from kollm.services.ledger import default_path

    path = default_path()
    return Line("ledger", f"{path} ({'exists' if path.exists() else 'not yet made'})")


def _hub() -> Line:
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    from kollm.core.address import without_password

    where = without_password(constants.ENDPOINT)
    try:
        HfApi().model_info(PUBLIC_MODEL, timeout=5)
    except HfHubHTTPError as error:
        status = error.response.status_code
        what_to_do = "check HF_TOKEN" if status in (401, 403) else "check HF_ENDPOINT, or try again later"
        return Line(
            "Hub",
            f"{where} reached; it answered {status} to the question for {PUBLIC_MODEL} - {what_to_do}",
            False,
        )
    except Exception as error:
        return Line(
            "Hub",
            f"{where} not reached ({type(error).__name__}) - work offline or check the network",
            False,
        )
    return Line("Hub", f"{where} reached", True)
