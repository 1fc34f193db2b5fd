"""Answers that were made elsewhere are read, and a served model of kollm's is asked as it was trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from kollm.answer.elsewhere import is_generations, read_answers
from kollm.answer.served import input_heading
from kollm.cli import cli
from kollm.core.errors import InputError
from kollm.core.files import json_line, write_json
from kollm.core.generations import Generation
from kollm.core.records import Record
from kollm.recipe.prompt import PromptTemplate
from kollm.recipe.tokens import TextEncoder
from kollm.services.chat.row_messages import row_messages
from kollm.train.prompts import make_encoder
from kollm.train.toy import train_tokenizer
from tests.train.templates import tokenizer_for, trl_templates

TASKS = [
    Record("t-1", "e", "요약하세요.", "가을 하늘은 높다.", "", (("안녕?", "안녕하세요."),), "너는 상담원이다."),
    Record("t-2", "e", "한국의 수도는?", "", ""),
    Record("t-3", "e", "요약하세요.", "가을\n\n하늘은 높다.", ""),
]


@pytest.mark.parametrize("name", ["kullm-2023", "kullm-v2", "plain"])
def test_a_servers_rendering_is_the_prompt_of_training(name: str) -> None:
    """What `apply_chat_template` makes of the messages that go to a server, against what training and `generate` use."""
    tokenizer = train_tokenizer(["가나다라 응답 지시어"] * 3, 300)
    encoder = make_encoder(name, tokenizer)
    assert isinstance(encoder, TextEncoder)
    for task in TASKS:
        messages = row_messages(task, heading=input_heading(name))
        rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        template = PromptTemplate.load(name)
        assert rendered == template.prompt(task.instruction, task.input, task.history, system=task.system)


def test_a_chat_template_gets_the_messages_of_training(tmp_path: Path) -> None:
    tokenizer = tokenizer_for(trl_templates()["qwen3"])
    encoder = make_encoder("chat", tokenizer)
    write_json(tmp_path / "training.json", {"prompt": "chat"})
    for task in TASKS:
        messages = row_messages(task, heading=input_heading(str(tmp_path)))
        assert tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False) == encoder.prompt(
            task
        )
    with pytest.raises(InputError, match="There is no prompt template 'nope'"):
        input_heading("nope")


def test_answers_of_other_programs_are_read(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    path.write_text("번호,물음,대답,모형\n7,하나,둘,가\n8,셋,넷,나\n", encoding="cp949")
    mapping = ("instruction=물음", "response=대답", "id=번호", "system=모형")
    assert [(a.id, a.instruction, a.response, a.system) for a in read_answers(path, mapping)] == [
        ("7", "하나", "둘", "가"),
        ("8", "셋", "넷", "나"),
    ]
    assert {a.system for a in read_answers(path, mapping[:2])} == {"theirs"}
    with pytest.raises(InputError, match="has no column '모델'"):
        read_answers(path, (*mapping[:3], "system=모델"))
    with pytest.raises(InputError, match="--map instruction=물음 --map output=대답"):
        read_answers(path)
    result = CliRunner().invoke(
        cli, ["judge", str(path), *(f"--map={m}" for m in mapping), "--model", "gpt-5.5-2026-04-23", "--dry-run"]
    )
    assert result.exit_code == 0, result.output
    assert "read as mapped columns" in result.output


def test_a_file_of_kollms_own_is_read_as_one(tmp_path: Path) -> None:
    ours = Generation("t-1", "a", "", "b", "m", "", {}, "stop", "adapter")
    path = tmp_path / "generations.jsonl"
    path.write_text(json_line(ours.to_row()), encoding="utf-8")
    assert is_generations(path)
    path.write_text(json_line({"prompt": "a", "response": "b", "model": "gpt"}), encoding="utf-8")
    assert not is_generations(path)
    assert [(a.instruction, a.response) for a in read_answers(path)] == [("a", "b")]


def test_an_answer_keeps_what_it_answers(tmp_path: Path) -> None:
    """Or the judge would judge blindly: a rubric that cannot show the earlier turns says so."""
    said = [("system", "상담원"), ("user", "하나"), ("assistant", "둘"), ("user", "셋"), ("assistant", "넷")]
    row = {"messages": [{"role": role, "content": text} for role, text in said], "tools": [{"name": "f"}]}
    path = tmp_path / "theirs.jsonl"
    path.write_text(json_line(row), encoding="utf-8")
    (answer,) = read_answers(path)
    assert (answer.system_message, answer.history, answer.response) == ("상담원", (("하나", "둘"),), "넷")
    assert '"name": "f"' in answer.tools
    line = ["judge", str(path), "--model", "gpt-5.5-2026-04-23", "--dry-run", "--rubric"]
    with pytest.raises(InputError, match="has earlier turns, which the rubric 'kullm2023' does not show"):
        CliRunner().invoke(cli, [*line, "kullm2023"], catch_exceptions=False)
