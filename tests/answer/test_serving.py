"""`kollm serve`: the line of each server, and transformers' own asked with the prompt tokens of training."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kollm.answer.served import input_heading, served_form
from kollm.answer.serving import serve_command
from kollm.cli import cli
from kollm.core.errors import InputError
from kollm.core.files import write_json
from kollm.core.records import Record
from kollm.recipe.schema import ToyBase
from kollm.services.chat.row_messages import row_messages
from kollm.train.prompts import make_encoder
from kollm.train.toy import random_model, train_tokenizer
from tests.servers.loopback import free_port
from tests.train.templates import tokenizer_for, trl_templates

TASK = Record("t-1", "e", "요약하세요.", "가을 하늘은 높다.", "", (), "너는 상담원이다.")

AT_NIGHT = pytest.mark.nightly(
    "tests/train/test_prompts.py::test_ids_are_those_of_the_server_and_each_answer_is_learned_with_its_end"
)


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


def prompt_tokens(folder: Path, asked: Sequence[dict[str, Any]], log: Path) -> list[int]:
    """How many tokens transformers' own server counts in the prompts that it makes of requests."""
    port = free_port()
    line = serve_command(str(folder), engine="transformers", port=port)
    line = [*line, "--device", "cpu", "--dtype", "float32"]
    with log.open("wb") as output:
        server = subprocess.Popen(line, stdout=output, stderr=output, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    try:
        counts: list[int] = []
        deadline = time.monotonic() + 250
        while len(counts) < len(asked):
            more = asked[len(counts)]
            body = json.dumps({"model": str(folder), **more, "max_tokens": 4, "temperature": 0}).encode()
            request = urllib.request.Request(
                f"http://localhost:{port}/v1/chat/completions", body, {"Content-Type": "application/json"}
            )
            try:
                with urllib.request.urlopen(request, timeout=250) as reply:
                    counts.append(int(json.load(reply)["usage"]["prompt_tokens"]))
            except (urllib.error.URLError, ConnectionError):
                assert time.monotonic() < deadline and server.poll() is None, log.read_text()
                time.sleep(1)
        return counts
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(120)


@AT_NIGHT
@pytest.mark.slow
def test_a_served_model_gets_the_prompt_tokens_of_training(merged: Path, tmp_path: Path) -> None:
    """The server counts the tokens of its prompt: as many as training gives the task, from the same messages."""
    from transformers import AutoTokenizer

    messages = row_messages(TASK, heading=input_heading(str(merged)))
    (counted,) = prompt_tokens(merged, [{"messages": messages}], tmp_path / "log")
    encoder = make_encoder("kullm-2023", AutoTokenizer.from_pretrained(merged))
    assert counted == len(encoder.prompt(TASK))


@AT_NIGHT
@pytest.mark.slow
def test_a_served_model_gets_tools_as_training_had_them(tmp_path: Path) -> None:
    """Calls, their results and the definitions come to a server by the protocol, and to its model by the template."""
    function = {"name": "get_weather", "description": "날씨", "parameters": {"type": "object", "properties": {}}}
    call = json.dumps({"name": "get_weather", "arguments": {"city": "서울", "days": 2}}, ensure_ascii=False)
    history = (("서울은?", f"<tool_call>\n{call}\n</tool_call>"),)
    tools = json.dumps([{"type": "function", "function": function}], ensure_ascii=False)
    task = Record("t", "e", "<tool_response>\n맑음\n</tool_response>", "", "", history, tools=tools)
    folder = tmp_path / "model"
    tokenizer = tokenizer_for(trl_templates()["qwen3"], f"{call} {tools}")
    random_model("llama", ToyBase(hidden_size=32, layers=2, heads=2, context=1024), tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    recipe = {"base": {"model": "toy:llama"}, "enable_thinking": None}
    write_json(folder / "training.json", {"prompt": "chat", "recipe": recipe})
    said = replace(task, history=(("서울은?", f"볼게요.\n{history[0][1]}"),))
    form = served_form(str(folder), [task])
    asked = [{"messages": form.messages(record), "tools": form.tools(record)} for record in (task, said)]
    encoder = make_encoder("chat", tokenizer)
    counted = prompt_tokens(folder, asked, tmp_path / "log")
    assert counted[0] == len(encoder.prompt(task)) > len(encoder.prompt(replace(task, tools=""))) + 50
    assert counted[1] == counted[0] < len(encoder.prompt(said)), (
        "transformers' server leaves out what is said with a call"
    )
