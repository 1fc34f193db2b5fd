"""Kill commands at random moments - the parent alone, a child alone, the whole group - and look at what comes of it.

    python -m benchmarks.kills --work WORK                       # 100 kills; the same command goes on where it was cut off
    python -m benchmarks.kills --work WORK --kills 400 --seed 2

A round takes one command (build, judge, train, generate, merge, run; tiny models, loopback services) and a new folder, kills it a few
times and then lets it end. Checked after every kill: within seconds no process of it is left. Checked after every round:
the same bytes as of an undisturbed run; and of what is paid for, nothing that was answered is bought again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.judge import REPLY
from kollm.core.files import JsonlAppender, json_line, read_jsonl, write_json
from kollm.core.generations import Generation
from tests.servers.chat import LoopbackChat

MARK = "KOLLM_KILLS"
"""Environment variable by which all processes of a round are found, whoever their parent is by then."""
ROUNDS = (
    "build",
    "judge",
    "train",
    "build",
    "generate",
    "judge",
    "merge",
    "build",
    "judge",
    "generate",
    "train",
    "run",
)
KILLS_A_ROUND = 4
PATIENCE = 20.0
"""Seconds within which nothing may be left of a command one of whose processes was killed."""
JUDGED, AT_ONCE = 40, 4
TINY = (
    "base.toy={hidden_size: 32, layers: 1, heads: 2, vocab_size: 600, context: 2048, pretrain_steps: 4}",
    "trainer.save_steps=2",
    "generation.max_new_tokens=4",
)


class Command(NamedTuple):
    """A command, and what it leaves.

    Attributes:
        line: of kollm; `{out}` is the round's folder, `{whole}` that of an undisturbed run.
        compared: files and folders whose bytes are the same whatever happened meanwhile.
        as_rows: files of which only the rows are, in any order.
        at_once: requests that one kill may lose, each paid once more; 0 for what asks nobody.
        sets: overrides of the recipe.
    """

    line: str
    compared: tuple[str, ...] = ()
    as_rows: tuple[str, ...] = ()
    at_once: int = 0
    sets: tuple[str, ...] = ()


COMMANDS = {
    "build": Command("data build gpt4_llm --input sample --memory sample --processes 2 -o {out}/dataset", ("dataset",)),
    "judge": Command(
        f"judge {{work}}/answers.jsonl --concurrency {AT_ONCE} -o {{out}}/verdicts.jsonl",
        as_rows=("verdicts.jsonl",),
        at_once=AT_ONCE,
    ),
    "train": Command(
        "train demo --dataset {whole}/dataset --base {whole}/base -o {out}/adapter",
        ("adapter/adapter_model.safetensors",),
        sets=(*TINY, "trainer.max_steps=12"),
    ),
    "generate": Command(
        "generate {whole}/adapter --dataset {whole}/evaluation --max-new-tokens 8 --batch-size 1 -o {out}/answers.jsonl",
        ("answers.jsonl",),
    ),
    "merge": Command("merge {whole}/adapter -o {out}/merged", ("merged",)),
    "run": Command(
        "run demo -o {out}/run --limit 30",
        ("run/dataset", "run/evaluation", "run/base", "run/generations.jsonl", "run/adapter/adapter_model.safetensors"),
        ("run/verdicts.jsonl",),
        sets=(*TINY, "trainer.max_steps=4"),
    ),
}


class Bench:
    """A folder with an undisturbed run of each command, and a service that judges."""

    def __init__(self, work: Path, chat: LoopbackChat) -> None:
        self.work, self.chat = work, chat
        self.whole = work / "run" / "run"
        work.mkdir(parents=True, exist_ok=True)
        rows = [Generation(f"t-{n}", f"질문 {n}", "", f"답 {n}", "s", "", {}, "stop", "s") for n in range(JUDGED)]
        (work / "answers.jsonl").write_text("".join(json_line(row.to_row()) for row in rows), encoding="utf-8")
        self.seconds: dict[str, float] = {}
        for name in ("run", *(other for other in COMMANDS if other != "run")):
            self.seconds[name] = self._undisturbed(name)

    def start(self, name: str, out: Path) -> subprocess.Popen[bytes]:
        places = {"out": out, "whole": self.whole, "work": self.work}
        arguments = [part.format(**places) for part in COMMANDS[name].line.split()]
        arguments += [part for value in COMMANDS[name].sets for part in ("--set", value)]
        environment = {
            **os.environ,
            MARK: str(out),
            "KOLLM_LEDGER": str(out / "ledger.sqlite3"),
            "OPENAI_BASE_URL": self.chat.url,
            "OPENAI_API_KEY": "loopback",
        }
        with (out / "log.txt").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "kollm", *arguments],
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    def finish(self, name: str, out: Path) -> float:
        """Let the command run to its end; the seconds it took."""
        started = time.monotonic()
        if (code := self.start(name, out).wait()) != 0:
            sys.exit(f"{name} ended with exit code {code}; see {out / 'log.txt'}")
        return time.monotonic() - started

    def _undisturbed(self, name: str) -> float:
        out = self.work / name  # beside the rounds, so that paths between folders are the same
        done = out / "seconds.json"
        if not done.is_file():
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir(parents=True)
            write_json(done, self.finish(name, out))
        return float(json.loads(done.read_text()))

    def difference(self, name: str, out: Path) -> list[str]:
        """The files that are not as of the undisturbed run."""
        whole, command = self.work / name, COMMANDS[name]
        names = [
            path.relative_to(whole).as_posix()
            for entry in command.compared
            for path in ([whole / entry] if (whole / entry).is_file() else sorted((whole / entry).rglob("*")))
            if path.is_file() and path.name != "run.json"
        ]
        assert names or command.as_rows
        found = [
            path
            for path in names
            if not (out / path).is_file() or (out / path).read_bytes() != (whole / path).read_bytes()
        ]
        return found + [path for path in command.as_rows if _rows(out / path) != _rows(whole / path)]


def _rows(path: Path) -> list[str]:
    return sorted(json.dumps({**row, "usage": None}, sort_keys=True) for row in read_jsonl(path))


def left(out: Path) -> list[psutil.Process]:
    """The processes of a round that live."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(out) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def kill(process: subprocess.Popen[bytes], victim: str, draw: random.Random, out: Path) -> dict[str, Any]:
    """Kill, wait for what must follow, and say what did."""
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    if victim == "child" and not children:
        victim = "parent"  # a command of one process
    if process.poll() is not None:
        victim = "nobody"  # it had ended before
    elif victim == "group":
        os.killpg(process.pid, signal.SIGKILL)
        for child in children:  # those of a session of their own
            child.kill() if child.is_running() else None
    elif victim == "parent":
        process.kill()
    else:
        draw.choice(children).kill()
    started = time.monotonic()
    while (process.poll() is None or left(out)) and time.monotonic() - started < PATIENCE:
        time.sleep(0.05)
    behind = left(out)
    for one in behind:
        one.kill()
    process.wait()
    return {"victim": victim, "seconds": round(time.monotonic() - started, 2), "left": len(behind)}


def play(bench: Bench, number: int, seed: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """One round."""
    draw, name = random.Random(f"{seed}-{number}"), ROUNDS[number % len(ROUNDS)]
    out = bench.work / f"round-{seed}-{number}"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    bench.chat.bodies.clear()
    kills = []
    for _ in range(KILLS_A_ROUND):
        victim, moment = draw.choice(("parent", "child", "group")), draw.uniform(0.1, bench.seconds[name])
        process = bench.start(name, out)
        deadline = time.monotonic() + moment
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        kills.append({"after": round(moment, 2), **kill(process, victim, draw, out)})
    bench.finish(name, out)
    asked = Counter(json.dumps(body["messages"]) for body in bench.chat.bodies)
    again = sum(asked.values()) - len(asked)
    hit = sum(entry["victim"] != "nobody" for entry in kills)
    row = {
        "round": number,
        "seed": seed,
        "command": name,
        "kills": kills,
        "different": bench.difference(name, out),
        "bought_again": again,
        "too_many": again > hit * COMMANDS[name].at_once,
    }
    if not row["different"] and not row["too_many"]:
        shutil.rmtree(out)
    tell(f"round {number}, {name}: {', '.join(entry['victim'] for entry in kills)}; different: {row['different'] or 'nothing'}, "
         f"left behind: {sum(entry['left'] for entry in kills)}, bought again: {again}")  # fmt: skip
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """What came of the rounds, by command."""
    lines = ["| command | rounds | kills: parent / child / group | had ended | different | processes left | bought again |", "|---|---:|---:|---:|---:|---:|---:|"]  # fmt: skip
    for name in COMMANDS:
        mine = [row for row in rows if row["command"] == name]
        if mine:
            victims = Counter(entry["victim"] for row in mine for entry in row["kills"])
            by_whom = " / ".join(str(victims[who]) for who in ("parent", "child", "group"))
            left_behind = sum(entry["left"] for row in mine for entry in row["kills"])
            different = sum(bool(row["different"]) for row in mine)
            lines.append(f"| {name} | {len(mine)} | {by_whom} | {victims['nobody']} | {different} | {left_behind} | {sum(row['bought_again'] for row in mine)} |")  # fmt: skip
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", type=Path, required=True, help="Folder for what is made; it says where a cut-off bench goes on."
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)

    def slow(_: dict[str, Any]) -> str:
        time.sleep(0.2)
        return REPLY

    with LoopbackChat(slow) as chat:
        bench = Bench(options.work.resolve(), chat)
        path = bench.work / "rounds.jsonl"
        rows = [row for row in (read_jsonl(path) if path.exists() else ()) if row["seed"] == options.seed]
        with JsonlAppender(path) as file:
            while _kills(rows) < options.kills:
                rows.append(
                    play(
                        bench,
                        1 + max((row["round"] for row in rows), default=-1),
                        options.seed,
                        lambda line: print(line, flush=True),
                    )
                )
                file.append(rows[-1])
    slowest = max((entry["seconds"] for row in rows for entry in row["kills"]), default=0.0)
    print(table(rows))
    print(
        f"{_kills(rows)} kills in {len(rows)} rounds; after the slowest, the last process ended within {slowest:.1f} s"
    )
    if any(row["different"] or row["too_many"] or any(entry["left"] for entry in row["kills"]) for row in rows):
        sys.exit("a promise was broken; the rounds are in " + str(path))


def _kills(rows: list[dict[str, Any]]) -> int:
    return sum(entry["victim"] != "nobody" for row in rows for entry in row["kills"])


if __name__ == "__main__":
    main()
