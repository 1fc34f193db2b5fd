"""What `kollm doctor` says of a Hub that answers, one that refuses, and none."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from huggingface_hub import HfApi, constants

from kollm.cli import cli
from kollm.cli.doctor import PUBLIC_MODEL
from tests.servers.hub import Fault, LoopbackHub


def said() -> str:
    return next(line for line in CliRunner().invoke(cli, ["doctor"]).output.splitlines() if line[5:].startswith("Hub"))


def test_a_hub_that_answers_was_reached(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert said() == (
        f"--   Hub            {hub.endpoint} reached; it answered 404 to the question for {PUBLIC_MODEL} - check "
        "HF_ENDPOINT, or try again later"
    )
    hub.faults.append(Fault("GET", "/api/models/", 401))
    assert "it answered 401 to the question" in (line := said()) and line.endswith("check HF_TOKEN")
    hub.add_account("hf_them", "EleutherAI")
    HfApi(token="hf_them").create_repo(PUBLIC_MODEL)
    assert said() == f"ok   Hub            {hub.endpoint} reached"
    monkeypatch.setattr(constants, "ENDPOINT", "http://me:secret@127.0.0.1:9")
    assert said().startswith("--   Hub            http://127.0.0.1:9 not reached (")
