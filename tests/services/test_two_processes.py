"""Two real processes of every paying command on one ledger: each text is bought once, and no cap is passed.

`benchmarks/two_processes.py` has the same with commands as a shell starts them, two and five seconds apart.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kollm.services.ledger import Ledger
from tests.judge.conftest import REPLY
from tests.processes import Process, Starter
from tests.servers.chat import LoopbackChat
from tests.servers.deepl import DeepLServer
from tests.services.paying import AT_ONCE, COMMANDS, DEEPL, Model, billed, environment, inputs

COUNT = 40
SHARED = "Another process is asking for some of the same"
"""What a process says that waits for another's answers."""


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    with Starter() as starter:
        yield starter


class Shell:
    """Runs kollm with a ledger of the test's own."""

    def __init__(self, starter: Starter, folder: Path, url: str) -> None:
        self.folder, self.ledger = folder, folder / "ledger.sqlite3"
        self._starter, self._environment = starter, environment(folder, url)
        inputs(folder, COUNT)

    def start(self, line: str, number: int = 1, *more: object) -> Process:
        return self._starter.start([*line.format(n=number).split(), *more], self.folder, self._environment)


class Gate:
    """Lets a service answer so many requests, and the others once it is opened."""

    def __init__(self, model: Model, free: int) -> None:
        self._model, self._free, self._open = model, free, threading.Event()
        self._lock, self._asked = threading.Lock(), 0

    def __call__(self, body: dict[str, Any]) -> Any:
        with self._lock:
            self._asked += 1
            number = self._asked
        if number > self._free:
            self._open.wait(280)
        return self._model(body)

    def open(self) -> None:
        self._open.set()


def asked(chat: LoopbackChat) -> Counter[str]:
    return Counter(json.dumps(body["messages"]) for body in chat.bodies)


def until(true: Callable[[], bool], *processes: Process) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline and all(one.running for one in processes), [one.output for one in processes]
        time.sleep(0.01)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    "free",
    [
        0,
        pytest.param(
            12, marks=pytest.mark.nightly("tests/services/test_two_processes.py::test_each_text_is_bought_once")
        ),
    ],
)
def test_each_text_is_bought_once(name: str, free: int, starter: Starter, tmp_path: Path) -> None:
    """The second comes before the first has any answer, or when it has some."""
    command = COMMANDS[name]
    gate = Gate(command.model, free)
    with LoopbackChat(gate) as chat:
        shell = Shell(starter, tmp_path, chat.url)
        first = shell.start(command.line, 1)
        until(lambda: len(chat.bodies) > free, first)
        second = shell.start(command.line, 2)
        until(lambda: SHARED in second.output, first, second)
        gate.open()
        codes = [process.wait() for process in (first, second)]
    assert codes == [0, 0], first.output + second.output
    assert len(chat.bodies) > 20 and set(asked(chat).values()) == {1}
    with Ledger.open(shell.ledger) as ledger:
        assert ledger.in_flight() == [] and sum(row.answered for row in ledger.stats()) == len(chat.bodies)
    made = [sorted(tmp_path.glob(f"?-{number}*")) for number in (1, 2)]
    lines = [sorted(path.read_text(encoding="utf-8").splitlines()) for (path,) in made if path.is_file()]
    assert not lines or (lines[0] and len(lines[0]) == len(lines[1])), "whoever comes second has the answers too"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=()
            if name in ("openai", "generate")
            else pytest.mark.nightly("tests/services/test_two_processes.py::test_no_cap_is_passed"),
        )
        for name in COMMANDS
    ],
)
def test_no_cap_is_passed(name: str, starter: Starter, tmp_path: Path) -> None:
    command = COMMANDS[name]
    with LoopbackChat(billed(command.model)) as chat:
        shell = Shell(starter, tmp_path, chat.url)
        both = [shell.start(command.line, number, "--max-cost", command.cap) for number in (1, 2)]
        codes = [process.wait() for process in both]
    assert codes == [1, 1] and all("cap" in process.output for process in both), [one.output for one in both]
    assert chat.bodies and set(asked(chat).values()) == {1}
    with Ledger.open(shell.ledger) as ledger:
        assert 0 < sum(row.cost + row.lost.cost for row in ledger.stats()) <= command.cap


def test_builds_with_deepl_and_their_cap(starter: Starter, tmp_path: Path) -> None:
    with DeepLServer(latency=0.1) as server:
        shell = Shell(starter, tmp_path, server.url)
        capped = [shell.start(DEEPL, number, "--max-characters", 1_000) for number in (1, 2)]
        assert [process.wait() for process in capped] == [1, 1]
        assert all("Stopped before the cap" in process.output for process in capped)
        assert 600 < server.state.used <= 1_000 and set(server.state.billed_texts.values()) == {1}
        whole = [shell.start(DEEPL, number) for number in (1, 2)]
        assert [process.wait() for process in whole] == [0, 0], [process.output for process in whole]
    assert set(server.state.billed_texts.values()) == {1}, "each text is billed once"
    files = [sorted((tmp_path / f"d-{number}").rglob("*.parquet")) for number in (1, 2)]
    assert [file.read_bytes() for file in files[0]] == [file.read_bytes() for file in files[1]] and files[0]


def test_whoever_comes_second_takes_over_from_one_that_was_killed(starter: Starter, tmp_path: Path) -> None:
    gate = Gate(lambda _: REPLY, 0)
    with LoopbackChat(gate) as chat:
        shell = Shell(starter, tmp_path, chat.url)
        first = shell.start(COMMANDS["judge"].line, 1, "--limit", 2 * AT_ONCE)
        until(lambda: len(chat.bodies) == AT_ONCE, first)
        second = shell.start(COMMANDS["judge"].line, 2, "--limit", 2 * AT_ONCE)
        until(lambda: SHARED in second.output, first, second)
        time.sleep(0.3)
        assert len(chat.bodies) == AT_ONCE, "it waits for the answers of the first"
        first.send_signal(signal.SIGKILL)
        until(lambda: len(chat.bodies) == 2 * AT_ONCE, second)
        gate.open()
        assert second.wait() == 0, second.output
    assert len(chat.bodies) == 3 * AT_ONCE, "what was in flight is sent again, at once and by the living process"
    with Ledger.open(shell.ledger) as ledger:
        assert ledger.stats()[0].answered == 2 * AT_ONCE and ledger.stats()[0].in_flight == AT_ONCE


def test_ctrl_c_waits_for_what_is_under_way(starter: Starter, tmp_path: Path) -> None:
    gate = Gate(lambda _: REPLY, 0)
    with LoopbackChat(gate) as chat:
        shell = Shell(starter, tmp_path, chat.url)
        process = shell.start(COMMANDS["judge"].line)
        until(lambda: len(chat.bodies) == AT_ONCE, process)
        process.send_signal(signal.SIGINT)
        until(lambda: f"Waiting for {AT_ONCE} requests that are under way" in process.output, process)
        gate.open()
        assert process.wait() == 130 and "Traceback" not in process.output
    assert len(chat.bodies) == AT_ONCE
    with Ledger.open(shell.ledger) as ledger:
        assert ledger.stats()[0].answered == AT_ONCE and ledger.in_flight() == []
