"""`dataset_scripts/... --push`: one command builds, checks and publishes, and goes on from wherever it stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from huggingface_hub import HfApi

from kollm.cli import cli
from kollm.core.errors import InputError, KollmError
from kollm.services.repository import pull
from tests.servers.deepl import KEY, DeepLServer
from tests.servers.deepl import Fault as DeepLFault
from tests.servers.hub import Fault, LoopbackHub

ROOT = Path(__file__).parents[2]
REPO = "maker/ko-instruct"


@pytest.fixture
def deepl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DeepLServer]:
    with DeepLServer() as server:
        monkeypatch.setenv("DEEPL_AUTH_KEY", KEY)
        monkeypatch.setenv("DEEPL_SERVER_URL", server.url)
        monkeypatch.setenv("KOLLM_LEDGER", str(tmp_path / "ledger.db"))
        yield server


def options_of(script: str) -> list[str]:
    """What a builder script hands to `kollm`, with its own sources."""
    import runpy

    return list(runpy.run_path(str(ROOT / "dataset_scripts" / script), run_name="options")["BUILD"])


def build(output: Path, *extra: str) -> tuple[str, BaseException | None]:
    line = [
        "data",
        "build",
        *options_of("ko_instruct.py"),
        "--input",
        "sample",
        "--limit",
        "4",
        "--translator",
        "deepl",
    ]
    result = CliRunner().invoke(cli, [*line, "-o", str(output), *extra])
    return result.output, result.exception


def test_one_command_builds_checks_and_publishes_and_resumes_at_each(
    hub: LoopbackHub, deepl: DeepLServer, tmp_path: Path
) -> None:
    output = tmp_path / "D"
    deepl.state.faults.extend([DeepLFault(), DeepLFault(status=456)])  # the quota ends after the first request
    _, error = build(output, "--push", REPO)
    assert isinstance(error, KollmError)
    assert not output.exists()
    with pytest.raises(KollmError, match="no dataset"):
        pull(REPO, "dataset")

    deepl.state.faults.clear()
    hub.faults.append(Fault("POST", f"/api/datasets/{REPO}/commit/main", status=403))
    _, error = build(output, "--push", REPO)
    assert isinstance(error, KollmError)
    assert "What readers see is still whole" in str(error)
    assert (output / "manifest.json").is_file(), "what was built stays"
    billed, manifest = deepl.state.used, (output / "manifest.json").read_bytes()

    said, error = build(output, "--push", REPO)
    assert error is None, said
    assert deepl.state.used == billed, "nothing is bought twice"
    assert (output / "manifest.json").read_bytes() == manifest
    assert f"{REPO}: revision " in said
    assert "tag v1" in said
    assert (pull(REPO, "dataset").folder / "manifest.json").read_bytes() == manifest
    assert sorted(tag.name for tag in HfApi().list_repo_refs(REPO, repo_type="dataset").tags) == ["v1"]
    said, error = build(output, "--push", REPO)
    assert error is None
    assert "nothing had changed" in said


@pytest.mark.parametrize(
    "script", ["ko_instruct.py", "ko_dolly.py", "ko_sharegpt.py", "ko_gpt4_llm.py", "ko_human_eval.py"]
)
def test_each_script_says_that_it_publishes(script: str) -> None:
    text = (ROOT / "dataset_scripts" / script).read_text(encoding="utf-8")
    assert "--push ORG/NAME" in text.split('"""')[1]


def test_what_the_hub_would_not_take_is_said_before_anything_is_bought(
    hub: LoopbackHub, deepl: DeepLServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, error = build(tmp_path / "D", "--push", "another/ko")
    assert isinstance(error, InputError)
    assert "'another' is not yours to publish under" in str(error)
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "물음", "answer": "답"}\n', encoding="utf-8")
    result = CliRunner().invoke(
        cli, ["data", "build", "own", "--input", str(rows), "-o", str(tmp_path / "D"), "--push", REPO]
    )
    assert "name no licence, which a push needs - name it with --licence" in str(result.exception)
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    _, error = build(tmp_path / "D", "--push", REPO)
    assert isinstance(error, InputError)
    assert "may only read" in str(error)
    assert not (tmp_path / "D").exists()
    assert deepl.state.used == 0
    result = CliRunner().invoke(cli, ["data", "build", "dolly", "--private", "-o", str(tmp_path / "D")])
    assert result.exit_code == 2
    assert "--private is for --push" in result.output
