"""10,000 tasks by 5 systems by 3 judges: judged from the ledger alone, then reported and compared. Seconds and peak memory.

    python benchmarks/panel.py [--tasks 10000] [--systems 5] [--judges 3]

The ledger is filled with a reply to each question first, which is not measured. Each step is a process of its own, so that
its peak memory is its own; the address of the service is one that nobody answers.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kollm.core.files import json_line, read_jsonl
from kollm.core.generations import Generation
from kollm.core.resources import resource_folder
from kollm.judge.rubric_file import load_rubric
from kollm.judge.run import questions_on
from kollm.judge.served import ChatJudge
from kollm.services.chat import ChatClient, ChatService
from kollm.services.ledger import Answer, Charge, Ledger

JUDGES = ("gpt-5.5-2026-04-23", "gpt-5.4-mini-2026-03-17", "gpt-4.1-2025-04-14")
NOBODY = "http://127.0.0.1:9/v1"
RUBRIC = load_rubric("kullm2023-fixed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("tasks", 10_000), ("systems", 5), ("judges", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--step", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        measured(arguments.step)
        return
    judges = JUDGES[: arguments.judges]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"KOLLM_LEDGER": str(folder / "ledger.sqlite3"), "OPENAI_BASE_URL": NOBODY, "OPENAI_API_KEY": "x"}
        answers = write_answers(folder / "generations.jsonl", arguments.tasks, arguments.systems)
        fill(answers, judges)
        print(f"{len(answers) * len(judges):,} replies in the ledger; load {os.getloadavg()[0]:.1f}")
        models = [word for judge in judges for word in ("--model", judge)]
        verdicts = str(folder / "verdicts.jsonl")
        step("replay", ["judge", str(folder / "generations.jsonl"), "-o", verdicts, *models])
        step("report", ["report", str(folder)])
        step("compare", ["compare", str(folder), "--json"])
        step("panel", ["compare", str(folder), "--panel", "--json"])
        print(
            f"verdicts.jsonl: {Path(verdicts).stat().st_size / 1e6:.0f} MB, {sum(1 for _ in read_jsonl(Path(verdicts))):,}"
        )


def step(name: str, command: list[str]) -> None:
    child = subprocess.run(
        [sys.executable, __file__, "--step", *command], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    found = json.loads(child.stdout.splitlines()[-1])
    print(f"{name:8} {found['wall']:6.1f} s ({found['cpu']:.1f} s of processor), {found['peak']:.2f} GB at most")


def measured(command: list[str]) -> None:
    from kollm.cli import main as kollm

    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        kollm(command)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({"wall": time.perf_counter() - started, "cpu": time.process_time(), "peak": peak}))


def write_answers(path: Path, count: int, systems: int) -> list[Generation]:
    """Answers of 100 to 700 characters of the sample's own Korean."""
    rng, tasks = random.Random(0), list(read_jsonl(resource_folder("sources/sample_rows") / "human_eval.ko.jsonl"))
    corpus = " ".join(f"{task['instruction']} {task['instances'][0]['input']}" for task in tasks)
    answers = []
    for system in range(systems):
        for number in range(count):
            task, start = tasks[number % len(tasks)], rng.randrange(len(corpus) - 800)
            response = corpus[start : start + rng.randrange(100, 700)]
            asked = f"{task['instruction']} ({number})", task["instances"][0]["input"]
            answers.append(Generation(f"t-{number}", *asked, response, "model", "", {}, "stop", f"system-{system}"))
    path.write_text("".join(json_line(answer.to_row()) for answer in answers), encoding="utf-8")
    return answers


def fill(answers: list[Generation], judges: tuple[str, ...]) -> None:
    """Put a reply to every question into the ledger, as if it had been bought."""
    rng = random.Random(1)
    with Ledger.open() as ledger:
        for model in judges:
            client = ChatClient(ChatService(model), kind="judge", ledger=ledger)
            judge = ChatJudge(client, RUBRIC)
            questions = questions_on(answers, 1)
            for start in range(0, len(questions), 2_000):
                purchases = [client.purchase(judge.request(question)) for question in questions[start : start + 2_000]]
                bought = {purchase.key: purchase for purchase in purchases}
                client.buying.lease({key: (purchase, Charge(0, 0.001)) for key, purchase in bought.items()})
                client.buying.settle({key: Answer(reply(rng, model), 0, 0.001) for key in bought})


def reply(rng: random.Random, model: str) -> dict[str, object]:
    lines = [f"- {axis.label} ({axis.low} - {axis.high}): {rng.randint(axis.low, axis.high)}" for axis in RUBRIC.axes]
    usage = {"prompt_tokens": 800, "completion_tokens": 80, "total_tokens": 880}
    return {
        "text": "\n".join(lines), "finish_reason": "stop", "refusal": "", "logprobs": None, "model": model, "usage": usage,
        "fingerprint": "",
    }  # fmt: skip


if __name__ == "__main__":
    main()
