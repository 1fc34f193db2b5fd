"""Scores that others published, to stand beside measured ones and always marked as published.

Sources: the KULLM paper's Table 1 (GPT-4 as judge, 252 tasks, one run; its header prints one axis name three times, the
columns are the six axes in the rubric's order), KULLM's README, and the figure of KULLM3's README (its numbers above the
bars, two decimals or fewer). They come without intervals.
"""

from __future__ import annotations

from typing import NamedTuple

SIX_AXES = (
    "understandability",
    "naturalness",
    "coherence",
    "interestingness",
    "instruction_following",
    "overall_quality",
)


class PublishedRow(NamedTuple):
    """One row: the model, its mean by axis, where it stands, who judged, and whether the judge was asked in our words."""

    system: str
    scores: dict[str, float]
    origin: str
    judge: str
    same_words: bool


def _six(system: str, origin: str, *means: float) -> PublishedRow:
    return PublishedRow(system, dict(zip(SIX_AXES, means, strict=True)), origin, "GPT-4", True)


def _five(system: str, *means: float) -> PublishedRow:
    axes = ("fluency", "coherence", "accuracy", "completeness", "overall_quality")
    scores = dict(zip(axes, means, strict=True))
    return PublishedRow(system, scores, "KULLM3 README, figure", "gpt-4-0125-preview", False)


PAPER = "KULLM paper, Table 1"
README = "KULLM README"

_SIX_AXIS_ROWS = (
    _six("GPT-3.5-turbo", PAPER, 0.980, 2.806, 2.849, 2.056, 0.917, 3.905),
    _six("GPT-4", PAPER, 0.984, 2.897, 2.944, 2.143, 0.968, 4.083),
    _six("KULLM 5.8B", PAPER, 0.754, 2.099, 2.187, 1.746, 0.579, 3.028),
    _six("KULLM 12.8B", PAPER, 0.802, 2.480, 2.310, 1.996, 0.754, 3.325),
    _six("KULLM v2 12.8B", README, 0.742, 2.083, 2.107, 1.794, 0.548, 3.036),
    _six("KoAlpaca v1.1 12.8B", README, 0.651, 1.909, 1.901, 1.583, 0.385, 2.575),
    _six("KoVicuna 7B", README, 0.460, 1.583, 1.726, 1.528, 0.409, 2.440),
)

_REWORDED_ROWS = tuple(row._replace(same_words=False) for row in _SIX_AXIS_ROWS)

PUBLISHED: dict[str, tuple[PublishedRow, ...]] = {
    "kullm2023": _SIX_AXIS_ROWS,
    "kullm2023-fixed": _REWORDED_ROWS,
    "kullm3": (
        _five("GPT-4-turbo", 4.97, 4.94, 4.74, 4.69, 4.80),
        _five("GPT-3.5", 4.93, 4.88, 4.33, 4.12, 4.43),
        _five("KULLM3", 4.83, 4.78, 4.17, 4.23, 4.36),
        _five("SOLAR", 4.24, 3.04, 3.71, 3.77, 3.32),
        _five("KULLM v2", 3.70, 3.25, 2.82, 2.48, 2.80),
        _five("KoAlpaca", 3.90, 3.25, 2.60, 2.37, 2.67),
    ),
}
"""Rubric name to the published rows that its axes can be read beside; none for another rubric."""
