"""Translation against the loopback DeepL: how near to the allowed rate, and what a second build costs.

python -m benchmarks.translate
python -m benchmarks.translate --rows 20000 --latency 0.05 --rate 20
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from kollm.core.hashing import content_id
from kollm.core.records import Record
from kollm.services.ledger import Ledger
from kollm.translate import Budget, Router, translate_stream
from kollm.translate.deepl import DeepLTranslator
from tests.servers.deepl import KEY, DeepLServer

WORDS = [
    "time",
    "person",
    "year",
    "way",
    "day",
    "thing",
    "man",
    "world",
    "life",
    "hand",
    "part",
    "child",
    "eye",
    "woman",
    "place",
    "work",
    "week",
    "case",
    "point",
    "government",
    "company",
    "number",
    "group",
    "problem",
    "fact",
    "make",
    "know",
    "take",
    "see",
    "come",
    "think",
    "look",
    "want",
    "give",
    "use",
    "find",
    "tell",
    "ask",
    "seem",
    "feel",
    "try",
    "leave",
    "call",
    "good",
    "new",
    "first",
    "last",
    "long",
    "great",
    "little",
    "own",
    "other",
    "old",
    "right",
    "big",
    "high",
    "different",
    "small",
    "large",
    "next",
    "early",
]
STRUCTURES = ("`value_{}`", "https://example.org/{}", "$x_{}^2$", "{{name{}}}", "%d of {}", "<b>{}</b>", "{} apples")


def make_rows(count: int, seed: int = 7) -> Iterator[Record]:
    """Rows of Alpaca's shape: about 600 characters, a third with structure, none equal."""
    draw = random.Random(seed)

    def sentence(number: int) -> str:
        words = draw.choices(WORDS, k=draw.randint(6, 18))
        if draw.random() < 0.05:
            words.insert(draw.randrange(len(words)), draw.choice(STRUCTURES).format(number))
        return " ".join(words).capitalize() + "."

    for number in range(count):
        yield Record(
            id=f"made-{number}",
            source="made",
            instruction=f"{sentence(number)} Task {number}.",
            input=sentence(number) if draw.random() < 0.3 else "",
            output=" ".join(sentence(number) for _ in range(draw.randint(2, 9))),
        )


def serve(pipe: Connection, latency: float, rate: float | None) -> None:
    """Run the loopback server in its own process; answer each message with its counts."""
    with DeepLServer(latency=latency, rate=rate) as server:
        pipe.send(server.url)
        while pipe.recv() is not None:
            state = server.state
            pipe.send(
                (len(state.requests), state.used, dict(state.refused), max(state.billed_texts.values(), default=0))
            )


def build(url: str, ledger: Path, rows: list[Record], rate: float) -> tuple[float, str, Budget]:
    budget = Budget()
    digests = []
    started = time.perf_counter()
    with Ledger.open(ledger) as book:
        engine = DeepLTranslator(KEY, url, requests_per_second=rate)
        for outcome in translate_stream(rows, engine, ledger=book, budget=budget, router=Router()):
            digests.append((outcome.record.id, outcome.record.output, outcome.reason))
    return time.perf_counter() - started, content_id(digests), budget


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds a request")
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second that the server allows")
    options = parser.parse_args(arguments)
    rows = list(make_rows(options.rows))
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=serve, args=(theirs, options.latency, options.rate), daemon=True
    )
    server.start()
    url = ours.recv()
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder) / "ledger.sqlite3"
        first, digest, budget = build(url, ledger, rows, options.rate)
        ours.send("count")
        requests, used, refused, most = ours.recv()
        second, again, _ = build(url, ledger, rows, options.rate)
        ours.send("count")
        requests_after, *_ = ours.recv()
        size = ledger.stat().st_size
    ours.send(None)
    server.join()
    ceiling = requests / options.rate
    print(
        f"rows {options.rows:,}; {used:,} characters; {requests:,} requests; refused {refused}; texts billed at most {most}x"
    )
    print(
        f"first build  {first:7.2f} s   {requests / first:6.2f} requests/s   {100 * ceiling / first:5.1f}% of {options.rate:g}/s"
    )
    print(
        f"second build {second:7.2f} s   {requests_after - requests} requests   {100 * second / first:5.1f}% of the time"
    )
    print(f"same result: {digest == again}; {budget.spending().reconciliation()}")
    print(f"ledger {size / 1e6:.1f} MB; peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
