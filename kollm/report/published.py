"""Scores that others published, to stand beside measured ones and always marked as published.

Sources: the KULLM paper's Table 1 (GPT-4 as judge, 252 tasks, one run; its header prints one axis name three times, the
columns are the six axes in the rubric's order), KULLM's README and KULLM3's README. They come without intervals.
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
    """One row: the model, its mean by axis, and where it stands."""

    system: str
    scores: dict[str, float]
    origin: str


def _six(system: str, origin: str, *means: float) -> PublishedRow:
    return PublishedRow(system, dict(zip(SIX_AXES, means, strict=True)), origin)


def _overall(system: str, mean: float) -> PublishedRow:
    return PublishedRow(system, {"overall_quality": mean}, "KULLM3 README")


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

PUBLISHED: dict[str, tuple[PublishedRow, ...]] = {
    "kullm2023": _SIX_AXIS_ROWS,
    "kullm2023-fixed": _SIX_AXIS_ROWS,
    "kullm3": (
        _overall("GPT-4-turbo", 4.80),
        _overall("GPT-3.5", 4.43),
        _overall("KULLM3", 4.36),
        _overall("SOLAR", 3.32),
        _overall("KULLM v2", 2.80),
        _overall("KoAlpaca", 2.67),
    ),
}
"""Rubric name to the published rows that its axes can be read beside; none for another rubric."""
