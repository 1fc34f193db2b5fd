"""Scores of public benchmarks side by side: a row for each task and way of asking, a column for each system."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kollm.core.benchmarks import BenchmarkScore, interval


def benchmark_rows(scores: Iterable[BenchmarkScore]) -> list[dict[str, Any]]:
    """One row for each task, metric and way of asking; only what was asked in one way stands in one row.

    Tasks that a group holds follow it, with the group's name as `group`.
    """
    found = list(scores)
    groups = {member: score.task for score in found for member in score.members}
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for score in sorted(found, key=lambda item: (groups.get(item.task, item.task), bool(groups.get(item.task)))):
        for item in score.scores:
            key = (
                score.task,
                item.metric,
                score.version,
                score.shots,
                score.limit,
                score.documents_sha256,
                score.harness,
            )
            row = rows.setdefault(
                key,
                {
                    "task": score.task,
                    "group": groups.get(score.task, ""),
                    "members": len(score.members),
                    "metric": item.metric,
                    "version": score.version,
                    "shots": score.shots,
                    "documents": score.documents,
                    "limit": score.limit,
                    "harness": score.harness,
                    "documents_sha256": score.documents_sha256,
                    "task_sha256": score.task_sha256,
                    "systems": {},
                },
            )
            row["systems"][score.system] = {
                "value": item.value,
                "stderr": item.stderr,
                "ci95": interval(item),
                "prompt": score.prompt,
                "prompt_sha256": score.prompt_sha256,
                "weights": score.weights,
                "model": score.model,
                "adapter": score.adapter,
            }
    return list(rows.values())
