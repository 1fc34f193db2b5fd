"""Differences at equal length with and without the bound on the ratio of lengths, on judgments of your own.

    python benchmarks/equal_length.py FOLDER [--axis overall_quality]

FOLDER holds generations.jsonl and verdicts.jsonl of several systems. For each pair: the raw difference, what the two
regressions leave at equal length, and the mean squared error with which each foretells a difference that it has not seen
(leave one out); the last column is the error of the mean alone.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

import numpy as np

from kollm.judge.intervals import Floats
from kollm.judge.scores import score_tables
from kollm.report.folder import gather, read_judged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--axis", default="overall_quality")
    arguments = parser.parse_args()
    material = gather([read_judged(arguments.folder)])
    table, lengths = score_tables(material.verdicts)[0], material.lengths
    print("| pair | raw | bounded | unbounded | error, bounded | unbounded | mean alone |")
    print("| :-- | --: | --: | --: | --: | --: | --: |")
    for first, second in combinations(table.systems, 2):
        a, b = table.scores[arguments.axis][first], table.scores[arguments.axis][second]
        both = [(x, b[task], task) for task, x in a.items() if x is not None and b.get(task) is not None]
        differences = np.array([x - y for x, y, _ in both if y is not None])
        ratios = np.array([np.log((lengths[first][t] + 1) / (lengths[second][t] + 1)) for _, _, t in both])
        measures = np.tanh(ratios / ratios.std()), ratios, np.zeros_like(ratios)
        fits = [_fit(measure, differences) for measure in measures]
        cells = [f"{differences.mean():+.2f}", *(f"{fit[0]:+.2f}" for fit in fits[:2]), *(f"{f[1]:.3f}" for f in fits)]
        print(f"| {first} - {second} | {' | '.join(cells)} |")


def _fit(measure: Floats, differences: Floats) -> tuple[float, float]:
    """Value at equal length, and the mean squared error of leaving one out."""
    design = np.stack([np.ones_like(measure), measure], axis=1)[:, : 2 if measure.any() else 1]
    hat = design @ np.linalg.pinv(design)
    left_out = (differences - hat @ differences) / (1 - np.diag(hat))
    return float((np.linalg.pinv(design) @ differences)[0]), float((left_out**2).mean())


if __name__ == "__main__":
    main()
