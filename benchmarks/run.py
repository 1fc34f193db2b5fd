"""The main job from end to end: rows, seconds by stage, and peak memory of its largest process.

    python benchmarks/run.py OUT --eval EVAL_FOLDER

EVAL_FOLDER is a dataset folder of evaluation tasks, e.g. of
`kollm data build human_eval --input EN.jsonl --translator memory --memory KO.jsonl -o EVAL_FOLDER`; without it the demo's
own 24 tasks are answered. OUT must be new: a run that resumes measures nothing.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from kollm.core.files import read_json, read_jsonl


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--eval", dest="evaluation")
    parser.add_argument("--recipe", default="demo")
    options = parser.parse_args()
    if options.output.exists():
        parser.error(f"{options.output} exists - name a new folder")
    command = [sys.executable, "-m", "kollm", "run", options.recipe, "-o", str(options.output)]
    started = time.perf_counter()
    subprocess.run(command + (["--eval", options.evaluation] if options.evaluation else []), check=True)
    seconds = time.perf_counter() - started
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print("\n| stage | seconds | result |\n|---|---:|---|")
    for name, stage in read_json(options.output / "run.json")["stages"].items():
        print(f"| {name} | {stage['seconds']:.1f} | {stage['result']['summary']} |")
    counts = {
        name: sum(1 for _ in read_jsonl(options.output / name)) for name in ("generations.jsonl", "verdicts.jsonl")
    }
    print(f"| all | {seconds:.1f} | {', '.join(f'{count:,} rows in {name}' for name, count in counts.items())} |")
    print(
        f"\nprocessor {usage.ru_utime + usage.ru_stime:.0f} s, peak memory of the largest process "
        f"{usage.ru_maxrss / 1024:.0f} MB, load of the machine at the end {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
