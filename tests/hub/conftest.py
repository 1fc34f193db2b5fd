"""A loopback Hub for each test; the clients of this process talk to it, with a cache of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import close_session, constants, hf_api
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

from tests.servers.hub import LoopbackHub

WRITER, READER, STRANGER, FINE = "hf_writer", "hf_reader", "hf_stranger", "hf_fine"
Client = Callable[..., str]


@pytest.fixture
def server() -> Iterator[LoopbackHub]:
    """The server, with accounts: `maker` by tokens that may write, may only read, and may write in `lab` alone."""
    with LoopbackHub() as server:
        server.add_account(WRITER, "maker", orgs=("lab",))
        server.add_account(READER, "maker", role="read")
        server.add_account(FINE, "maker", role="fineGrained", orgs=("lab",), scopes=("lab",))
        server.add_account(STRANGER, "stranger")
        yield server


@pytest.fixture
def hub(server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """The server, for the huggingface_hub of this process; HF_TOKEN may write."""
    monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
    monkeypatch.setattr(hf_api.api, "endpoint", server.endpoint)  # of the functions of the module, which peft calls
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setenv("HF_TOKEN", WRITER)
    # Its waits between tries take no time; those of everybody else do.
    unhurried = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
    monkeypatch.setattr("huggingface_hub.utils._http.time", unhurried)
    disable_progress_bars()
    yield server
    close_session()
    enable_progress_bars()


@pytest.fixture
def client(server: LoopbackHub, tmp_path: Path) -> Client:
    """Runs Python code in a process of its own with an empty cache, and returns what it printed."""

    def run(code: str, token: str = "", home: Path | None = None, **variables: str) -> str:
        environment = {**os.environ, **server.environment(home or tmp_path / "home", token), **variables}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=280
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
