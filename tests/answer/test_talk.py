from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from click.testing import CliRunner

from kollm.answer.local import load_system
from kollm.answer.talk import Exchange, LocalSpeaker, ServedSpeaker, Talk, _before_heading, read_tools
from kollm.cli import cli
from kollm.core.errors import InputError, ServiceError
from kollm.core.records import Record
from kollm.sources.own import read_own
from tests.servers.stream import LoopbackStream


def test_the_pieces_are_the_answer_that_generate_gives(base: Path, tmp_path: Path) -> None:
    from kollm.answer.file import read_generations
    from kollm.answer.local import generate_answers
    from kollm.answer.presets import Decoding

    system = load_system(str(base), prompt="kullm-2023")
    record = Talk("친절하게", [Exchange("안녕?", "네.")]).record("서울은?")
    generate_answers([record], system, tmp_path / "g.jsonl", Decoding("greedy", 20))
    (whole,) = read_generations(tmp_path / "g.jsonl")
    pieces = list(LocalSpeaker(system, {"max_new_tokens": 20, "do_sample": False}).answer(record))
    assert "".join(pieces).strip() == whole.response


def test_what_is_said_is_normalised_as_rows_are() -> None:
    decomposed = unicodedata.normalize("NFD", "서울은?")
    record = Talk(f"\ufeff{decomposed}", [Exchange(decomposed, "네.")]).record(f"{decomposed}\u200b\r\n둘")
    assert (record.instruction, record.system) == ("서울은?\n둘", "서울은?")
    assert record.history == (("서울은?", "네."),)


def test_who_stops_reading_stops_the_model(base: Path) -> None:
    speaker = LocalSpeaker(load_system(str(base), prompt="kullm-2023"), {"max_new_tokens": 400, "do_sample": True})
    pieces = speaker.answer(Talk().record("서울은?"))
    next(pieces, None)
    pieces.close()  # type: ignore[attr-defined]


def test_a_conversation_that_is_too_long_is_a_sentence(base: Path) -> None:
    speaker = LocalSpeaker(load_system(str(base), prompt="kullm-2023"), {"max_new_tokens": 4})
    with pytest.raises(InputError, match="begin a new one"):
        list(speaker.answer(Talk().record("서울 " * 600)))


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_heading_ends_the_answer_wherever_the_pieces_are_cut(cut: int) -> None:
    text = "첫 줄\n## 요약\n둘째 줄\n### 지시어:\n다음 질문"
    pieces = [text[start : start + cut] for start in range(0, len(text), cut)]
    assert "".join(_before_heading(iter(pieces), ("### 지시어:",))) == "첫 줄\n## 요약\n둘째 줄"
    assert "".join(_before_heading(iter(pieces), ())) == text


def test_a_served_model_streams_with_the_whole_conversation() -> None:
    with LoopbackStream(["서울", "입니다", "."]) as server:
        speaker = ServedSpeaker("m", server.url, options={"temperature": 0.0})
        talk = Talk("짧게", [Exchange("안녕?", "네.")])
        assert list(speaker.answer(talk.record("수도는?"))) == ["서울", "입니다", "."]
    assert [message["role"] for message in server.bodies[0]["messages"]] == ["system", "user", "assistant", "user"]


TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


def call_piece(index: int = 0, name: str | None = None, arguments: str | None = None) -> dict[str, object]:
    return {"tool_calls": [{"index": index, "function": {"name": name, "arguments": arguments}}]}


def test_a_served_model_calls_tools_in_a_conversation(tmp_path: Path) -> None:
    """They are sent as `generate --api` sends them; a call comes back in the marks of rows, and its result goes as one."""
    file, saved = tmp_path / "tools.json", tmp_path / "talk.jsonl"
    file.write_text(json.dumps(TOOLS), encoding="utf-8")
    pieces = ["볼게요.", call_piece(name="weather", arguments='{"city": '), call_piece(arguments='"서울"}')]
    lines = ["날씨는?", "/result 맑음", f"/save {saved}", "/result"]
    command = ["chat", "m", "--api", "--tools", str(file), "--base-url"]
    with LoopbackStream(pieces) as server:
        done = CliRunner().invoke(cli, [*command, server.url], input="\n".join(lines) + "\n")
    assert done.exit_code == 0, done.output
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "서울"}}\n</tool_call>'
    assert f"볼게요.\n{call}" in done.output and "/result needs what the tool gave" in done.output
    first, second = server.bodies
    assert first["tools"] == second["tools"] == TOOLS
    asked, called, result = second["messages"]
    assert (asked["content"], result["role"], result["content"]) == ("날씨는?", "tool", "맑음")
    assert called["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city": "서울"}'}
    (row,) = read_own(saved).records()
    assert isinstance(row, Record)
    assert (json.loads(row.tools), row.history) == (TOOLS, (("날씨는?", f"볼게요.\n{call}"),))


@pytest.mark.parametrize("text", ["", "[]", "{", '[{"name": 3}]', '"weather"'])
def test_a_file_without_definitions_is_a_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "tools.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="holds no definitions of tools"):
        read_tools(tmp_path / "tools.json")


def test_a_prompt_without_a_place_for_tools_refuses_them(base: Path) -> None:
    speaker = LocalSpeaker(load_system(str(base), prompt="kullm-2023"), {"max_new_tokens": 4})
    with pytest.raises(InputError, match="has no place for tools - leave out --tools"):
        list(speaker.answer(Talk(tools=json.dumps(TOOLS)).record("날씨는?")))


def test_a_served_model_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(ServiceError, match="did not answer"):
        list(ServedSpeaker("m", "http://127.0.0.1:9/v1").answer(Talk().record("?")))


def test_a_whole_conversation_in_the_terminal(tmp_path: Path) -> None:
    saved = tmp_path / "talk.jsonl"
    lines = ["/system 짧게", "수도는?", "/edit 일본의 수도는?", "/nothing", "/retry", f"/save {saved}", "/reset", "/retry", "/help", "/quit", "never"]  # fmt: skip
    with LoopbackStream(["도쿄", "입니다."]) as server:
        result = CliRunner().invoke(
            cli, ["chat", "m", "--api", "--base-url", server.url], input="\n".join(lines) + "\n"
        )
    assert result.exit_code == 0, result.output
    assert result.output.count("도쿄입니다.") == 3 and "'/nothing' is unknown" in result.output
    assert "no turn to take back" in result.output and "/save FILE" in result.output
    (row,) = [json.loads(line) for line in saved.read_text(encoding="utf-8").splitlines()]
    assert [message["content"] for message in row["messages"]] == ["짧게", "일본의 수도는?", "도쿄입니다."]


def test_two_systems_beside_each_other(base: Path) -> None:
    options = ["--prompt", "kullm-2023", "--max-new-tokens", "4", "--preset", "greedy"]
    result = CliRunner().invoke(cli, ["chat", str(base), "--beside", str(base), *options], input="수도는?\n")
    assert result.exit_code == 0, result.output
    assert result.output.count("[base]") == 2
