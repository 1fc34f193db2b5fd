from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from kollm.answer.served import PLAINLY, ServedAsking, answer_by_api
from kollm.core.errors import InputError, MissingKeyError, ServiceError, StateError
from kollm.core.files import read_jsonl
from kollm.core.records import Record
from kollm.services.chat import ChatClient, ChatService
from kollm.services.ledger import Ledger
from kollm.services.retry import RetryPolicy
from tests.servers.chat import LoopbackChat, Said

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
