"""One build on each executor, in one run: wall time, and one checksum.

    python -m benchmarks.executors ../shared/data/alpaca_gpt4_en_1000.json --rows 20000

Rows are made as `benchmarks.build` makes them. Ray is started here, and so is a Slurm of one node, by the daemons that the
tests start; an executor that is not installed is left out, and said.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from benchmarks.build import write_rows
from benchmarks.pseudo_korean import PseudoKorean
from kollm.core.errors import KollmError
from kollm.dataset.executors.settings import make_executor, read_settings
from kollm.dataset.pipeline import build_dataset
from kollm.dataset.settings import SourceInput
from tests.servers.slurm import Slurm, missing_programs


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows_of", type=Path)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args(arguments)
    os.environ["PYTHONPATH"] = os.pathsep.join(place or os.getcwd() for place in sys.path)  # noqa: PTH109
    with tempfile.TemporaryDirectory(prefix="ex", dir="/tmp") as name:
        folder = Path(name)
        write_rows(given.rows_of, given.rows, folder / "rows.jsonl")
        print(f"{given.rows:,} rows, {given.workers} workers\n\n| executor | seconds | manifest |\n|---|---:|---|")
        for executor in ("local", "ray", "slurm"):
            missing = missing_programs() if executor == "slurm" else []
            if missing:
                print(f"| {executor} | not installed: {', '.join(missing)} | |")
                continue
            with Slurm(folder / "s") if executor == "slurm" else nullcontext() as slurm:
                os.environ.update(slurm.environment if slurm else {})
                _measure(folder, executor, given.workers)


def _measure(folder: Path, name: str, workers: int) -> None:
    slurm = {"mem_per_cpu_gb": "4", "poll_seconds": "1"} if name == "slurm" else {}
    begun = time.monotonic()
    try:
        report = build_dataset(
            [SourceInput("gpt4_llm", folder / "rows.jsonl")],
            translator=PseudoKorean(),
            output=folder / name,
            executor=make_executor(read_settings(None, name, workers, slurm)),
        )
    except KollmError as error:
        print(f"| {name} | {error} | |")
        return
    print(f"| {name} | {time.monotonic() - begun:.1f} | {report.manifest_sha256[:23]} |", flush=True)


if __name__ == "__main__":
    main()
