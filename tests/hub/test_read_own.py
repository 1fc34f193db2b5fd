"""Rows of a user's own from the Hub: configs, splits and revisions are chosen as they are named, or asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from huggingface_hub import HfApi

from kollm.cli import cli
from kollm.core.errors import InputError
from kollm.core.records import Record
from kollm.dataset.folder import read_manifest, read_records
from kollm.dataset.given import given_dataset
from kollm.sources.own import OwnOptions, read_own
from tests.servers.hub import LoopbackHub

TURNS = {"messages": [{"role": "user", "content": "물음"}, {"role": "assistant", "content": "대답"}]}
PAIR = {"question": "질문", "answer": "답"}
CARD = """---
configs:
- config_name: chat
  data_files:
  - split: train
    path: chat/train.jsonl
- config_name: qa
  data_files:
  - split: train
    path: qa/train-*.jsonl
  - split: test
    path: qa/test.jsonl
---
# Rows
"""


def publish(name: str, files: dict[str, bytes | str]) -> str:
    api = HfApi()
    api.create_repo(name, repo_type="dataset", exist_ok=True)
    commit = ""
    for path, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        commit = str(api.upload_file(path_or_fileobj=data, path_in_repo=path, repo_id=name, repo_type="dataset").oid)
    return commit


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def asked(name: str, **options: Any) -> list[str]:
    return [row.instruction for row in read_own(name, OwnOptions(**options)).records() if isinstance(row, Record)]


@pytest.fixture
def several(hub: LoopbackHub) -> str:
    files: dict[str, bytes | str] = {"README.md": CARD, "chat/train.jsonl": lines(TURNS)}
    parts = {f"qa/train-{n}.jsonl": lines(PAIR | {"question": f"질문 {n}"}) for n in range(2)}
    publish("lab/rows", {**files, **parts, "qa/test.jsonl": lines(PAIR)})
    return "lab/rows"


def test_several_configs_are_named_and_chosen(several: str) -> None:
    with pytest.raises(InputError, match=r"'lab/rows' has several configs - name one with --hub-config: chat, qa\."):
        read_own(several)
    with pytest.raises(InputError, match=r"'lab/rows' has no config 'other' - name one with --hub-config: chat, qa\."):
        read_own(several, OwnOptions(config="other"))
    assert asked(several, config="chat") == ["물음"]
    assert asked(several, config="qa") == ["질문 0", "질문 1"]
    assert asked(several, config="qa", split="test") == ["질문"]
    assert asked(several, config="qa", asked=True) == ["질문"], "questions come from the test split"
    with pytest.raises(InputError, match="has the splits train - name one with --split"):
        read_own(several, OwnOptions(config="chat", split="test"))


def test_the_commands_take_the_config(several: str, tmp_path: Path) -> None:
    line = ["data", "leaks", several, "--hub-config", "chat"]
    result = CliRunner().invoke(cli, line)
    assert result.exit_code == 0, result.output
    folder = Path(given_dataset(several, tmp_path, OwnOptions(config="qa", licence="MIT")))
    assert len(list(read_records(folder))) == 2
    assert read_manifest(folder)["sources"][0]["from"] == several
    line = ["data", "mix", f"{several}:name=x", "-o", str(tmp_path / "m")]
    result = CliRunner().invoke(cli, line)
    assert "has several configs - name one with --hub-config" in str(result.exception)


def test_a_revision_stays_what_it_was(hub: LoopbackHub) -> None:
    first = publish("lab/one", {"rows.jsonl": lines(PAIR)})
    publish("lab/one", {"rows.jsonl": lines(PAIR, PAIR)})
    assert len(asked("lab/one")) == 2
    assert len(asked(f"lab/one@{first}")) == 1
    assert read_own(f"lab/one@{first}").revision == first
    with pytest.raises(InputError, match="has no revision 'v9' - name a tag, branch or commit that it has"):
        read_own("lab/one@v9")


@pytest.mark.parametrize("token", ["hf_writer", "hf_stranger", ""])
def test_what_may_not_be_read_is_one_sentence(token: str, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    publish("lab/closed", {"rows.jsonl": lines(PAIR)})
    hub.repository("datasets", "lab/closed").gated = ()
    monkeypatch.setenv("HF_TOKEN", token) if token else monkeypatch.delenv("HF_TOKEN")
    if token == "hf_writer":
        assert asked("lab/closed") == ["질문"]
        return
    with pytest.raises(
        InputError, match=r"The dataset 'lab/closed' is gated and this token is not on its list - ask for access"
    ):
        read_own("lab/closed")


def test_what_is_not_there_is_one_sentence(hub: LoopbackHub, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no dataset 'lab/none' on the Hub that your token may read"):
        read_own("lab/none")
    publish("lab/pictures", {"a.png": b"\x89PNG"})
    with pytest.raises(InputError, match="The dataset 'lab/pictures' has no file that kollm reads"):
        read_own("lab/pictures")
    with pytest.raises(InputError, match="names no configs - leave out --hub-config x"):
        read_own("lab/pictures", OwnOptions(config="x"))
