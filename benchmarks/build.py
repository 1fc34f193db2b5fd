"""Rows a second and peak memory of a dataset build, from 100 thousand to 1.5 million rows.

    python -m benchmarks.build ../shared/data/alpaca_gpt4_en_1000.json --rows 100000 --rows 1500000

Rows are made from the sentences of a real file in Alpaca's form: an instruction, and as many random sentences as the
answer of a random row has. Of every 100 rows 3 are copies of an earlier row and 3 are copies with one word changed.
The whole pipeline runs, through `build_dataset`: JSON, adapt, mask and unmask, filters, exact and near duplicates,
leak check in both languages, parquet. The translator is a stand-in that puts a syllable for each consonant; its time
counts. The paper's filter, langid, is timed on a seeded sample of the same rows.

    python -m benchmarks.build ../shared/data/alpaca_gpt4_en_1000.json --rows 20000 --bought

builds the same rows from what was bought: a loopback DeepL in a process of its own sells all of them first, and the
finished rows that the ledger remembers are taken out of it, as after an update of kollm.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import re
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.pseudo_korean import PseudoKorean
from benchmarks.translate import serve
from kollm.dataset.folder import read_records
from kollm.dataset.pipeline import build_dataset
from kollm.dataset.settings import SourceInput
from kollm.quality.filters import FILTERS, drop_reason
from kollm.quality.view import View
from kollm.services.ledger import Ledger
from kollm.translate.deepl import DeepLTranslator
from tests.servers.deepl import KEY

COPIES, CHANGED = 0.03, 0.03


def make_rows(path: Path, count: int, seed: int = 0) -> Iterator[dict[str, str]]:
    """Rows from the sentences of a real file, some of them copies."""
    real = json.loads(path.read_text(encoding="utf-8"))
    lengths = [max(1, round(len(row["output"]) / 120)) for row in real]
    sentences = [part for row in real for part in re.split(r"(?<=[.!?])\s+|\n\n", row["output"]) if len(part) > 20]
    words = sorted({word for sentence in sentences for word in re.findall(r"[a-z]{5,}", sentence)})
    generator = random.Random(seed)
    recent: list[dict[str, str]] = []
    for _ in range(count):
        chance = generator.random()
        if recent and chance < COPIES + CHANGED:
            row = dict(generator.choice(recent))
            if chance < CHANGED:
                row["output"] += f" {generator.choice(words)}."
            yield row
            continue
        number = generator.randrange(len(real))
        topic = " ".join(generator.sample(words, 3))
        output = " ".join(generator.choices(sentences, k=min(lengths[number], 8)))
        row = {
            "instruction": f"{real[number]['instruction']} ({topic})",
            "input": real[number]["input"],
            "output": output,
        }
        if len(recent) < 5_000 or generator.random() < 0.01:
            recent.append(row)
            recent = recent[-5_000:]
        yield row


def write_rows(source: Path, count: int, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in make_rows(source, count):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def measure(path: Path, folder: Path, processes: int, **engine: Any) -> dict[str, float]:
    """One build: seconds on the clock and on the processors, and the peak memory of all processes together."""
    clock, before = time.perf_counter(), _processor_seconds()
    report = build_dataset([SourceInput("gpt4_llm", path)], output=folder, leaks="drop", processes=processes, **engine)
    clock = time.perf_counter() - clock
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {
        "rows": sum(report.rows.values()) + sum(report.dropped.values()),
        "kept": sum(report.rows.values()),
        "exact": report.dropped.get("duplicate_exact", 0),
        "near": report.dropped.get("duplicate_near", 0),
        "seconds": clock,
        "processor": _processor_seconds() - before,
        "memory": (own + processes * child) / 2**20,
    }


def buy(path: Path, folder: Path, ledger: Ledger) -> DeepLTranslator:
    """Buy all rows from a loopback DeepL, and forget the finished rows that the ledger keeps beside the purchases.

    Returns:
        The engine whose purchases they are.
    """
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, 0.0, None), daemon=True)
    server.start()
    theirs.close()  # so that a server that dies ends the wait for its address
    engine = DeepLTranslator(KEY, ours.recv(), requests_per_second=1000.0)
    measure(path, folder, 0, translator=engine, ledger=ledger)
    ours.send(None)
    server.join()
    ledger.forget_rows("")
    return engine


def langid_ratio(folder: Path, rows: int = 20_000, seed: int = 0) -> tuple[float, float]:
    """Rows a second of one process through the default filters and through the paper's, on the same seeded sample."""
    records = list(read_records(folder, "gpt4-llm"))
    sample = random.Random(seed).sample(records, min(rows, len(records)))
    rates = []
    for name in ("default", "paper-all"):
        drop_reason(View(sample[0]), FILTERS[name])  # loads the model
        start = time.process_time()
        for record in sample:
            drop_reason(View(record), FILTERS[name])
        rates.append(len(sample) / (time.process_time() - start))
    return rates[0], rates[1]


def _processor_seconds() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a file in Alpaca's form")
    parser.add_argument("--rows", type=int, action="append", help="rows of one run; several for several runs")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--bought", action="store_true", help="rebuild from purchases in place of the stand-in")
    parser.add_argument("--repeat", type=int, default=1, help="builds of the same rows; machines drift")
    parser.add_argument("--langid", type=int, default=20_000, help="rows of the langid sample; 0 for none")
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()), help="where rows are put, and removed"
    )
    options = parser.parse_args(arguments)
    print("| rows | kept | exact duplicates | near duplicates | seconds | rows/s | processor seconds | peak GB |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for count in options.rows or [100_000]:
        with tempfile.TemporaryDirectory(dir=options.work) as name:
            path, folder = Path(name) / "rows.jsonl", Path(name) / "data"
            write_rows(options.source, count, path)
            with Ledger.open(Path(name) / "ledger.sqlite3") as ledger:
                engine = buy(path, folder, ledger) if options.bought else PseudoKorean()
                for _ in range(options.repeat):
                    found = measure(path, folder, options.processes, translator=engine, ledger=ledger)
                    print(
                        f"| {found['rows']:,} | {found['kept']:,} | {found['exact']:,} | {found['near']:,} "
                        f"| {found['seconds']:.1f} | {found['rows'] / found['seconds']:,.0f} | {found['processor']:.1f} "
                        f"| {found['memory']:.2f} |",
                        flush=True,
                    )
            if options.langid and count == (options.rows or [100_000])[0]:
                ours, paper = langid_ratio(folder, options.langid)
                print(
                    f"filters, one process: default {ours:,.0f} rows/s, paper {paper:,.0f}: {ours / paper:.1f} x",
                    flush=True,
                )
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
