"""What judging costs in time: beside a bare client, replayed, with faults on, parsed, and by a local model.

python benchmarks/judge.py ../shared/data/self_instruct_user_oriented_ko.jsonl
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import openai

from kollm.core.generations import Generation
from kollm.judge.local import LocalJudge
from kollm.judge.parse import parse_verdict
from kollm.judge.rubric_file import load_rubric
from kollm.judge.run import Question, judge_generations
from kollm.judge.served import ChatJudge
from kollm.judge.verdicts import read_verdicts
from kollm.recipe.schema import ToyBase
from kollm.services.chat import ChatClient, ChatService
from kollm.services.ledger import Ledger
from kollm.services.retry import RetryPolicy
from kollm.train.toy import make_base

MODEL = "gpt-5.4-mini-2026-03-17"
CONCURRENCY = 32
LATENCY_MS = 200
ROUNDS = 5
REPLY = (
    "- 이해 가능성 (0 - 1): 1\n- 자연스러움 (1 - 3): 2\n- 맥락 유지 (1 - 3): 3\n"
    "- 흥미롭기 (1 - 3): 1\n- 지시어 사용 (0 - 1): 0\n- 전반적인 품질 (1 - 5): 4"
)
RECORDED = (
    REPLY,
    REPLY.replace("- ", "* ").replace(":", "："),
    "**이해 가능성 (0 - 1):** 1\n**자연스러움**: 2점 - 자연스럽습니다.\n맥락 유지: 3/3\n흥미롭기: N/A\n지시어 사용: 0\n전반적인 품질: 4.5",
    "Result:\n" + REPLY + "\n\n이 응답은 지시어를 따르지 않았지만 문장은 자연스럽습니다. " * 3,
)


def main(path: str) -> None:
    os.environ.setdefault("OPENAI_API_KEY", "loopback")
    answers = read_answers(Path(path))
    with tempfile.TemporaryDirectory() as folder:
        beside_a_bare_client(answers, Path(folder))
        with_faults(answers, Path(folder))
        local_model(answers, Path(folder))
    parsing(100_000)


def read_answers(path: Path) -> list[Generation]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        Generation(
            row["id"],
            row["instruction"],
            row["instances"][0]["input"],
            row["instances"][0]["output"],
            "reference",
            "",
            {},
            "stop",
            "reference",
        )
        for row in rows
    ]


def beside_a_bare_client(answers: list[Generation], folder: Path) -> None:
    print(f"{len(answers)} tasks, {LATENCY_MS} ms a reply, concurrency {CONCURRENCY}; seconds")
    bare_times, judge_times = [], []
    with server(latency_ms=LATENCY_MS) as base_url:
        for number in range(ROUNDS):
            with Ledger.open(folder / f"{number}.sqlite3") as ledger:
                judge = judge_at(base_url, ledger)
                prompts = [judge.request(Question(answer)) for answer in answers]
                started = time.perf_counter()
                asyncio.run(bare_loop(base_url, prompts))
                bare_times.append(time.perf_counter() - started)
                started = time.perf_counter()
                report = judge_generations(answers, judge, folder / f"{number}.jsonl")
                judge_times.append(time.perf_counter() - started)
                assert report.statuses == {"ok": len(answers)}
        print("  bare AsyncOpenAI  " + "  ".join(f"{seconds:.2f}" for seconds in bare_times))
        print("  kollm judge       " + "  ".join(f"{seconds:.2f}" for seconds in judge_times))
        print(f"  ratio of the medians {median(judge_times) / median(bare_times):.3f}")
    with Ledger.open(folder / "0.sqlite3") as ledger:
        started = time.perf_counter()
        judge_generations(answers, judge_at(base_url, ledger), folder / "replay.jsonl")
        print(f"  replay from the ledger, the service gone: {time.perf_counter() - started:.2f} s")


def with_faults(answers: list[Generation], folder: Path) -> None:
    rates = {429: 0.1, 500: 0.1, 502: 0.05, 503: 0.1}
    with server(latency_ms=20, error_rates=rates) as base_url, Ledger.open(folder / "faults.sqlite3") as ledger:
        started = time.perf_counter()
        report = judge_generations(
            answers, judge_at(base_url, ledger, retry=RetryPolicy(tries=10, first=0.05)), folder / "faults.jsonl"
        )
        seconds = time.perf_counter() - started
        lost = sum(item.sends for item in ledger.in_flight())
        print(
            f"\nfaults on ({sum(rates.values()):.0%} of requests): {report.statuses}, {ledger.stats()[0].answered} answers paid, "
            f"{lost} sends that may have been charged (502), {seconds:.1f} s"
        )


def local_model(answers: list[Generation], folder: Path) -> None:
    """Two systems' answers, Korean text of some hundred tokens each, judged by a model of the demo's size."""
    texts = [f"{answer.instruction} {answer.input}" for answer in answers]
    make_base("gpt_neox", ToyBase(pretrain_steps=0), texts, folder / "base")
    longer = [
        replace(answer, response=" ".join(texts[n : n + 3])[:1200], system=system)
        for system in ("adapter", "base")
        for n, answer in enumerate(answers)
    ]
    started, cpu = time.perf_counter(), time.process_time()
    judge = LocalJudge(folder / "base", "kullm2023")
    report = judge_generations(longer, judge, folder / "local.jsonl")
    tokens = sum(verdict.usage["prompt_tokens"] for verdict in read_verdicts(folder / "local.jsonl"))
    print(
        f"\nlocal judge, {sum(p.numel() for p in judge.model.parameters()):,} parameters: {report.verdicts} answers, "
        f"{tokens:,} prompt tokens, {time.perf_counter() - started:.1f} s ({time.process_time() - cpu:.1f} s of processor time)"
    )


def parsing(count: int) -> None:
    rubric = load_rubric("kullm2023")
    started, cpu = time.perf_counter(), time.process_time()
    read = sum(parse_verdict(RECORDED[n % len(RECORDED)], rubric)["overall_quality"] is not None for n in range(count))
    print(
        f"\n{count:,} replies parsed in {time.perf_counter() - started:.1f} s ({time.process_time() - cpu:.1f} s of processor time)"
    )
    assert read == count


def judge_at(base_url: str, ledger: Ledger, known_as: str | None = None, **options: Any) -> ChatJudge:
    """A judge at an address; `known_as` is the address under which the ledger holds its answers."""
    service = ChatService(MODEL, known_as or base_url, concurrency=CONCURRENCY, **options)
    client = ChatClient(service, kind="judge", ledger=ledger)
    return ChatJudge(client, "kullm2023")


async def bare_loop(base_url: str, requests: list[Any]) -> None:
    """The shortest way to ask them all: a semaphore around the client."""
    gate = asyncio.Semaphore(CONCURRENCY)
    async with openai.AsyncOpenAI(base_url=base_url) as client:

        async def ask(request: Any) -> str | None:
            async with gate:
                reply = await client.chat.completions.create(model=MODEL, messages=request.messages, **request.options)
                return reply.choices[0].message.content

        replies = await asyncio.gather(*(ask(request) for request in requests))
    assert set(replies) == {REPLY}


@contextmanager
def server(latency_ms: int, error_rates: dict[int, float] | None = None) -> Iterator[str]:
    """llmock in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ready: Any = context.Queue()
    process = context.Process(target=serve, args=(ready, latency_ms, error_rates or {}), daemon=True)
    process.start()
    try:
        yield ready.get(timeout=60)
    finally:
        process.terminate()
        process.join()


def serve(ready: Any, latency_ms: int, error_rates: dict[int, float]) -> None:
    from llmock.chaos import ChaosSettings
    from llmock.scenarios import Reply
    from llmock.testing import LLMockServer

    with LLMockServer(chaos=ChaosSettings(latency_ms=latency_ms, error_rates=error_rates)) as running:
        running.state.scenarios.add(Reply(text=REPLY, times=None))
        ready.put(running.base_url("openai"))
        while True:
            time.sleep(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
