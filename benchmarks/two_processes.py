"""Two processes of every command that pays, on one ledger, started 0, 2 and 5 seconds apart.

    python -m benchmarks.two_processes --state pairs.jsonl      # the same command goes on where it was cut off

The services are on this machine and take their time, so that the first is at work still when the second comes. Checked
at the service: each text is asked for once; with a cap, what was billed stays under it. Both processes have all answers
in the end, or both stop at the cap.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from kollm.core.files import JsonlAppender, read_jsonl
from kollm.services.ledger import Ledger
from tests.servers.chat import LoopbackChat
from tests.servers.deepl import DeepLServer
from tests.services.paying import COMMANDS, DEEPL, Model, billed, environment, inputs

DELAYS = (0.0, 2.0, 5.0)
COUNT = 40
SECONDS = 9.0
"""How long the answers to one command take, about."""
MOST_CHARACTERS = 1_000


class Case(NamedTuple):
    """Two of one command, so many seconds apart."""

    command: str
    delay: float
    capped: bool


def cases() -> Iterator[Case]:
    for command in (*COMMANDS, "deepl"):
        for delay in DELAYS:
            for capped in (False, True):
                yield Case(command, delay, capped)


def slowly(model: Model, seconds: float) -> Model:
    def answer(body: dict[str, Any]) -> Any:
        time.sleep(seconds)
        return model(body)

    return answer


def run(line: str, more: list[str], delay: float, folder: Path, url: str) -> tuple[list[int], bool]:
    """Exit codes of both, and whether the second came before the first had ended."""

    def start(number: int) -> subprocess.Popen[bytes]:
        with (folder / f"log-{number}.txt").open("wb") as log:
            command = [sys.executable, "-m", "kollm", *line.format(n=number).split(), *more]
            places = {**os.environ, **environment(folder, url), "PYTHONPATH": os.pathsep.join(sys.path)}
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=places)

    first = start(1)
    time.sleep(delay)
    overlapping = first.poll() is None
    second = start(2)
    return [first.wait(), second.wait()], overlapping


def play(case: Case) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        inputs(folder, COUNT)
        row = _deepl(case, folder) if case.command == "deepl" else _chat(case, folder)
        with Ledger.open(folder / "ledger.sqlite3") as ledger:
            row["in flight"] = len(ledger.in_flight())
    row["kept"] = (
        row["most times"] == 1 and row["codes"] == ([1, 1] if case.capped else [0, 0]) and not row["in flight"]
    )
    row["kept"] = row["kept"] and (not case.capped or 0 < row["billed"] <= row["cap"])
    return {**case._asdict(), **row}


def _chat(case: Case, folder: Path) -> dict[str, Any]:
    command = COMMANDS[case.command]
    at_once = 4 if "--concurrency 4" in command.line else 32
    model = billed(command.model) if case.capped else command.model
    with LoopbackChat(slowly(model, SECONDS * at_once / (COUNT + at_once))) as chat:
        more = ["--max-cost", str(command.cap)] if case.capped else []
        codes, overlapping = run(command.line, more, case.delay, folder, chat.url)
    asked = Counter(json.dumps(body["messages"]) for body in chat.bodies)
    with Ledger.open(folder / "ledger.sqlite3") as ledger:
        cost = sum(item.cost + item.lost.cost for item in ledger.stats())
    return _row(codes, overlapping, asked, cost, command.cap)


def _deepl(case: Case, folder: Path) -> dict[str, Any]:
    with DeepLServer(latency=SECONDS / 3) as server:
        more = ["--max-characters", str(MOST_CHARACTERS)] if case.capped else []
        codes, overlapping = run(DEEPL, more, case.delay, folder, server.url)
    return _row(codes, overlapping, server.state.billed_texts, server.state.used, MOST_CHARACTERS)


def _row(codes: list[int], overlapping: bool, asked: Counter[str], spent: float, cap: float) -> dict[str, Any]:
    return {
        "codes": codes,
        "overlapping": overlapping,
        "texts": len(asked),
        "most times": max(asked.values(), default=0),
        "billed": spent,
        "cap": cap,
    }


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| command | apart | texts | asked for, most | with a cap: texts | billed of the cap | kept |", "|---|---:|---:|---:|---:|---:|---|"]  # fmt: skip
    for command, delay in dict.fromkeys((row["command"], row["delay"]) for row in rows):
        whole, capped = (
            next((row for row in rows if (row["command"], row["delay"], row["capped"]) == (command, delay, cap)), None)
            for cap in (False, True)
        )
        if whole and capped:
            lines.append(
                f"| {command} | {delay:.0f} s | {whole['texts']} | {whole['most times']} | {capped['texts']} | "
                f"{100 * capped['billed'] / capped['cap']:.0f}% | {'yes' if whole['kept'] and capped['kept'] else 'NO'} |"
            )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True, help="File for what was found; goes on from it.")
    options = parser.parse_args(arguments)
    rows = list(read_jsonl(options.state)) if options.state.exists() else []
    done = {(row["command"], row["delay"], row["capped"]) for row in rows}
    with JsonlAppender(options.state) as file:
        for case in cases():
            if tuple(case) not in done:
                rows.append(play(case))
                file.append(rows[-1])
                print(json.dumps(rows[-1]), flush=True)
    print(table(rows))
    alone = sum(not row["overlapping"] for row in rows)
    print(f"{len(rows)} pairs; in {alone} the first had ended before the second came")
    if not all(row["kept"] for row in rows):
        sys.exit("a promise was broken")


if __name__ == "__main__":
    main()
