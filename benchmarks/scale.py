"""What a build of many millions of rows needs: figures a shard, measured here, and the time that follows for more workers.

    python -m benchmarks.scale ../shared/data/alpaca_gpt4_en_1000.json --rows 40000
    python -m benchmarks.scale --prints 1000000 --prints 10000000

The first builds rows as `benchmarks.build` makes them, each task in a worker, and prints for each stage its tasks, processor
time a row, the largest memory of a worker, and the bytes that it leaves for the next; then the wall time of `--of` rows for 1,
8, 64 and 512 workers, the serial parts by name. The second takes the two stages that look at all rows at once, with made
prints of so many rows in shards of 10,000, three in a hundred of them repeats: their memory must not grow with the rows.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from benchmarks.build import write_rows
from benchmarks.pseudo_korean import PseudoKorean
from kollm.dataset.build import BUCKET_ROWS, FOLDERS, Build
from kollm.dataset.executors import Stage
from kollm.dataset.folder import SHARD_ROWS as FILE_ROWS
from kollm.dataset.pipeline import build_dataset
from kollm.dataset.repeats import ROWS, Ids, find_near, find_repeats, write_bands, write_keys
from kollm.dataset.settings import SourceInput
from kollm.dataset.shards import SHARD_ROWS, Shard, save_shards
from kollm.dataset.work import whole_arrow
from kollm.quality.dedup import BANDS, PERMUTATIONS, Prints

WORKERS = (1, 8, 64, 512)


class Measured(NamedTuple):
    """One stage.

    Attributes:
        tasks: how many.
        seconds: processor seconds of all of them.
        longest: of the longest.
        memory: largest of a worker, in MiB.
        written: bytes in the work folder behind it, by folder.
    """

    tasks: int
    seconds: float
    longest: float
    memory: float
    written: dict[str, int]


class Measuring:
    """An executor that runs each stage in one worker of its own and measures it."""

    name = "measuring"

    def __init__(self) -> None:
        self.stages: dict[str, Measured] = {}
        self.seconds = 0.0

    def run(self, stage: Stage) -> None:
        begun = time.perf_counter()
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            spent = [pool.submit(timed, stage.work, task).result() for task in range(stage.tasks)]
            memory = pool.submit(peak_memory).result()
        self.stages[stage.name] = Measured(stage.tasks, sum(spent), max(spent), memory, sizes(stage.folder))
        self.seconds += time.perf_counter() - begun

    def close(self) -> None:
        """Nothing stays."""


def timed(work: Callable[[int], int | None], task: int) -> float:
    """Processor seconds of one task."""
    begun = time.process_time()
    work(task)
    return time.process_time() - begun


def peak_memory() -> float:
    """Of this process, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def sizes(folder: Path) -> dict[str, int]:
    """Bytes in each folder of a work folder."""
    return {
        name: sum(path.stat().st_size for path in (folder / name).rglob("*") if path.is_file())
        for name in FOLDERS
        if (folder / name).is_dir()
    }


def measure(source: Path, rows: int, work: Path) -> tuple[Measuring, float, int]:
    """Build so many rows; gives the stages, the seconds of the driving process beside them, and the rows kept."""
    path = work / "rows.jsonl"
    write_rows(source, rows, path)
    executor = Measuring()
    begun = time.perf_counter()
    report = build_dataset(
        [SourceInput("gpt4_llm", path)],
        translator=PseudoKorean(),
        output=work / "data",
        leaks="drop",
        executor=executor,
    )
    return executor, time.perf_counter() - begun - executor.seconds, sum(report.rows.values())


def show(executor: Measuring, serial: float, rows: int, kept: int, of: int) -> None:
    """Print what was measured, and what follows for `of` rows."""
    print("| stage | tasks | processor µs a row | rows/s a core | memory of a worker, MiB | bytes a row left |")
    print("|---|---:|---:|---:|---:|---:|")
    before: dict[str, int] = {}
    for name, stage in executor.stages.items():
        left = sum(size - before.get(folder, 0) for folder, size in stage.written.items()) / rows
        before = stage.written
        micro = 1e6 * stage.seconds / rows
        rate = f"{1e6 / micro:,.0f}" if micro else "-"
        print(f"| {name} | {stage.tasks} | {micro:.1f} | {rate} | {stage.memory:.0f} | {left:,.0f} |")
    print(
        f"driving process, beside the tasks: {1e6 * serial / rows:.1f} µs a row (cutting, counting, card, start of workers)"
    )
    tasks = {name: count_tasks(name, of, kept / rows) for name in executor.stages}
    print(f"\nWall time of {of:,} rows, without the start of the workers:\n")
    print("| workers | " + " | ".join(executor.stages) + " | serial | together |")
    print("|---:" * (len(executor.stages) + 3) + "|")
    alone = of * serial / rows
    for workers in WORKERS:
        times = [
            math.ceil(tasks[name] / workers) * stage.seconds / rows * of / tasks[name]
            for name, stage in executor.stages.items()
        ]
        cells = [f"{item / 60:,.1f}" for item in (*times, alone, sum(times) + alone)]
        print(f"| {workers} | " + " | ".join(cells) + " |")
    print("(minutes)")


def count_tasks(stage: str, rows: int, kept: float) -> int:
    """Tasks of a stage."""
    if stage in ("repeats", "near"):
        return math.ceil(rows / BUCKET_ROWS)
    return math.ceil(rows * kept / FILE_ROWS) + 1 if stage == "write" else math.ceil(rows / SHARD_ROWS)


def compare_prints(rows: int, work: Path) -> None:
    """The stages that look at all rows, on made prints."""
    shards, buckets = math.ceil(rows / SHARD_ROWS), math.ceil(rows / BUCKET_ROWS)
    for name in FOLDERS:
        (work / name).mkdir()
    save_shards([Shard(0, n * SHARD_ROWS, SHARD_ROWS, "lines", "") for n in range(shards)], work / "shards.json")
    build = Build(work, (), (), 0.8, False, shards, buckets)
    begun = time.perf_counter()
    generator = np.random.default_rng(0)
    first: Prints | None = None
    for number in range(shards):
        found = Prints(
            generator.integers(0, 1 << 63, SHARD_ROWS, dtype=np.uint64),
            generator.integers(0, 1 << 32, (SHARD_ROWS, BANDS), dtype=np.uint32),
            generator.integers(0, 1 << 8, (SHARD_ROWS, PERMUTATIONS), dtype=np.uint8),
            np.ones(SHARD_ROWS, dtype=bool),
        )
        first = first or found
        repeats = generator.choice(SHARD_ROWS, 300, replace=False)
        for column, known in zip(found, first, strict=True):
            column[repeats] = known[repeats]
        found.exact[repeats[150:]] += np.uint64(1 + number)  # half of them are near
        ids = [f"made-{number * SHARD_ROWS + row}" for row in range(SHARD_ROWS)]
        with whole_arrow(build.path("rows", number), ROWS, None) as file:
            file.write_table(pa.table([ids, range(SHARD_ROWS)], schema=ROWS))
        write_keys(build, number, Ids(ids, []), found.exact)
        write_bands(build, number, found)
    made = time.perf_counter() - begun
    executor = Measuring()
    executor.run(Stage("repeats", buckets, Task(find_repeats, build), work))
    executor.run(Stage("near", buckets, Task(find_near, build), work))
    for name, stage in executor.stages.items():
        print(
            f"| {rows:,} | {name} | {stage.tasks} | {stage.seconds:.1f} | {stage.longest:.2f} | {stage.memory:.0f} "
            f"| {sum(stage.written.values()) / rows:,.0f} | {made:.0f} |",
            flush=True,
        )


class Task(NamedTuple):
    """A task of a build that can be pickled."""

    work: Callable[[Build, int], None]
    build: Build

    def __call__(self, number: int) -> None:
        self.work(self.build, number)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, nargs="?", help="a file in Alpaca's form")
    parser.add_argument("--rows", type=int, default=40_000, help="rows to build")
    parser.add_argument("--of", type=int, default=50_000_000, help="rows to compute the time of")
    parser.add_argument("--prints", type=int, action="append", default=[], help="rows whose made prints are compared")
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()), help="where files are put, and removed"
    )
    options = parser.parse_args(arguments)
    if options.prints:
        print(
            "| rows | stage | tasks | processor s | longest task, s | memory of a worker, MiB | bytes a row | making them, s |"
        )
        print("|---:|---|---:|---:|---:|---:|---:|---:|")
    for count in options.prints:
        work = Path(tempfile.mkdtemp(dir=options.work))
        compare_prints(count, work)
        shutil.rmtree(work)
    if options.source is not None:
        with tempfile.TemporaryDirectory(dir=options.work) as name:
            executor, serial, kept = measure(options.source, options.rows, Path(name))
        show(executor, serial, options.rows, kept, options.of)


if __name__ == "__main__":
    main()
