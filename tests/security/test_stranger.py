"""A repository as somebody hostile publishes it, with everything in it, given to every command that reads one: nothing runs
and nothing leaves."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from kollm.cli import main
from kollm.core import rendering
from tests.security.hostile_models import CODE, Bomb, change
from tests.train.conftest import row, write_dataset

BOMB = "{% for a in range(99999) %}{% for b in range(99999) %}{{ a * b }}{% endfor %}{% endfor %}"
RECIPE = """
extends: demo
base: {model: %(here)s, toy: null}
judge: {engine: openai, model: gpt-4, base_url: "https://api.openai.com.stranger.kr/v1"}
"""


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every address that is connected to; nobody is reached."""
    addresses: list[Any] = []

    def connect(_: socket.socket, address: Any) -> None:
        addresses.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *where, **_: addresses.append(where[:2]) or [])
    return addresses


@pytest.fixture
def repository(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory too, as for whoever looks around in it."""
    folder = shutil.copytree(base, tmp_path / "repository")
    marker = tmp_path / "ran"
    leaves = CODE.format(marker=str(marker))
    for name in ("own", "modeling", "tokenization", "setup", "conftest", "sitecustomize", "kollm", "yaml", "psutil"):
        (folder / f"{name}.py").write_text(leaves, encoding="utf-8")
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(leaves, encoding="utf-8")
    for name in ("pytorch_model.bin", "adapter_model.bin", "training_args.bin", "rows.pkl", "rows.npy", "state.pt"):
        (folder / name).write_bytes(pickle.dumps(Bomb(marker)))
    change(folder / "config.json", auto_map={"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"})
    change(folder / "config.json", trust_remote_code=True, model_type="stranger", architectures=["Model"])
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Tok", "own.Tok"]}, tokenizer_class="Tok")
    change(folder / "tokenizer_config.json", chat_template=BOMB, trust_remote_code=True)
    (folder / "chat_template.jinja").write_text(BOMB)
    (folder / "generation_config.json").write_text('{"custom_generate": "stranger/code", "trust_remote_code": true}')
    (folder / "merges.txt").symlink_to("/etc/passwd")
    (folder / "more.jsonl").symlink_to(tmp_path / "mine.jsonl")
    (tmp_path / "mine.jsonl").write_text(json.dumps({"instruction": "my secret question", "output": "my secret"}))
    (folder / "dataset_infos.json").write_text("{}")
    (folder / "rows.jsonl").write_text(
        json.dumps({"instruction": "{{ 7 * 7 }} <script>", "output": "__import__('os')"})
    )
    (folder / "recipe.yaml").write_text(RECIPE % {"here": json.dumps(str(folder))})
    (folder / "training.json").write_text(
        '{"recipe": {"base": {"model": "/etc/passwd"}}, "files": {"../../x": "sha256:0"}}'
    )
    write_dataset(tmp_path / "dataset", [row(number) for number in range(3)])
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    monkeypatch.setenv("KOLLM_LEDGER", str(tmp_path / "ledger.sqlite3"))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    monkeypatch.setattr(rendering, "MOST_SECONDS", 0.25)
    return folder


LINES = {
    "generate": "generate {here} --dataset {data} -o {out}/g.jsonl",
    "generate, base": "generate {data} --base {here} --dataset {data} -o {out}/g.jsonl",
    "judge": "judge {here}/rows.jsonl --engine local --model {here} -o {out}/v.jsonl",
    "judge, pickle": "judge {here}/rows.pkl --engine rules -o {out}/v.jsonl",
    "merge": "merge {here} -o {out}/merged",
    "plan": "plan --base {here}",
    "preview": "preview {here}/recipe.yaml --base {here}",
    "recipe": "recipe check {here}/recipe.yaml",
    "recipe new": "recipe new --base {here}",
    "run": "run {here}/recipe.yaml --dataset {data} -o {out}/run",
    "train": "train {here}/recipe.yaml --dataset {data} --base {here} --set trainer.max_length=256 --set trainer.packing=false -o {out}/a",
    "vocabulary": "vocabulary {here} --text {data} --size 900 -o {out}/b",
    "build, folder": "data build own --input {here} --licence MIT --translator none -o {out}/d",
    "build, local model": "data build own --input {here}/rows.jsonl --licence MIT --translator local --model {here} -o {out}/d",
    "push model": "push model {here} me/x --dry-run --unjudged",
    "push adapter": "push adapter {here} me/x --dry-run --unjudged",
    "push dataset": "push dataset {here} me/x --dry-run",
    "report": "report {here} -o {out}",
    "show": "show x-1 -o {here}",
}  # fmt: skip


@pytest.mark.parametrize("name", LINES)
def test_nothing_runs_and_nothing_leaves(
    name: str, repository: Path, left: list[Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    places = {"here": repository, "data": tmp_path / "dataset", "out": tmp_path / "out"}
    before = {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}
    try:
        main([part.format(**places) for part in LINES[name].split()])
    except SystemExit as stop:
        assert stop.code in (0, 1, 2), stop.code
    said = "".join(capfd.readouterr())
    assert "Traceback" not in said and "bug in kollm" not in said, said
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()], "nothing was made of it"
    assert "root:" not in said and "my secret" not in said and "sk-mine" not in said and "hf_mine" not in said, said
    assert not (tmp_path / "ran").exists(), said
    assert [address for address in left if "huggingface.co" not in str(address)] == [], said
    assert {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()} == before
    assert os.getcwd() == str(repository)
