"""How long `kollm run demo` takes, from a fresh folder, beside that of other checkouts, in turn.

    python benchmarks/demo.py --repeats 3 [--against CHECKOUT ...]

Prints seconds by the clock, processor seconds of all its processes, and the memory of the largest one. On a machine that others
use too, the processor seconds are the ones to compare.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

HERE = Path(__file__).parents[1]


class Took(NamedTuple):
    """One run: seconds by the clock and of the processors, and the stages' seconds by the clock."""

    wall: float
    processor: float
    stages: dict[str, float]


def measure(checkout: Path) -> Took:
    """Run the demo of a checkout once, with this Python's packages."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "demo"
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        environment = {**os.environ, "PYTHONPATH": str(checkout)}
        subprocess.run(
            [sys.executable, "-m", "kollm", "run", "demo", "-o", str(folder)],
            check=True,
            env=environment,
            cwd=checkout,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        stages = json.loads((folder / "run.json").read_text(encoding="utf-8"))["stages"]
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Took(wall, processor, {name: stage["seconds"] for name, stage in stages.items()})


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--against", type=Path, action="append", default=[], help="another checkout of kollm")
    options = parser.parse_args(arguments)
    checkouts = [*options.against, HERE]
    took: dict[Path, list[Took]] = {checkout: [] for checkout in checkouts}
    for _ in range(options.repeats):
        for checkout in checkouts:
            took[checkout].append(measure(checkout.resolve()))
    print("| checkout | seconds by the clock | processor seconds | stages by the clock, median |")
    print("|---|---|---|---|")
    for checkout, runs in took.items():
        stages = ", ".join(f"{name} {median(run.stages[name] for run in runs):.1f}" for name in runs[0].stages)
        wall = ", ".join(f"{run.wall:.1f}" for run in runs)
        processor = ", ".join(f"{run.processor:.1f}" for run in runs)
        print(f"| {checkout.name} | {wall} | {processor} | {stages} |")
    print(f"\nLoad average at the end: {os.getloadavg()[0]:.1f}. Peak memory of a process: ", end="")
    print(f"{resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000:,.0f} MB")


if __name__ == "__main__":
    main()
