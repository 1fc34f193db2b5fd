"""Workers that buy from servers of one's own, each into a ledger of its own."""

from __future__ import annotations

import json
import os
import signal
import threading
from functools import partial

import pytest
from click.testing import CliRunner

from kollm.cli import cli
from kollm.core.errors import InputError, KollmError, QuotaError
from kollm.dataset import shards
from kollm.dataset.buying import Buyers
from kollm.dataset.executors.local import LocalExecutor
from kollm.dataset.executors.task import read_note
from kollm.dataset.pipeline import SourceInput, build_dataset
from kollm.dataset.work import work_place
from kollm.services.ledger import Ledger
from tests.servers.chat import LoopbackChat, Raw, completion
from tests.servers.deepl import pseudo_korean

ROWS = 16


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "loopback")
    monkeypatch.setattr(shards, "SHARD_ROWS", 4)


class Staying(LocalExecutor):
    """Workers that stay for the next build as they do for the next stage."""

    def close(self):
        pass


@pytest.fixture(scope="module")
def two_workers():
    executor = Staying(2)
    yield executor
    LocalExecutor.close(executor)


@pytest.fixture
def build(two_workers):
    return partial(build_with, two_workers)


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    lines = [
        {"id": f"row{number}", "instruction": f"Name {number} old rivers of the land.", "input": "", "output": f"River {number} is long and wide."}
        for number in range(ROWS)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def answer(body):
    return json.dumps({"document": pseudo_korean(body["messages"][-1]["content"])})


def dear(body):
    """An answer of USD 0.036."""
    usage = {"prompt_tokens": 10, "completion_tokens": 600, "total_tokens": 610}
    return Raw(200, completion(body["model"], message={"content": answer(body)}, usage=usage))


def build_with(two_workers, path, output, ledger, servers, workers=2, **more):
    options = {"filters": "none", "near": 1.01, "against": ()} | more
    buyers = Buyers("openai", {"model": "gpt-4"}, tuple(servers)) if workers else None
    if not workers:
        options |= {"translator_model": "gpt-4", "translator_options": {"base_url": servers[0]}}
    build_dataset(
        [SourceInput("gpt4_llm", path)],
        translator="openai",
        output=output,
        ledger=ledger,
        executor=two_workers if workers else LocalExecutor(0),
        buyers=buyers,
        **options,
    )
    return {file.relative_to(output).as_posix(): file.read_bytes() for file in output.rglob("*.parquet")}


def test_two_servers_give_what_one_buyer_gives_and_each_text_is_asked_once(build, rows, tmp_path):
    with LoopbackChat(answer) as first, LoopbackChat(answer) as second:
        with Ledger.open(tmp_path / "one.sqlite3") as ledger:
            expected = build(rows, tmp_path / "one", ledger, [first.url], workers=0)
        asked = len(first.bodies)
        first.bodies.clear()
        with Ledger.open(tmp_path / "many.sqlite3") as ledger:
            assert build(rows, tmp_path / "many", ledger, [first.url, second.url]) == expected
            assert len(first.bodies) + len(second.bodies) == asked
            assert first.bodies and second.bodies
            assert sum(item.answered for item in ledger.stats()) == asked
            build(rows, tmp_path / "again", ledger, [first.url, second.url])
        assert len(first.bodies) + len(second.bodies) == asked, "what the user's ledger has is not asked again"


@pytest.mark.slow
def test_a_killed_worker_loses_nothing_that_was_answered(build, rows, tmp_path):
    killed, killing = [], threading.Lock()
    output = tmp_path / "out"

    def kill_once(body):
        with killing:
            if len(chat.bodies) >= 6 and not killed:  # two may come at once, so that none sees six
                notes = (work_place(output) / "running" / "buy-1").glob("[0-9]*")
                killed.extend(note["pid"] for path in notes if (note := read_note(path)))  # one may end meanwhile
                for pid in killed:
                    os.kill(pid, signal.SIGKILL)
        return answer(body)

    with Ledger.open(tmp_path / "one.sqlite3") as ledger, LoopbackChat(kill_once) as chat:
        found = build(rows, output, ledger, [chat.url], near=1.01)
        asked = [body["messages"][-1]["content"] for body in chat.bodies]
        assert killed
        assert sum(item.answered for item in ledger.stats()) == len(set(asked)) == ROWS
        expected = build(rows, tmp_path / "again", ledger, [chat.url], workers=0)
        assert len(chat.bodies) == len(asked)
    assert found == expected


def test_a_cap_holds_over_all_workers_and_what_they_bought_is_kept(build, rows, tmp_path):
    with LoopbackChat(dear) as chat, Ledger.open(tmp_path / "one.sqlite3") as ledger:
        with pytest.raises(QuotaError, match="raise --max-cost"):
            build(rows, tmp_path / "out", ledger, [chat.url], max_cost=0.4)
        spent = sum(item.cost for item in ledger.stats())
        asked = len(chat.bodies)
        assert 0.2 < spent <= 0.4 and asked < ROWS
        build(rows, tmp_path / "out", ledger, [chat.url], max_cost=100.0)
        assert len(chat.bodies) == ROWS


@pytest.mark.slow
def test_a_server_that_is_down(build, rows, tmp_path):
    with LoopbackChat(answer) as chat, Ledger.open(tmp_path / "one.sqlite3") as ledger:
        with LoopbackChat(lambda body: 401) as refusing, pytest.raises(KollmError, match="401"):
            build(rows, tmp_path / "out", ledger, [chat.url, refusing.url])
        assert sum(item.answered for item in ledger.stats()) == 8
        build(rows, tmp_path / "out", ledger, [chat.url, chat.url])
        assert len(chat.bodies) == ROWS


@pytest.mark.parametrize(("engine", "servers"), [("deepl", ()), ("memory", ()), ("local", ("http://127.0.0.1:1/v1",))])
def test_engines_of_which_one_process_buys(engine, servers):
    with pytest.raises(InputError, match=r"one process buys|--server names an OpenAI-compatible server"):
        Buyers(engine, {}, servers)


def test_the_command_refuses_a_server_for_another_engine(tmp_path):
    asked = [
        "data",
        "build",
        "dolly",
        "--input",
        "sample",
        "--translator",
        "memory",
        "--server",
        "http://127.0.0.1:1/v1",
    ]
    result = CliRunner().invoke(cli, [*asked, "-o", str(tmp_path / "out")])
    assert "of 'memory' one process buys" in str(result.exception)
