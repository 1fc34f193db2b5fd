"""`kollm serve`: the line of each server, and transformers' own asked with the prompt tokens of training."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from kollm.answer.served import input_heading, served_messages
from kollm.answer.serving import serve_command
from kollm.cli import cli
from kollm.core.errors import InputError
from kollm.core.files import write_json
from kollm.core.records import Record
from kollm.recipe.schema import ToyBase
from kollm.train.prompts import make_encoder
from kollm.train.toy import random_model, train_tokenizer

TASK = Record("t-1", "e", "요약하세요.", "가을 하늘은 높다.", "", (), "너는 상담원이다.")


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model that says it was trained by kollm in kullm-2023."""
    folder = tmp_path_factory.mktemp("models") / "merged"
    tokenizer = train_tokenizer(["가나다라 응답 지시어"] * 3, 300)
    make_encoder("kullm-2023", tokenizer)
    spec = ToyBase(hidden_size=32, layers=2, heads=2, context=1024)
    random_model("gpt_neox", spec, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    recipe = {"base": {"model": "toy:gpt_neox"}, "enable_thinking": None}
    write_json(folder / "training.json", {"prompt": "kullm-2023", "recipe": recipe})
    return folder


@pytest.fixture(scope="module")
def adapter(merged: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("adapters") / "support"
    network = AutoModelForCausalLM.from_pretrained(merged)
    get_peft_model(network, LoraConfig(r=4, target_modules=["query_key_value"])).save_pretrained(folder)
    AutoTokenizer.from_pretrained(merged).save_pretrained(folder)
    recipe = {"base": {"model": str(merged)}, "enable_thinking": False}
    write_json(folder / "training.json", {"prompt": "kullm-2023", "recipe": recipe})
    return folder


def test_the_lines(adapter: Path, merged: Path) -> None:
    line = serve_command(str(adapter), engine="auto", installed=lambda _: True)
    assert line[:3] == ["vllm", "serve", str(merged)]
    assert line[line.index("--lora-modules") + 1] == f"support={adapter}"
    assert line[line.index("--chat-template") + 1] == str(adapter / "chat_template.jinja")
    assert json.loads(line[line.index("--default-chat-template-kwargs") + 1]) == {"enable_thinking": False}
    line = serve_command(str(merged), port=9000, installed=lambda name: name != "vllm")
    assert line[4:] == ["serve", str(merged), "--host", "localhost", "--port", "9000"]
    with pytest.raises(InputError, match="merge it first: kollm merge"):
        serve_command(str(adapter), installed=lambda name: name != "vllm")
    with pytest.raises(InputError, match="pip install vllm"):
        serve_command(str(merged), engine="vllm", installed=lambda name: name != "vllm")
    result = CliRunner().invoke(cli, ["serve", str(merged), "--engine", "transformers", "--dry-run"])
    assert result.exit_code == 0, result.output
    assert f"--prompt {merged}" in result.output


@pytest.mark.slow
def test_a_served_model_gets_the_prompt_tokens_of_training(merged: Path, tmp_path: Path) -> None:
    """The server counts the tokens of its prompt: as many as training gives the task, from the same messages."""
    from transformers import AutoTokenizer

    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    line = serve_command(str(merged), engine="transformers", port=port)
    line = [*line, "--device", "cpu", "--dtype", "float32"]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(line, stdout=log, stderr=log, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    try:
        messages = served_messages(TASK, heading=input_heading(str(merged)))
        body = json.dumps({"model": str(merged), "messages": messages, "max_tokens": 4, "temperature": 0}).encode()
        request = urllib.request.Request(
            f"http://localhost:{port}/v1/chat/completions", body, {"Content-Type": "application/json"}
        )
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(request, timeout=60) as reply:
                    usage = json.load(reply)["usage"]
                break
            except (urllib.error.URLError, ConnectionError):
                assert time.monotonic() < deadline and server.poll() is None, (tmp_path / "log").read_text()
                time.sleep(1)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)
    encoder = make_encoder("kullm-2023", AutoTokenizer.from_pretrained(merged))
    assert usage["prompt_tokens"] == len(encoder.prompt(TASK))
