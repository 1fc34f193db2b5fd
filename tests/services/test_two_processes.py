"""Two real processes of one paying command on one ledger: each text is bought once, and no cap is passed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kollm.core.files import json_line, write_json
from kollm.services.ledger import Ledger
from tests.judge.conftest import REPLY, answers
from tests.servers.chat import LoopbackChat
from tests.servers.deepl import KEY, DeepLServer

MODEL = "gpt-5.4-mini-2026-03-17"
JUDGED = 60


class Shell:
    """Runs kollm with a ledger of the test's own."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.ledger = folder / "ledger.sqlite3"
        self.environment = {**os.environ, "KOLLM_LEDGER": str(self.ledger), "OPENAI_API_KEY": "any", **environment}

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "kollm", *map(str, arguments)]
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.folder
        )

    def twice(self, delay: float, arguments: Callable[[int], list[object]]) -> list[tuple[int, str]]:
        """Exit code and output of both."""
        first = self.start(*arguments(1))
        time.sleep(delay)
        second = self.start(*arguments(2))
        return [(process.wait(), output) for process in (first, second) for output, _ in [process.communicate(None)]]


def slowly(answer: Callable[[dict[str, Any]], str], seconds: float) -> Callable[[dict[str, Any]], str]:
    def model(body: dict[str, Any]) -> str:
        time.sleep(seconds)
        return answer(body)

    return model


def asked(chat: LoopbackChat) -> Counter[str]:
    return Counter(json.dumps(body["messages"]) for body in chat.bodies)


def judged(folder: Path) -> Path:
    path = folder / "generations.jsonl"
    path.write_text("".join(json_line(row.to_row()) for row in answers(JUDGED)), encoding="utf-8")
    return path


def sources(folder: Path, count: int) -> Path:
    path = folder / "alpaca.json"
    rows = [
        {"instruction": f"Name {n} animals that live in lake number {n}.", "input": "", "output": f"There are {n} otters, {n} herons and {n} frogs in it."}
        for n in range(count)
    ]  # fmt: skip
    write_json(path, rows)
    return path


DELAYS = [0.0, pytest.param(2.0, marks=pytest.mark.slow), pytest.param(5.0, marks=pytest.mark.slow)]


@pytest.mark.parametrize("delay", DELAYS)
def test_judges(delay: float, tmp_path: Path) -> None:
    generations = judged(tmp_path)
    with LoopbackChat(slowly(lambda _: REPLY, 0.1 + delay / 4)) as chat:
        shell = Shell(tmp_path, OPENAI_BASE_URL=chat.url)
        ended = shell.twice(
            delay, lambda n: ["judge", generations, "-o", f"{n}.jsonl", "--model", MODEL, "--concurrency", 4]
        )
    assert [code for code, _ in ended] == [0, 0], ended
    assert len(asked(chat)) == JUDGED and set(asked(chat).values()) == {1}
    counts = [(tmp_path / f"{n}.jsonl").read_text(encoding="utf-8").count('"status": "ok"') for n in (1, 2)]
    assert counts == [JUDGED, JUDGED], "whoever comes second has the answers too"
    with Ledger.open(shell.ledger) as ledger:
        assert ledger.in_flight() == [] and ledger.stats()[0].answered == JUDGED


@pytest.mark.parametrize("delay", DELAYS)
def test_builds_and_their_cap(delay: float, tmp_path: Path) -> None:
    path = sources(tmp_path, 400)
    with DeepLServer(latency=0.2 + delay / 4) as server:
        shell = Shell(tmp_path, DEEPL_AUTH_KEY=KEY, DEEPL_SERVER_URL=server.url)

        def build(number: int, *more: object) -> list[object]:
            return ["data", "build", "alpaca", "--input", path, "--translator", "deepl", "-o", f"out-{number}", "--filters", "none", "--near", 1.01, *more]  # fmt: skip

        capped = shell.twice(delay, lambda n: build(n, "--max-characters", 10_000))
        assert [code for code, _ in capped] == [1, 1] and all("Stopped before the cap" in text for _, text in capped)
        assert 8_000 < server.state.used <= 10_000 and set(server.state.billed_texts.values()) == {1}
        whole = shell.twice(delay, build)
    assert [code for code, _ in whole] == [0, 0], whole
    assert set(server.state.billed_texts.values()) == {1}, "each text is billed once"
    files = [sorted((tmp_path / f"out-{n}").rglob("*.parquet")) for n in (1, 2)]
    assert [file.read_bytes() for file in files[0]] == [file.read_bytes() for file in files[1]]


@pytest.mark.slow
@pytest.mark.parametrize("cost", [0.0001, 0.004])
def test_judges_share_a_cap(cost: float, tmp_path: Path) -> None:
    generations = judged(tmp_path)
    with LoopbackChat(slowly(lambda _: REPLY, 0.2)) as chat:
        shell = Shell(tmp_path, OPENAI_BASE_URL=chat.url)
        shell.twice(0.0, lambda n: ["judge", generations, "-o", f"{n}.jsonl", "--model", MODEL, "--max-cost", cost])
    assert all(count == 1 for count in asked(chat).values())
    with Ledger.open(shell.ledger) as ledger:
        assert sum(row.cost + row.lost.cost for row in ledger.stats()) <= cost


@pytest.mark.slow
@pytest.mark.parametrize("command", ["generate", "pairs", "self-chat", "openai"])
def test_the_other_commands_that_pay(command: str, tmp_path: Path) -> None:
    def model(body: dict[str, Any]) -> str:
        text = body["messages"][-1]["content"]
        if command == "openai":
            return json.dumps({"document": text})
        return (
            "User: 안녕하세요?\nAI: 네, 안녕하세요.\nUser: 고마워요.\nAI: 천만에요."
            if command == "self-chat"
            else "[[A]]"
        )

    topics = tmp_path / "topics.txt"
    topics.write_text("\n".join(f"주제 {n}" for n in range(30)), encoding="utf-8")
    arguments: dict[str, Callable[[int], list[object]]] = {
        "generate": lambda n: ["generate", "--api", MODEL, "--dataset", "eval", "-o", f"{n}.jsonl"],
        "pairs": lambda n: ["judge", generations, "--against", other, "-o", f"{n}.jsonl", "--model", MODEL],
        "self-chat": lambda n: ["data", "synthesize", "self-chat", topics, "--model", MODEL, "-o", f"{n}.jsonl"],
        "openai": lambda n: ["data", "build", "alpaca", "--input", path, "--translator", "openai", "--model", MODEL, "-o", f"o-{n}"],
    }  # fmt: skip
    generations, other, path = judged(tmp_path), tmp_path / "other.jsonl", sources(tmp_path, 40)
    other.write_text(
        generations.read_text(encoding="utf-8").replace('"system": "', '"system": "other-'), encoding="utf-8"
    )
    with LoopbackChat(slowly(model, 0.3)) as chat:
        shell = Shell(tmp_path, OPENAI_BASE_URL=chat.url)
        if command == "generate":
            assert (
                shell.start(
                    "data", "build", "human_eval", "--input", "sample", "--translator", "none", "-o", "eval"
                ).wait()
                == 0
            )
        ended = shell.twice(0.0, arguments[command])
    assert len(chat.bodies) >= 20 and set(asked(chat).values()) == {1}, ended


def test_whoever_comes_second_takes_over_from_one_that_was_killed(tmp_path: Path) -> None:
    generations, held = judged(tmp_path), threading.Event()

    def model(_: dict[str, Any]) -> str:
        held.wait(60)
        return REPLY

    with LoopbackChat(model) as chat:
        shell = Shell(tmp_path, OPENAI_BASE_URL=chat.url)
        arguments = ["judge", generations, "--model", MODEL, "--concurrency", 4, "--limit", 8]
        first = shell.start(*arguments, "-o", "1.jsonl")
        while len(chat.bodies) < 4:
            assert first.poll() is None
            time.sleep(0.02)
        second = shell.start(*arguments, "-o", "2.jsonl")
        assert second.stdout is not None
        assert any("Another process is asking for some of the same" in line for line in second.stdout)
        time.sleep(0.5)
        assert len(chat.bodies) == 4, "it waits for the answers of the first"
        first.send_signal(signal.SIGKILL)
        first.wait()
        while len(chat.bodies) < 8:
            assert second.poll() is None
            time.sleep(0.02)
        held.set()
        output, _ = second.communicate(timeout=60)
    assert second.returncode == 0, output
    assert len(chat.bodies) == 12, "the four that were in flight are sent again, at once and by the living process"
    with Ledger.open(shell.ledger) as ledger:
        assert ledger.stats()[0].answered == 8 and ledger.stats()[0].in_flight == 4


def test_ctrl_c_waits_for_what_is_under_way(tmp_path: Path) -> None:
    generations = judged(tmp_path)
    with LoopbackChat(slowly(lambda _: REPLY, 1.5)) as chat:
        shell = Shell(tmp_path, OPENAI_BASE_URL=chat.url)
        process = shell.start("judge", generations, "-o", "v.jsonl", "--model", MODEL, "--concurrency", 6)
        while len(chat.bodies) < 6:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert (
        process.returncode == 130
        and "Waiting for 6 requests that are under way" in output
        and "Traceback" not in output
    )
    assert len(chat.bodies) == 6
    with Ledger.open(shell.ledger) as ledger:
        assert ledger.stats()[0].answered == 6 and ledger.in_flight() == []
