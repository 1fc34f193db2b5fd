from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from kollm.answer.served import PLAINLY, Form, ServedAsking, answer_by_api
from kollm.core.errors import InputError, MissingKeyError, ServiceError, StateError
from kollm.core.files import read_jsonl, write_json
from kollm.core.records import Record
from kollm.recipe.tools import is_call
from kollm.services.chat import ChatClient, ChatRequest, ChatService
from kollm.services.chat.messages import prompt_tokens
from kollm.services.ledger import Ledger
from kollm.services.retry import RetryPolicy
from tests.servers.chat import LoopbackChat, Raw, Said, completion
from tests.train.templates import KOREAN, tokenizer_for, trl_templates

TASKS = [Record(f"t-{n}", "human_eval", f"질문 {n}?", "입력" if n == 1 else "", "참고") for n in range(3)]


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    return Ledger.open(tmp_path / "ledger.db")


def last(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


def ask(
    server: LoopbackChat,
    ledger: Ledger,
    output: Path,
    tasks: Sequence[Record] = TASKS,
    asking: ServedAsking = PLAINLY,
    **options: Any,
) -> int:
    client = ChatClient(ChatService("gpt-4-0613", server.url, retry=RetryPolicy(tries=1)), kind="answer", ledger=ledger)
    return answer_by_api(tasks, client, output, asking, **options)


def test_served_answers_are_generations_in_the_order_of_the_tasks(ledger: Ledger, tmp_path: Path) -> None:
    with LoopbackChat(lambda body: f" 답: {last(body)} ") as server:
        assert ask(server, ledger, tmp_path / "g.jsonl") == 0
    rows = list(read_jsonl(tmp_path / "g.jsonl"))
    assert [row["response"] for row in rows] == ["답: 질문 0?", "답: 질문 1?\n\n입력", "답: 질문 2?"]
    assert {(row["system"], row["model"], row["finish_reason"]) for row in rows} == {
        ("gpt-4-0613", "gpt-4-0613", "stop")
    }
    assert rows[0]["params"]["max_tokens"] == 400


def test_answered_tasks_are_never_asked_again(ledger: Ledger, tmp_path: Path) -> None:
    broken = True
    with LoopbackChat(lambda body: 500 if broken and "1" in last(body) else "답") as server:
        with pytest.raises(ServiceError, match="1 of 3 tasks got no answer"):
            ask(server, ledger, tmp_path / "g.jsonl")
        assert not (tmp_path / "g.jsonl").exists()
        broken = False
        assert ask(server, ledger, tmp_path / "g.jsonl") == 2
        assert ask(server, ledger, tmp_path / "g.jsonl") == 3
        assert len(server.bodies) == 4


def test_the_first_task_without_an_answer_says_why(ledger: Ledger, tmp_path: Path) -> None:
    said = "auto tool choice requires --enable-auto-tool-choice"
    with (
        LoopbackChat(lambda body: Raw(400, {"error": {"message": said}}) if "1" in last(body) else "답") as server,
        pytest.raises(
            ServiceError, match=f"1 of 3 tasks got no answer from .* \\(first: t-1: Error code: 400 - {said}\\)"
        ),
    ):
        ask(server, ledger, tmp_path / "g.jsonl")


def test_shots_are_earlier_turns(ledger: Ledger, tmp_path: Path) -> None:
    with LoopbackChat(lambda body: str(len(body["messages"]))) as server:
        ask(server, ledger, tmp_path / "g.jsonl", asking=ServedAsking(shots=[Record("s", "dolly", "예?", "", "네.")]))
    assert {row["response"] for row in read_jsonl(tmp_path / "g.jsonl")} == {"3"}


def test_a_cut_answer_and_another_system_are_kept_apart(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    with LoopbackChat(lambda body: Said("잘린", "length")) as server:
        ask(server, ledger, path, system="a")
        ask(server, ledger, path, system="b")
        with pytest.raises(StateError, match="under the name 'a'"):
            other = ChatClient(ChatService("gpt-4o", server.url), kind="answer", ledger=ledger)
            answer_by_api(TASKS, other, path, system="a")
    rows = [(row["system"], row["finish_reason"]) for row in read_jsonl(path)]
    assert rows == [("a", "length")] * 3 + [("b", "length")] * 3


def test_answers_asked_for_otherwise_are_not_mixed_and_other_tasks_stay(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    with LoopbackChat(lambda body: "답") as server:
        ask(server, ledger, path)
        whole = path.read_bytes()
        ask(server, ledger, path, tasks=TASKS[:1])
        assert path.read_bytes() == whole
        with pytest.raises(StateError, match="another max_tokens"):
            ask(server, ledger, path, asking=ServedAsking(max_new_tokens=50))
        with pytest.raises(StateError, match="another shots"):
            ask(server, ledger, path, asking=ServedAsking(shots=[Record("s", "dolly", "예?", "", "네.")]))


def test_a_dry_run_asks_nobody_and_needs_no_key(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with LoopbackChat(lambda body: "답") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert ask(server, ledger, tmp_path / "g.jsonl", dry_run=True) == 0
        assert server.bodies == []
        assert "3" in capsys.readouterr().err
        with pytest.raises(MissingKeyError, match="OPENAI_API_KEY"):
            ask(server, ledger, tmp_path / "g.jsonl")


def test_the_key_stands_in_no_file(ledger: Ledger, tmp_path: Path) -> None:
    with LoopbackChat(lambda body: "답") as server:
        ask(server, ledger, tmp_path / "g.jsonl")
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert b"sk-test" not in written
    assert json.loads((tmp_path / "g.jsonl").read_text(encoding="utf-8").splitlines()[0])["adapter"] == ""


def test_no_tasks_is_an_error(ledger: Ledger, tmp_path: Path) -> None:
    with LoopbackChat(lambda body: "답") as server, pytest.raises(InputError, match="zero rows"):
        ask(server, ledger, tmp_path / "g.jsonl", tasks=[])


def test_samples_are_asked_for_one_by_one_at_temperature_1(ledger: Ledger, tmp_path: Path) -> None:
    with LoopbackChat(lambda body: f"{last(body)} {body['seed']} {body['temperature']}") as server:
        ask(server, ledger, tmp_path / "g.jsonl", TASKS[:1], ServedAsking(samples=2))
        assert ask(server, ledger, tmp_path / "g.jsonl", TASKS[:1], ServedAsking(samples=2)) == 2
        assert len(server.bodies) == 2
        with pytest.raises(StateError, match="made with another"):
            ask(server, ledger, tmp_path / "g.jsonl", TASKS[:1])
    rows = list(read_jsonl(tmp_path / "g.jsonl"))
    assert [(row["sample"], row["response"]) for row in rows] == [(0, "질문 0? 0 1.0"), (1, "질문 0? 1 1.0")]


TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "도시의 날씨", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]  # fmt: skip
CALLS = '<tool_call>\n{"name": "get_weather", "arguments": "{\\"city\\": \\"서울\\"}"}\n</tool_call>'
RESULT = "<tool_response>\n맑음 21\n</tool_response>"
TALK = Record("talk", "own", RESULT, "", "맑습니다.", (("안녕?", "네."), ("서울은?", f"찾아볼게요.\n{CALLS}")), tools=json.dumps(TOOLS))  # fmt: skip


def test_calls_results_and_definitions_are_sent_as_the_protocol_has_them(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    with LoopbackChat(lambda body: "맑습니다.") as server:
        ask(server, ledger, path, [TALK, TASKS[0]])
        bodies = sorted(server.bodies, key=lambda body: len(body["messages"]))
        assert ask(server, ledger, path, [TALK, TASKS[0]]) == 2, "both are in the ledger"
    assert "tools" not in bodies[0] and bodies[1]["tools"] == TOOLS
    arguments = {"name": "get_weather", "arguments": '{"city": "서울"}'}
    assert bodies[1]["messages"] == [
        {"role": "user", "content": "안녕?"},
        {"role": "assistant", "content": "네."},
        {"role": "user", "content": "서울은?"},
        {
            "role": "assistant",
            "content": "찾아볼게요.",
            "tool_calls": [{"id": "call00001", "type": "function", "function": arguments}],
        },
        {"role": "tool", "content": "맑음 21", "tool_call_id": "call00001"},
    ]
    talk, plain = list(read_jsonl(path))
    assert (talk["tools"], plain["tools"]) == (TALK.tools, "")


def test_a_call_that_is_answered_is_a_turn_in_marks_as_rows_have_it(ledger: Ledger, tmp_path: Path) -> None:
    function = {"name": "get_weather", "arguments": '{"city": "부산"}'}
    calls: list[Any] = [{"id": "c", "type": "function", "function": function}, {"id": "d"}, None, {"function": {"name": 3}}]  # fmt: skip
    told = {"content": None, "tool_calls": calls}

    def model(body: dict[str, Any]) -> Raw:
        return Raw(200, completion("m", message=told, choice={"finish_reason": "tool_calls"}))

    with LoopbackChat(model) as server:
        ask(server, ledger, tmp_path / "g.jsonl", [TALK])
        ask(server, ledger, tmp_path / "h.jsonl", [TALK])
        assert len(server.bodies) == 1
    for name in ("g.jsonl", "h.jsonl"):
        (row,) = read_jsonl(tmp_path / name)
        assert row["response"] == '<tool_call>\n{"name": "get_weather", "arguments": {"city": "부산"}}\n</tool_call>'
        assert row["finish_reason"] == "tool_calls"
        assert is_call(row["response"])


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        (CALLS, "두 결과 없이 묻는 말"),
        (f"{CALLS}\n{CALLS}", RESULT),
        (CALLS, f"{RESULT}\n{RESULT}"),
        ("<tool_call>\nnot json\n</tool_call>", RESULT),
        ('<tool_call>\n{"name": "f", "arguments": "서울"}\n</tool_call>', RESULT),
        ('<tool_call>\n{"name": "f", "arguments": [1]}\n</tool_call>', RESULT),
    ],
)
def test_a_call_without_its_results_stays_text(
    answer: str, asked: str, ledger: Ledger, tmp_path: Path
) -> None:  # services refuse it otherwise
    with LoopbackChat(lambda body: "답") as server:
        ask(server, ledger, tmp_path / "g.jsonl", [Record("t", "own", asked, "", "", (("q", answer),))])
    assert server.bodies[0]["messages"][1:] == [
        {"role": "assistant", "content": answer},
        {"role": "user", "content": asked},
    ]


def test_two_calls_have_ids_of_their_own_and_a_question_after_the_results_is_the_users() -> None:
    record = Record("t", "own", f"{RESULT}\n{RESULT}\n그래서?", "", "", (("q", f"{CALLS}\n{CALLS}"), (f"{RESULT}\n{RESULT}", CALLS), (RESULT, f"{CALLS}\n{CALLS}")))  # fmt: skip
    made = Form().messages(record)
    assert [m["role"] for m in made] == ["user", "assistant", "tool", "tool", "assistant", "tool", "assistant", "tool", "tool", "user"]  # fmt: skip
    ids = [call["id"] for message in made for call in message.get("tool_calls", ())]
    assert ids == [m["tool_call_id"] for m in made if m["role"] == "tool"] and len(set(ids)) == 5
    assert all(len(name) == 9 and name.isalnum() for name in ids)


def test_what_kollm_trained_is_asked_as_its_training_had_it(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The templates of KULLM have no place for tools; of a folder with a chat template, that is tried."""
    texts = json.dumps([TOOLS, TALK.to_row()], ensure_ascii=False)
    for name, template in (("knows", trl_templates()["qwen3"]), ("not", KOREAN["a.x-4.0"])):
        tokenizer_for(template, texts).save_pretrained(tmp_path / name)
        write_json(
            tmp_path / name / "training.json",
            {"prompt": "chat", "recipe": {"base": {"model": "b"}, "enable_thinking": None}},
        )
        (tmp_path / name / "config.json").write_text("{}")
    for prompt, structured in ((str(tmp_path / "knows"), True), (str(tmp_path / "not"), False), ("kullm-2023", False), ("chat", True)):  # fmt: skip
        with LoopbackChat(lambda body: "답") as server:
            ask(server, Ledger.open(tmp_path / f"{structured}{len(prompt)}.db"), tmp_path / f"{len(prompt)}.jsonl", [TALK], ServedAsking(prompt=prompt))  # fmt: skip
        (body,) = server.bodies
        assert ("tools" in body) == structured, prompt
        assert (body["messages"][-1]["role"] == "tool") == structured
        assert (body["messages"][-1]["content"] == RESULT) == (not structured)
        said = "1 task is asked without their tool definitions, since the prompt has no place for them"
        assert (said in capsys.readouterr().err) == (not structured)


def test_the_estimate_counts_calls_and_definitions() -> None:
    plain, whole = (
        ChatRequest(Form().messages(record), {"tools": Form().tools(record)} if record.tools else {})
        for record in (Record("t", "own", "맑음 21", "", ""), TALK)
    )
    assert prompt_tokens(whole) > prompt_tokens(plain) + len(TALK.tools) // 3
