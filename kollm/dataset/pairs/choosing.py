"""Which two answers of a task make a pair, and why a task makes none."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Literal, NamedTuple

from kollm.core.errors import InputError
from kollm.core.generations import Generation
from kollm.core.hashing import text_sha256
from kollm.core.text import is_blank
from kollm.dataset.pairs.opinion import Opinion, agreement

Take = Literal["best", "all"]
Vote = Literal["first", "second", "tie", "orders"]
"""What a pairwise judge says of two answers: which is better, that neither is, or, by the order, now one and now the other."""
Votes = Mapping[tuple[str, str, str], Vote]
"""Task id, and the hashes of two answers -> the vote; in both orders of the answers."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Which pairs are good enough.

    Attributes:
        margin: least difference of the two scores; 0 takes any difference.
        agreement: least share of the verdicts that prefer the chosen answer, where anything was repeated.
        length_ratio: most that one answer may be longer than the other, in characters; None for no limit.
        take: `best`, the pair of a task with the largest margin, or `all`.
        cut: whether an answer that was cut at the token limit may be chosen; a model learns from it not to come to an end.

    Raises:
        InputError: a value that makes no sense.
    """

    margin: float = 0.0
    agreement: float = 0.75
    length_ratio: float | None = None
    take: Take = "best"
    cut: bool = False

    def __post_init__(self) -> None:
        if not (self.margin >= 0 and math.isfinite(self.margin)):
            raise InputError(f"--margin is {self.margin} - give a difference of 0 or more.")
        if not 0.5 <= self.agreement <= 1:
            raise InputError(f"--agreement is {self.agreement} - give a share from 0.5 to 1.")
        if self.length_ratio is not None and not self.length_ratio > 1:
            raise InputError(f"--max-length-ratio is {self.length_ratio} - give a ratio above 1, such as 2.")


@dataclass(slots=True)
class Candidate:
    """An answer and what is thought of it; `opinion` is empty where nothing is."""

    answer: Generation
    opinion: Opinion = field(default_factory=Opinion)

    @property
    def sha256(self) -> str:
        return text_sha256(self.answer.response)


class Chosen(NamedTuple):
    """A pair.

    Attributes:
        margin: difference of the scores; of a pairwise judge alone, 1.
        agreement: see `kollm.dataset.pairs.opinion.agreement`; of a pairwise judge, the share of its orders.
        verdicts: on each of the two; 2 of a pairwise judge, one in each order.
    """

    chosen: Candidate
    rejected: Candidate
    margin: float
    agreement: float | None
    verdicts: int


@dataclass(slots=True)
class Choosing:
    """Pairs of candidates, and a count of what made none, by reason.

    Args:
        limits: what is good enough.
        votes: of a pairwise judge; empty for none.
        same_people: whether scores of the same name are the same person's.
    """

    limits: Limits
    votes: Votes = field(default_factory=dict)
    same_people: bool = False
    left_out: Counter[str] = field(default_factory=Counter)

    def pairs(self, tasks: Iterable[Sequence[Candidate]]) -> Iterator[Chosen]:
        """The pairs of each task; `left_out` counts the tasks without one."""
        for candidates in tasks:
            found = self._of_task(candidates)
            if isinstance(found, str):
                self.left_out[found] += 1
            else:
                yield from found

    def _of_task(self, candidates: Sequence[Candidate]) -> list[Chosen] | str:
        usable = list(
            {
                candidate.sha256: candidate for candidate in candidates if not is_blank(candidate.answer.response)
            }.values()
        )
        if len(usable) < 2:
            return ONE_ANSWER
        scored = [candidate for candidate in usable if candidate.opinion.given]
        if len(scored) >= 2:
            possible = [self._scored(a, b) for a, b in permutations(scored, 2) if a.opinion.mean >= b.opinion.mean]
        else:
            possible = [pair for a, b in permutations(usable, 2) if (pair := self._voted(a, b)) is not None]
        if not possible:
            return UNSCORED
        possible.sort(
            key=lambda pair: (
                -pair.margin,
                -(pair.agreement or 0),
                abs(_log_ratio(pair)),
                pair.chosen.sha256,
                pair.rejected.sha256,
            )
        )
        reasons = [self._reason(pair) for pair in possible]
        good = [pair for pair, reason in zip(possible, reasons, strict=True) if reason is None]
        if not good:
            return reasons[0] or ""
        return good if self.limits.take == "all" else good[:1]

    def _scored(self, a: Candidate, b: Candidate) -> Chosen:
        agreed = agreement(a.opinion, b.opinion, same_people=self.same_people)
        count = min(len(a.opinion.given), len(b.opinion.given))
        return Chosen(a, b, round(a.opinion.mean - b.opinion.mean, 6), agreed, count)

    def _voted(self, a: Candidate, b: Candidate) -> Chosen | None:
        vote = self._vote(a, b)
        if vote is None or vote == "second":
            return None
        return Chosen(a, b, 1.0, 1.0, 2) if vote == "first" else Chosen(a, b, 0.0, 0.5, 2)

    def _vote(self, a: Candidate, b: Candidate) -> Vote | None:
        return self.votes.get((a.answer.id, a.sha256, b.sha256))

    def _reason(self, pair: Chosen) -> str | None:
        vote = self._vote(pair.chosen, pair.rejected)
        if vote == "orders":
            return ORDERS
        if pair.margin <= 0:
            return TIE
        if pair.margin < self.limits.margin:
            return MARGIN
        if pair.agreement is not None and pair.agreement < self.limits.agreement:
            return DOUBT
        if vote in ("second", "tie"):
            return OTHERWISE
        if pair.chosen.answer.finish_reason == "length" and not self.limits.cut:
            return CUT
        if self.limits.length_ratio is not None and abs(_log_ratio(pair)) > math.log(self.limits.length_ratio):
            return LENGTH
        return None


ONE_ANSWER = "one_answer"
UNSCORED = "unscored"
TIE = "tie"
MARGIN = "below_margin"
DOUBT = "judge_unsure"
ORDERS = "orders_disagree"
OTHERWISE = "pairwise_judge_disagrees"
CUT = "chosen_is_cut"
LENGTH = "length_ratio"
REASONS = {
    ONE_ANSWER: "fewer than two different answers",
    UNSCORED: "fewer than two answers with a score",
    TIE: "equal scores",
    MARGIN: "a difference below the margin",
    DOUBT: "the judge's verdicts do not agree enough",
    ORDERS: "the pairwise judge prefers a place, not an answer",
    OTHERWISE: "the pairwise judge does not prefer the answer that scores higher",
    CUT: "the better answer was cut at the token limit",
    LENGTH: "one answer is longer than the other beyond the limit",
}
"""Why a task makes no pair, for a reader."""


def _log_ratio(pair: Chosen) -> float:
    """Logarithm of how many times as long the chosen answer is as the rejected one."""
    return math.log(len(pair.chosen.answer.response) / len(pair.rejected.answer.response))
