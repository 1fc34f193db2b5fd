"""How far two judges agree, a person and a model or two models; and what the order of two answers does to a pairwise judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kollm.core.counting import counted
from kollm.core.errors import InputError
from kollm.judge.choices import Choice
from kollm.judge.coefficients import UNDEFINED, Coefficient, krippendorff_alpha, weighted_kappa
from kollm.judge.intervals import Interval, mean_interval
from kollm.judge.signflip import sign_flip_p
from kollm.judge.stats import group_numbers, rank_correlation

Answer = tuple[str, str, int]
"""Task id, system, and number of the answer."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two judges on one axis, over the answers that both scored.

    Attributes:
        n: answers scored by both.
        n_one_sided: answers scored by one of them alone.
        exact: share of equal scores.
        mean_difference: mean of first - second: which judge is milder, and by how much.
        spearman: rank correlation.
        kendall: tau-b, which allows for ties.
        kappa: Cohen's kappa with quadratic weights; `kappa_ci95` its interval, by cluster.
        alpha: Krippendorff's alpha on ordinal scores, over all answers that either scored; `alpha_ci95` its interval.
        raters: people behind the second judge's scores, where they are named.
        alpha_of_raters: how far they agree among themselves; `alpha_of_raters_ci95` its interval.
        Each of the last is None where it is undefined, as where a judge gave one score to all.
    """

    axis: str
    n: int
    n_one_sided: int
    exact: float | None
    mean_difference: float | None
    spearman: float | None
    kendall: float | None
    kappa: float | None
    kappa_ci95: Interval | None
    alpha: float | None
    alpha_ci95: Interval | None
    raters: int = 0
    alpha_of_raters: float | None = None
    alpha_of_raters_ci95: Interval | None = None

    def to_row(self) -> dict[str, Any]:
        return asdict(self)


def agreement(
    axis: str,
    first: Mapping[Answer, float | None],
    second: Mapping[Answer, float | None],
    raters: Mapping[str, Mapping[Answer, float | None]] | None = None,
    clusters: Mapping[str, str] | None = None,
) -> Agreement:
    """Agreement of two judges on one axis.

    Args:
        axis: its key.
        first: a judge's score of each answer.
        second: the other's; the mean of several raters.
        raters: the scores of each of these raters.
        clusters: task id -> what it shares with others; a task that is not named is its own.
    """
    common = [key for key in first if key in second]
    both = [(first[key], second[key]) for key in common]
    pairs = [(a, b) for a, b in both if a is not None and b is not None]
    a, b = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    names = [(clusters or {}).get(id) or id for id, *_ in common]
    of_pairs = [name for name, (x, y) in zip(names, both, strict=True) if x is not None and y is not None]
    kappa = weighted_kappa(a, b, of_pairs)
    alpha = krippendorff_alpha([[x for x, _ in both], [y for _, y in both]], names)
    among = _raters_alpha(raters, clusters or {}) if raters else UNDEFINED
    return Agreement(
        axis=axis,
        n=len(pairs),
        n_one_sided=sum((x is None) != (y is None) for x, y in both),
        exact=float(np.mean([x == y for x, y in pairs])) if pairs else None,
        mean_difference=float(np.mean([x - y for x, y in pairs])) if pairs else None,
        spearman=rank_correlation(a, b) if len(pairs) > 1 else None,
        kendall=_kendall(a, b),
        kappa=kappa.value,
        kappa_ci95=kappa.ci95,
        alpha=alpha.value,
        alpha_ci95=alpha.ci95,
        raters=len(raters or ()),
        alpha_of_raters=among.value,
        alpha_of_raters_ci95=among.ci95,
    )


def _raters_alpha(raters: Mapping[str, Mapping[Answer, float | None]], clusters: Mapping[str, str]) -> Coefficient:
    answers = list(dict.fromkeys(answer for scores in raters.values() for answer in scores))
    return krippendorff_alpha(
        [[scores.get(answer) for answer in answers] for scores in raters.values()],
        [clusters.get(id) or id for id, *_ in answers],
    )


def _kendall(first: Sequence[float], second: Sequence[float]) -> float | None:
    from scipy.stats import kendalltau  # takes half a second to import

    if len(set(first)) < 2 or len(set(second)) < 2:
        return None
    return float(kendalltau(first, second).statistic)


@dataclass(frozen=True, slots=True)
class PositionBias:
    """What a pairwise judge did when each pair was asked in both orders.

    Attributes:
        n: pairs with a choice in both orders.
        n_failed: pairs without one.
        consistent: share of pairs where both orders name the same answer, or a tie twice.
        first_preferred: share of pairs where each order names the answer shown first: the bias towards the first place.
        second_preferred: likewise for the second place.
        wins, ties, losses: of the answer named A, after an inconsistent pair is counted as a tie.
        win_rate: (wins + ties / 2) / n.
        ci95: interval of the win rate, by cluster.
        p_value: two-sided sign-flip test of wins against losses, by cluster; None for no pair.
        p_holm: the same after Holm's correction over the pairs of systems that one judge compared; None for no pair.
    """

    n: int
    n_failed: int
    consistent: float | None
    first_preferred: float | None
    second_preferred: float | None
    wins: int
    ties: int
    losses: int
    win_rate: float | None
    ci95: Interval | None
    p_value: float | None = None
    p_holm: float | None = None

    def to_row(self) -> dict[str, Any]:
        return asdict(self)


def position_bias(
    forward: Sequence[Choice | None], backward: Sequence[Choice | None], clusters: Sequence[str] | None = None
) -> PositionBias:
    """Summarize pairwise choices asked in both orders.

    Args:
        forward: the choice with A shown first and B second; None for a failure.
        backward: the choice on the same pair with B shown first and A second.
        clusters: for each pair what it shares with others, such as its dialogue; None for nothing.

    Raises:
        InputError: the lists have different lengths.
    """
    names = [str(place) for place in range(len(forward))] if clusters is None else list(clusters)
    if not len(forward) == len(backward) == len(names):
        raise InputError(
            f"There are {counted(len(forward), 'choice')} in one order and {len(backward)} in the other - give one of each a pair."
        )
    whole = [
        (f, b, name) for f, b, name in zip(forward, backward, names, strict=True) if f is not None and b is not None
    ]
    pairs = [(f, b) for f, b, _ in whole]
    values = [_value(f, b) for f, b in pairs]
    n = len(pairs)
    groups = group_numbers([name for _, _, name in whole])
    signed = np.array([2 * value - 1 for value in values])

    def share(count: int) -> float | None:
        return count / n if n else None

    return PositionBias(
        n=n,
        n_failed=len(forward) - n,
        consistent=share(sum(pair in (("first", "second"), ("second", "first"), ("tie", "tie")) for pair in pairs)),
        first_preferred=share(sum(pair == ("first", "first") for pair in pairs)),
        second_preferred=share(sum(pair == ("second", "second") for pair in pairs)),
        wins=values.count(1.0),
        ties=values.count(0.5),
        losses=values.count(0.0),
        win_rate=sum(values) / n if n else None,
        ci95=mean_interval(values, (0.0, 1.0), groups) if n else None,
        p_value=sign_flip_p(signed if groups is None else np.bincount(groups, signed).astype(np.float64))
        if n
        else None,
    )


def _value(forward: Choice, backward: Choice) -> float:
    """1 where A won in both orders, 0 where B did, else 0.5."""
    if (forward, backward) == ("first", "second"):
        return 1.0
    return 0.0 if (forward, backward) == ("second", "first") else 0.5
