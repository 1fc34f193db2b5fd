"""What judges or people think of one answer, and how surely they prefer it to another."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from kollm.core.verdicts import Verdict
from kollm.dataset.pairs.measure import Measure


@dataclass(slots=True)
class Opinion:
    """Scores of one answer.

    Attributes:
        given: who or which sample -> score.
        chances: distribution of the one score, where the judge's probabilities are known.
    """

    given: dict[str, float] = field(default_factory=dict)
    chances: dict[float, float] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        return math.fsum(self.given.values()) / len(self.given)


def agreement(chosen: Opinion, rejected: Opinion, *, same_people: bool) -> float | None:
    """Share of the verdicts that prefer the chosen answer, a tie as half; None where nothing was repeated.

    Samples of a judge are independent, so that each on one answer is held against each on the other; a person is held
    against that person alone, since people differ in mildness. Where a judge's probabilities are known, it is the
    probability that a score drawn for the one is higher than a score drawn for the other.
    """
    if len(chosen.given) == len(rejected.given) == 1 and chosen.chances and rejected.chances:
        return round(
            math.fsum(p * q * _win(a, b) for a, p in chosen.chances.items() for b, q in rejected.chances.items()), 6
        )
    if same_people:
        wins = [_win(score, rejected.given[who]) for who, score in chosen.given.items() if who in rejected.given]
    else:
        wins = [_win(a, b) for a in chosen.given.values() for b in rejected.given.values()]
    return round(math.fsum(wins) / len(wins), 6) if len(wins) > 1 else None


def _win(a: float, b: float) -> float:
    return 1.0 if a > b else 0.5 if a == b else 0.0


def verdict_chances(verdict: Verdict, measure: Measure) -> dict[float, float]:
    """Distribution of a verdict's score as the judge's log-probabilities give it; empty where they are not kept."""
    found = verdict.usage.get("chances")
    if verdict.mode == "local":
        try:
            found = json.loads(verdict.raw)
        except (ValueError, RecursionError):
            return {}
    if not isinstance(found, Mapping):
        return {}
    return measure.chances({axis: _distribution(found.get(axis)) for axis in measure.weights})


def _distribution(values: object) -> dict[float, float]:
    """Probabilities of scores, brought to a sum of 1; empty for anything else."""
    if not isinstance(values, Mapping):
        return {}
    try:
        plain = {float(score): float(chance) for score, chance in values.items()}
    except (TypeError, ValueError):
        return {}
    total = math.fsum(plain.values())
    if not math.isfinite(total) or total <= 0 or any(chance < 0 for chance in plain.values()):
        return {}
    return {score: chance / total for score, chance in plain.items()}
