"""By what one answer is better than another: an axis of a rubric, or a weighted sum of several."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from kollm.core.errors import InputError, did_you_mean

WHOLE = ("overall_quality", "preference")
"""Axes that stand for the whole, in this order: the judge's, and that of people's blind comparison."""
_TERM = re.compile(r"(?:(?P<weight>\d{1,6}(?:\.\d{1,6})?)\*)?(?P<axis>[^\s*+]{1,100})")


@dataclass(frozen=True, slots=True)
class Measure:
    """A weighted sum of axes.

    Attributes:
        weights: axis -> weight, greater than 0.
    """

    weights: Mapping[str, float]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `AXIS`, or a sum such as `2*coherence+naturalness`.

        Raises:
            InputError: it is none, or names an axis twice.
        """
        weights: dict[str, float] = {}
        for term in text.split("+"):
            found = _TERM.fullmatch(term.strip())
            weight = float(found["weight"] or 1) if found else 0.0
            if found is None or weight <= 0 or found["axis"] in weights:
                raise InputError(
                    f"--axis {text} is neither an axis nor a sum of axes - write overall_quality, or "
                    "2*coherence+naturalness, each axis once."
                )
            weights[found["axis"]] = weight
        return cls(weights)

    @classmethod
    def for_axes(cls, axes: Iterable[str]) -> Self:
        """The axis that stands for the whole, or the only one.

        Raises:
            InputError: there are several and none stands for the whole.
        """
        names = list(dict.fromkeys(axes))
        whole = next((name for name in WHOLE if name in names), names[0] if len(names) == 1 else None)
        if whole is None:
            raise InputError(
                f"The scores have the axes {', '.join(names) or 'none'} - say which decides: --axis {names[0] if names else 'AXIS'}."
            )
        return cls({whole: 1.0})

    @property
    def name(self) -> str:
        return "+".join(axis if weight == 1 else f"{weight:g}*{axis}" for axis, weight in self.weights.items())

    def require(self, axes: Iterable[str]) -> None:
        """Refuse axes that nothing was scored on.

        Raises:
            InputError: there is one.
        """
        names = list(dict.fromkeys(axes))
        for axis in self.weights:
            if axis not in names:
                raise InputError(
                    f"The scores have no axis '{axis}'{did_you_mean(axis, names)} - it is one of {', '.join(names)}."
                )

    def score(self, scores: Mapping[str, float | None]) -> float | None:
        """The sum; None where one of the axes has no score."""
        values = [(weight, scores.get(axis)) for axis, weight in self.weights.items()]
        if any(value is None for _, value in values):
            return None
        return math.fsum(weight * value for weight, value in values if value is not None)

    def chances(self, chances: Mapping[str, Mapping[float, float]]) -> dict[float, float]:
        """Distribution of the sum, of independent axes; empty where one of them has none."""
        total = {0.0: 1.0}
        for axis, weight in self.weights.items():
            grown: dict[float, float] = {}
            for score, chance in chances.get(axis, {}).items():
                for sum_, p in total.items():
                    value = round(sum_ + weight * score, 9)
                    grown[value] = grown.get(value, 0.0) + p * chance
            total = grown
        return total
