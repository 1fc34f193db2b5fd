"""What a judge does with things that are no quality: the place of an answer, its length, and whose model gave it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kollm.judge.families import of_judges_family
from kollm.judge.pairwise import PairVerdict, summarize_pairs
from kollm.judge.panel import panels
from kollm.judge.scores import Limits, ScoreTable
from kollm.judge.stats import length_correlation


def biases(
    table: ScoreTable,
    tables: Sequence[ScoreTable],
    pairs: Sequence[PairVerdict],
    lengths: Mapping[str, Mapping[str, float]],
    models: Mapping[str, str],
    limits: Limits,
) -> dict[str, Any]:
    """Position, length and own family of one judge, as plain data.

    Args:
        table: what the judge says.
        tables: those of all judges, the judge's own included.
        pairs: pairs in both orders, of whatever judge.
        lengths: system -> task id -> characters of its answer, where known.
        models: system -> the name of its model, where known.
        limits: axis -> lowest and highest score, where known.
    """
    judge = table.judging.model
    of_judge = [pair for pair in pairs if pair.model_requested == judge]
    own = {system: models.get(system, system) for system in table.systems}
    favours = [
        row.to_row()
        for panel in panels([other for other in tables if other.judging.rubric_sha256 == table.judging.rubric_sha256])
        for row in panel.self_preference({s: m for s, m in own.items() if s in panel.table.systems}, limits)
        if panel.judges[row.judge] is table
    ]
    return {
        **table.judging._asdict(),
        "position": [
            {"first": first, "second": second, **summary.to_row()}
            for (first, second), summary in summarize_pairs(of_judge).items()
        ],
        "length": [
            {"axis": axis, "system": system, "n": len(known), "correlation": length_correlation(known)}
            for axis, systems in table.scores.items()
            for system, scores in systems.items()
            if (known := _known(scores, lengths.get(system, {})))
        ],
        "own": of_judges_family(judge, own),
        "self_preference": favours,
    }


def _known(scores: Mapping[str, float | None], lengths: Mapping[str, float]) -> list[tuple[float, float]]:
    return [(lengths[task], score) for task, score in scores.items() if score is not None and task in lengths]
