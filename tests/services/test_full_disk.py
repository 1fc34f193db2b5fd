"""The ledger on a full disk: one sentence with the path, and what was paid for is kept.

SQLite is given few pages, which it reports as it reports a full disk; what the reserve gives up makes room for more.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kollm.core.errors import StateError
from kollm.core.files import read_jsonl
from kollm.judge.run import judge_generations
from kollm.judge.served import ChatJudge
from kollm.services.chat import ChatClient, ChatService
from kollm.services.ledger import Ledger, store
from kollm.services.ledger.connection import connect
from kollm.services.ledger.repair import check_ledger
from kollm.services.ledger.reserve import Reserve
from tests.judge.conftest import REPLY, answers
from tests.servers.chat import LoopbackChat
from tests.services.test_ledger import answer, begin, purchase

PAGES = 60
"""Of 4 KiB: the tables, and some answers."""


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger's path on a disk that is soon full."""
    connections: list[sqlite3.Connection] = []
    give = Reserve.give

    def small(*how: Any) -> sqlite3.Connection:
        connections.append(connect(*how))
        connections[-1].execute(f"PRAGMA max_page_count = {PAGES}")
        return connections[-1]

    def given(reserve: Reserve) -> bool:
        done = give(reserve)
        for connection in connections if done else ():
            connection.execute(f"PRAGMA max_page_count = {2 * PAGES}")
        return done

    monkeypatch.setattr(store, "connect", small)
    monkeypatch.setattr(Reserve, "give", given)
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    return tmp_path / "ledger.sqlite3"


def test_every_answer_that_came_is_kept_and_nothing_more_is_sent(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = full.with_name("verdicts.jsonl")

    def slowly(_: object) -> str:
        time.sleep(0.02)
        return f"{REPLY}\n{'이유 ' * 900}"

    def judge() -> None:
        with Ledger.open(full) as ledger:
            client = ChatClient(ChatService("gpt-4", chat.url, concurrency=6), kind="judge", ledger=ledger)
            judge_generations(answers(60), ChatJudge(client, "kullm2023"), output)

    with LoopbackChat(slowly) as chat:
        with pytest.raises(StateError, match=rf"'{full}' cannot be written \(database or disk is full\)"):
            judge()
        monkeypatch.undo()
        monkeypatch.setenv("OPENAI_API_KEY", "any")
        came = len(chat.bodies)
        with Ledger.open(full) as ledger:
            assert ledger.in_flight() == [] and ledger.stats()[0].answered == came < 60
        assert check_ledger(full).faults == []
        assert 0 < len(list(read_jsonl(output))) <= came
        judge()
    asked = Counter(json.dumps(body["messages"]) for body in chat.bodies)
    assert len(asked) == 60 and set(asked.values()) == {1}, "nothing is bought twice"
    assert len({row["id"] for row in read_jsonl(output)}) == 60


def test_an_answer_takes_the_room_that_was_set_aside(full: Path) -> None:
    bought = [purchase(f"text {number}") for number in range(3)]
    with Ledger.open(full) as ledger:
        begin(ledger, bought)
        long = {"text": "가" * (PAGES * 4096 // 4)}
        answer(ledger, bought[0].key, long)
        answer(ledger, bought[1].key, long)
        with pytest.raises(StateError, match="database or disk is full"):
            answer(ledger, bought[2].key, long)  # there is an end to the room
        assert set(ledger.find(item.key for item in bought)) == {item.key for item in bought[:2]}


def test_without_room_for_answers_nothing_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = os.write

    def refuses(handle: int, data: bytes) -> int:
        if len(data) > 1000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written(handle, data)

    path = tmp_path / "ledger.sqlite3"
    with Ledger.open(path) as ledger:
        monkeypatch.setattr(os, "write", refuses)
        with pytest.raises(
            StateError, match=rf"'{path}-reserve' cannot be used \(No space left on device\) - make room"
        ):
            begin(ledger, [purchase()])
        assert ledger.in_flight() == []
        monkeypatch.undo()
        begin(ledger, [purchase()])
    reserve = tmp_path / "ledger.sqlite3-reserve"
    assert reserve.stat().st_size >= 1 << 20 and reserve.stat().st_mode & 0o777 == 0o600
