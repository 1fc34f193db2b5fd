"""Length bias of pairs: how much longer chosen answers are than rejected ones, and pairs without it.

A model that is tuned on pairs whose longer answer mostly wins learns to write longer before it learns anything else
(Singhal et al. 2023; Park et al. 2024).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kollm.core.preferences import Preference


@dataclass(frozen=True, slots=True)
class LengthBias:
    """Lengths in characters.

    Attributes:
        chosen, rejected: mean length.
        longer: pairs whose longer answer is the chosen one.
        shorter: pairs whose shorter one is.
        equal: pairs of equal lengths.
    """

    chosen: float
    rejected: float
    longer: int
    shorter: int
    equal: int

    @property
    def longer_wins(self) -> float | None:
        """Share of the pairs of different lengths whose longer answer is chosen; None where all are equal."""
        different = self.longer + self.shorter
        return self.longer / different if different else None

    def to_row(self) -> dict[str, Any]:
        return {**asdict(self), "longer_wins": self.longer_wins}

    def sentence(self) -> str:
        share = self.longer_wins
        wins = "all are equally long" if share is None else f"the longer one is chosen in {100 * share:.0f}%"
        return f"chosen answers have {self.chosen:,.0f} characters, rejected ones {self.rejected:,.0f}; {wins}"


def length_bias(pairs: Sequence[Preference]) -> LengthBias:
    """The bias of one pair or more."""
    lengths = [(len(pair.chosen), len(pair.rejected)) for pair in pairs]
    return LengthBias(
        round(math.fsum(a for a, _ in lengths) / len(lengths), 3),
        round(math.fsum(b for _, b in lengths) / len(lengths), 3),
        sum(a > b for a, b in lengths),
        sum(a < b for a, b in lengths),
        sum(a == b for a, b in lengths),
    )


def balanced(pairs: Sequence[Preference]) -> list[Preference]:
    """The pairs of which the longer answer is chosen as often as the shorter; of the others the least margins go.

    The order stays.
    """
    longer = [pair for pair in pairs if len(pair.chosen) > len(pair.rejected)]
    shorter = [pair for pair in pairs if len(pair.chosen) < len(pair.rejected)]
    more, fewer = (longer, shorter) if len(longer) > len(shorter) else (shorter, longer)
    ranked = sorted(more, key=lambda pair: (-(pair.provenance.margin or 0.0), pair.id))
    dropped = {pair.id for pair in ranked[len(fewer) :]}
    return [pair for pair in pairs if pair.id not in dropped]
