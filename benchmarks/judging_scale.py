"""Statistics and reading at scale: 65 systems compared, 100,000 recorded judgments imported, coverage of the intervals.

python benchmarks/judging_scale.py
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kollm.judge.foreign.forms import import_files
from kollm.judge.foreign.rows import Source
from kollm.judge.intervals import mean_interval
from kollm.judge.stats import Comparing, compare_systems

POPULATIONS = {
    "248 of 252 are 5": ([5, 4], [248 / 252, 4 / 252]),
    "skewed": ([5, 4, 3, 1], [0.9, 0.06, 0.03, 0.01]),
    "spread": ([1, 2, 3, 4, 5], [0.02, 0.05, 0.13, 0.3, 0.5]),
    "two values": ([1, 5], [0.3, 0.7]),
}


def main() -> None:
    print(f"65 systems, 6 axes, 252 tasks compared: {timed(compare)}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "score_result_model.jsonl"
        row = {"instruction": "질문" * 20, "answer": "답" * 100, "chatgpt": "Score: 4", "score": 4}
        path.write_text(
            "".join(json.dumps({"id": n, **row}, ensure_ascii=False) + "\n" for n in range(100_000)), encoding="utf-8"
        )
        print(f"100,000 recorded judgments read: {timed(lambda: import_files([Source(path)]))}")
    print(f"most memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")
    print("coverage of 95 % intervals, 3,000 samples each")
    for name, (values, shares) in POPULATIONS.items():
        print(
            f"  {name:18}" + "  ".join(f"n {size}: {coverage(values, shares, size):.3f}" for size in (10, 22, 30, 252))
        )


def timed(work: Callable[[], object]) -> str:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return f"{time.perf_counter() - wall:.1f} s ({time.process_time() - processor:.1f} s of processor)"


def compare() -> None:
    rng = np.random.default_rng(0)
    axes = [f"axis-{n}" for n in range(6)]
    scores = {
        axis: {f"system-{s}": {str(t): float(v) for t, v in enumerate(rng.integers(1, 6, 252))} for s in range(65)}
        for axis in axes
    }
    compare_systems(scores, Comparing(limits=dict.fromkeys(axes, (1.0, 5.0)), margin=0.1))


def coverage(values: list[int], shares: list[float], size: int) -> float:
    rng, truth = np.random.default_rng(size), float(np.dot(values, shares))
    found = [mean_interval(rng.choice(values, size, p=shares).astype(float), (1, 5)) for _ in range(3000)]
    return float(np.mean([i is not None and i.low - 1e-9 <= truth <= i.high + 1e-9 for i in found]))


if __name__ == "__main__":
    main()
