"""The scales of other projects' judgments. Nobody is asked by them: they say where a score may stand, and what is a failure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kollm.core.hashing import content_id
from kollm.core.verdicts import Verdict
from kollm.judge.rubric import Axis, Rubric
from kollm.judge.rubric_file import load_rubric


def _scale(name: str, *axes: Axis) -> Rubric:
    return Rubric(name, "ko", axes, "", None, "", False)


LOGICKOR = _scale("logickor-recorded", Axis("score", "점수", 1, 10))
"""Its evaluator stores 0.0 where it read no score; 0 is no score of its scale."""
KOMT = _scale("komt-recorded", Axis("score", "점수", 0, 5))
MT_BENCH = _scale("mt-bench-recorded", Axis("rating", "평점", 1, 10))
"""FastChat stores -1 where it read no rating."""
ALPACA_EVAL = _scale("alpaca-eval-recorded", Axis("win_rate", "승률", 0, 1))
"""The chance that the judge prefers the answer to the baseline's: its preference, which goes from 1 to 2, less 1."""
KULLM3 = _scale("kullm3-recorded", *load_rubric("kullm3").axes)
"""The axes of `kullm3`; the published prompt is not ours, so that this is another judge."""
SCALES = {scale.name: scale for scale in (LOGICKOR, KOMT, MT_BENCH, ALPACA_EVAL, KULLM3)}
SHARES = frozenset({"acc", "acc_norm", "exact_match", "f1", "em", "pass@1", "accuracy", "match", "includes", "choice"})
"""Metrics that go from 0 to 1."""


def number(value: Any) -> float | None:
    """A finite number, or None for anything else; numbers in text count."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def imported(
    scale: Rubric | str, task: Mapping[str, str], scores: Mapping[str, float | None], judge: str, **more: Any
) -> Verdict:
    """A verdict that somebody else bought.

    Args:
        scale: where scores may stand, or the name of a scale of which only the axes are known.
        task: `id`, `system`, and what there is of `category`, `cluster` and `response_sha256`.
        scores: as recorded; one outside its axis is a failure and becomes None.
        judge: who judged; empty where nobody says.
        more: `raw`, `usage`, `sample`, `status` for a failure with another name than parse_error.
    """
    kept: dict[str, float | None] = dict(scores)
    if isinstance(scale, Rubric):
        kept = {axis.key: None if (s := scores.get(axis.key)) is None else axis.accept(s) for axis in scale.axes}
        name, sha256 = scale.name, scale.sha256
    else:
        name, sha256 = scale, content_id(["recorded", scale, sorted(scores)])
    usage = dict(more.get("usage") or {})
    for axis, score in kept.items():
        if score is None and scores.get(axis) is not None:
            usage["recorded"] = dict(scores)
    whole = all(score is not None for score in kept.values())
    return Verdict(
        id=task["id"],
        system=task["system"],
        response_sha256=task.get("response_sha256", ""),
        rubric=name,
        rubric_sha256=sha256,
        mode="imported",
        sample=more.get("sample", 0),
        model_requested=judge,
        model_returned=judge,
        scores=kept,
        status="ok" if whole else more.get("status", "parse_error"),
        raw=more.get("raw", ""),
        usage=usage,
        category=task.get("category", ""),
        cluster=task.get("cluster", ""),
        answer=more.get("answer", 0),
    )
