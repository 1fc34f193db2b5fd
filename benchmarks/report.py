"""100,000 recorded verdicts parsed and reported: seconds, peak memory, size of the page.

    python benchmarks/report.py --tasks ../shared/data/self_instruct_user_oriented_ko.jsonl

Without --tasks the bundled sample's tasks lend their text. Each case runs in a process of its own: it reads the recorded replies, parses each, writes verdicts.jsonl and the report.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from kollm.core.files import json_line, read_jsonl
from kollm.core.generations import Generation
from kollm.core.hashing import text_sha256
from kollm.core.resources import resource_folder
from kollm.core.verdicts import Verdict
from kollm.judge.parse import parse_verdict
from kollm.judge.rubric_file import load_rubric
from kollm.report import write_report

RUBRIC = load_rubric("kullm2023")
CASES = {"20 systems x 252 tasks x 20 samples": (20, 252, 20), "8 systems x 12,500 tasks x 1 sample": (8, 12_500, 1)}
ENDINGS = ["", " (4/5)", "\n\n전반적으로 자연스러운 응답입니다."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tasks",
        type=Path,
        default=resource_folder("sources/sample_rows") / "human_eval.ko.jsonl",
        help="Korean tasks in Self-Instruct's user-oriented schema [default: the bundled sample]",
    )
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return
    print("| case | verdicts | read and parsed | reported | all | processor | peak memory | page |")
    print("| :-- | --: | --: | --: | --: | --: | --: | --: |")
    for name, shape in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            record(Path(folder), list(read_jsonl(arguments.tasks)), *shape)
            child = [sys.executable, __file__, "--measure", folder]
            found = json.loads(subprocess.run(child, check=True, capture_output=True, text=True).stdout)
        print(
            f"| {name} | {found['verdicts']:,} | {found['parsed']:.1f} s | {found['reported']:.1f} s | "
            f"{found['parsed'] + found['reported']:.1f} s | {found['cpu']:.1f} s | {found['peak_mb']:.0f} MB | {found['page_mb']:.1f} MB |"
        )


def measure(folder: Path) -> dict[str, Any]:
    """Parse the replies in replies.jsonl into verdicts.jsonl, and report the folder."""
    started = time.perf_counter()
    count = 0
    with (folder / "verdicts.jsonl").open("w", encoding="utf-8") as file:
        for row in read_jsonl(folder / "replies.jsonl"):
            file.write(json_line({**row, "scores": parse_verdict(row["raw"], RUBRIC)}))
            count += 1
    parsed = time.perf_counter()
    page = write_report([folder])
    return {
        "verdicts": count,
        "parsed": parsed - started,
        "reported": time.perf_counter() - parsed,
        "cpu": time.process_time(),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "page_mb": page.stat().st_size / 1e6,
    }


def record(folder: Path, tasks: list[dict[str, Any]], systems: int, count: int, samples: int) -> None:
    """Write generations.jsonl and replies.jsonl: answers of 100 to 700 characters of the tasks' own Korean, one reply each."""
    rng = random.Random(0)
    corpus = " ".join(f"{task['instruction']} {task['instances'][0]['input']}" for task in tasks)
    with (folder / "generations.jsonl").open("w") as generations, (folder / "replies.jsonl").open("w") as replies:
        for system in range(systems):
            for number in range(count):
                task = tasks[number % len(tasks)]
                start = rng.randrange(len(corpus) - 800)
                response = corpus[start : start + rng.randrange(100, 700)]
                answer = Generation(
                    f"task-{number}", task["instruction"], task["instances"][0]["input"], response, "model", "",
                    {}, "stop", f"system-{system}",
                )  # fmt: skip
                generations.write(json_line(answer.to_row()))
                for sample in range(samples):
                    replies.write(json_line(_reply(rng, answer, sample).to_row()))


def _reply(rng: random.Random, answer: Generation, sample: int) -> Verdict:
    lines = [f"- {axis.label} ({axis.low} - {axis.high}): {rng.randint(axis.low, axis.high)}" for axis in RUBRIC.axes]
    raw = "\n".join(lines) + rng.choice(ENDINGS)
    return Verdict(
        answer.id, answer.system, text_sha256(answer.response), RUBRIC.name, RUBRIC.sha256, "text", sample, "judge", "judge",
        RUBRIC.none_scores(), "ok", raw, {"total_tokens": 900},
    )  # fmt: skip


if __name__ == "__main__":
    main()
