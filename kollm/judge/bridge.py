"""From an old judge's scale to a new one's, by answers that both judged: for when the old judge can be asked no more.

Each axis is mapped by isotonic regression of the new judge's scores on the old one's, the mean of the new for each score of
the old that never falls (Barlow et al. 1972), linear between the scores that were seen: an ordinal scale gives no more. The
mean of a system that only the old judge scored is the mean of its mapped scores. Its interval is a percentile bootstrap over
clusters of tasks, each drawn once for the sample that both judged and for the system's own tasks, so that the doubt of the
mapping is in it. It assumes that the judges differ for this system as they do for those that both judged; `Fit` tests that
where the sample has answers of several systems. A system of which the sample has enough answers needs no such assumption:
kollm.judge.corrected takes the new judge's scores as labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy import special
from scipy.optimize import isotonic_regression

from kollm.core.counting import counted
from kollm.core.errors import InputError
from kollm.judge.intervals import LEVEL, Floats, Interval
from kollm.judge.scores import ScoreTable
from kollm.judge.signflip import sign_flip_p
from kollm.judge.stats import Groups, holm

FEWEST = 30
"""Clusters that both judged, below which nothing is bridged."""
FEWEST_OF_SYSTEM = 10
"""Clusters of one system that both judged, from which its fit is tested."""
RESAMPLES = 1000
OLD, NEW = "old", "new"


@dataclass(frozen=True, slots=True)
class Bridged:
    """A system that the old judge scored, on the new judge's scale; or its difference from one that the new judge scored.

    Attributes:
        first: the system that is bridged; `second` one of the new judge that is taken from it, empty for a mean.
        old: its mean by the old judge; None for a difference.
        bridged: the mean, or the difference, on the new scale, with its interval.
        n: tasks of the system that the old judge scored.
        p_value: that a difference is 0, by the bootstrap's error; `p_holm` after Holm's correction; None for a mean.
    """

    axis: str
    first: str
    second: str
    old: float | None
    bridged: float
    ci95: Interval
    n: int
    p_value: float | None = None
    p_holm: float | None = None

    def to_row(self) -> dict[str, Any]:
        return asdict(self)


class Fit(NamedTuple):
    """How the mapping fits one system that both judged: mean of new - mapped, and its sign-flip test by Holm."""

    axis: str
    system: str
    n: int
    residual: float
    p_holm: float


class Bridge(NamedTuple):
    """What was bridged, from how many answers that both judged, and how the mapping fits each system among them."""

    means: list[Bridged]
    differences: list[Bridged]
    fits: list[Fit]
    n_both: dict[str, int]

    def to_row(self) -> dict[str, Any]:
        return {
            "means": [row.to_row() for row in self.means],
            "differences": [row.to_row() for row in self.differences],
            "fits": [row._asdict() for row in self.fits],
            "n_both": self.n_both,
        }


def bridge(old: ScoreTable, new: ScoreTable, *, seed: int = 0) -> Bridge:
    """Bridge the systems of the old judge that the new one did not score, or in part only.

    Args:
        old: scores of the old judge.
        new: scores of the new judge by the same rubric; some on the same answers.
        seed: of the bootstrap.

    Raises:
        InputError: other axes, too few answers that both judged, or no system to bridge.
    """
    axes = [axis for axis in old.axes if axis in new.axes]
    if not axes:
        raise InputError("The two judges share no axis - bridge verdicts by the same rubric.")
    clusters = {**old.clusters, **new.clusters}
    means: list[Bridged] = []
    differences: list[Bridged] = []
    fits: list[Fit] = []
    sizes: dict[str, int] = {}
    for axis in axes:
        found = _Axis(axis, old.scores[axis], new.scores[axis], clusters)
        sizes[axis] = len(found.x)
        found.check()
        of_axis = found.bridged(seed)
        means += [row for row in of_axis if not row.second]
        differences += [row for row in of_axis if row.second]
        fits += found.fits()
    if not means:
        raise InputError("The new judge scored every system that the old one did - there is nothing to bridge.")
    corrected = holm([row.p_value or 0.0 for row in differences])
    of_fits = holm([fit.p_holm for fit in fits])
    return Bridge(
        means,
        [replace(row, p_holm=p) for row, p in zip(differences, corrected, strict=True)],
        [fit._replace(p_holm=p) for fit, p in zip(fits, of_fits, strict=True)],
        sizes,
    )


class _Axis:
    """One axis: the answers that both judged, what the old judge alone scored, and what the new one did."""

    def __init__(
        self,
        axis: str,
        old: Mapping[str, Mapping[str, float | None]],
        new: Mapping[str, Mapping[str, float | None]],
        clusters: Mapping[str, str],
    ) -> None:
        self.axis = axis
        both = [
            (system, task, x, y)
            for system, tasks in old.items()
            for task, x in tasks.items()
            if x is not None and (y := new.get(system, {}).get(task)) is not None
        ]
        self.systems = [system for system, *_ in both]
        self.x: Floats = np.array([x for _, _, x, _ in both])
        self.y: Floats = np.array([y for *_, y in both])
        names = dict.fromkeys(clusters.get(t) or t for of in (*old.values(), *new.values()) for t in of)
        self.places = {name: place for place, name in enumerate(names)}
        self.of_task = {t: self.places[clusters.get(t) or t] for of in (*old.values(), *new.values()) for t in of}
        self.groups = np.array([self.of_task[task] for _, task, _, _ in both], dtype=np.intp)
        by_old, by_new = ({s: _scored(t) for s, t in of.items()} for of in (old, new))
        self.old = {s: t for s, t in by_old.items() if t.keys() - by_new.get(s, {}).keys()}
        self.new = {s: t for s, t in by_new.items() if t and s not in self.old}
        self._old, self._new = self._arrays(self.old), self._arrays(self.new)

    def check(self) -> None:
        units = len(np.unique(self.groups))
        if units < FEWEST:
            raise InputError(
                f"Both judges scored {self.axis} on {counted(units, 'independent task')}, and a bridge needs {FEWEST} - judge more of the "
                "old judge's answers by the new one, drawn at random."
            )

    def bridged(self, seed: int) -> list[Bridged]:
        """Each system of the old judge, and its difference from each of the new one."""
        whole, drawn = self._means(np.ones(len(self.places))), self._bootstrap(seed)
        rows, units = [], len(np.unique(self.groups))
        for system, tasks in self.old.items():
            mean, of_system = float(np.mean(list(tasks.values()))), drawn[OLD, system]
            rows.append(
                Bridged(self.axis, system, "", mean, whole[OLD, system], _percentiles(of_system, units), len(tasks))
            )
            for other in self.new:
                value, less = whole[OLD, system] - whole[NEW, other], of_system - drawn[NEW, other]
                error = float(np.nanstd(less))
                p_value = 2 * float(special.ndtr(-abs(value) / error)) if error > 0 else float(value == 0)
                rows.append(
                    Bridged(self.axis, system, other, None, value, _percentiles(less, units), len(tasks), p_value)
                )
        return rows

    def fits(self) -> list[Fit]:
        """Mean residual of each system that both judged on enough tasks; p is not corrected yet."""
        residuals = self.y - _mapping(self.x, self.y, np.ones_like(self.x))(self.x)
        found = []
        systems = list(dict.fromkeys(self.systems))
        for system in systems if len(systems) > 1 else ():
            mine = np.array([name == system for name in self.systems])
            summed = np.bincount(self.groups[mine], residuals[mine])[np.unique(self.groups[mine])]
            if len(summed) >= FEWEST_OF_SYSTEM:
                mean = float(residuals[mine].mean())
                found.append(Fit(self.axis, system, int(mine.sum()), mean, sign_flip_p(summed)))
        return found

    def _bootstrap(self, seed: int) -> dict[tuple[str, str], Floats]:
        """The means over drawn clusters; NaN where a draw holds nothing of a system."""
        size, rng = len(self.places), np.random.default_rng(seed)
        draws = [
            self._means(np.bincount(rng.integers(0, size, size), minlength=size).astype(np.float64))
            for _ in range(RESAMPLES)
        ]
        return {key: np.array([draw[key] for draw in draws]) for key in draws[0]}

    def _means(self, weights: Floats) -> dict[tuple[str, str], float]:
        """Mean of each system of the old judge, mapped, and of each of the new one, with these weights of clusters."""
        of_both = weights[self.groups]
        mapping = _mapping(self.x, self.y, of_both) if of_both.sum() > 0 else None
        means = {}
        for system, (values, groups) in self._old.items():
            known = mapping is not None and weights[groups].sum() > 0
            means[OLD, system] = _average(mapping(values), weights[groups]) if mapping and known else float("nan")
        for system, (values, groups) in self._new.items():
            means[NEW, system] = _average(values, weights[groups])
        return means

    def _arrays(self, systems: Mapping[str, Mapping[str, float]]) -> dict[str, tuple[Floats, Groups]]:
        return {
            system: (np.array(list(tasks.values())), np.array([self.of_task[task] for task in tasks], dtype=np.intp))
            for system, tasks in systems.items()
        }


def _average(values: Floats, weights: Floats) -> float:
    return float(np.average(values, weights=weights)) if weights.sum() > 0 else float("nan")


def _percentiles(drawn: Floats, units: int) -> Interval:
    """Percentile interval, expanded for so few independent units (Hesterberg 2015)."""
    student = float(special.stdtrit(units - 1, 0.5 + LEVEL / 2))
    tail = float(special.ndtr(-student * math.sqrt(units / (units - 1))))
    return Interval(*map(float, np.nanquantile(drawn, [tail, 1 - tail])))


def _mapping(x: Floats, y: Floats, weights: Floats) -> Callable[[Floats], Floats]:
    """The isotonic regression of y on x, linear between the scores that were seen and level beyond them."""
    levels, places = np.unique(x, return_inverse=True)
    mass = np.bincount(places, weights)
    sums = np.bincount(places, weights * y)
    seen = mass > 0
    fitted = isotonic_regression(sums[seen] / mass[seen], weights=mass[seen]).x
    known = levels[seen]
    return lambda scores: np.interp(scores, known, fitted)


def _scored(tasks: Mapping[str, float | None]) -> dict[str, float]:
    return {task: score for task, score in tasks.items() if score is not None}
