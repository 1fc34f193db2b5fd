"""Several judges of the same answers: their mean, how far they agree, where they do not, and whom each favours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from kollm.judge.coefficients import Coefficient, krippendorff_alpha, weighted_kappa
from kollm.judge.families import of_judges_family
from kollm.judge.intervals import Interval
from kollm.judge.scores import Limits, ScoreTable
from kollm.judge.stats import Comparing, Comparison, compare_systems, holm

MODE = "panel"
DISPUTED = 20
"""Answers on which the judges differ most that are listed."""


class JudgePair(NamedTuple):
    """Two judges on one axis: kappa with its interval, and how much milder the first is on the answers of both."""

    first: str
    second: str
    n: int
    kappa: Coefficient
    milder: float | None


class PanelAgreement(NamedTuple):
    """One axis of a panel.

    Attributes:
        n: answers that all judges scored; `n_some` those that two of them did.
        alpha: Krippendorff's, over all that two scored.
        pairs: each two judges.
    """

    axis: str
    n: int
    n_some: int
    alpha: Coefficient
    pairs: list[JudgePair]


class Disputed(NamedTuple):
    """An answer on which judges differ: the axis where they differ most, their scores on it, and their range as a share of
    the scale, on average over all axes."""

    task: str
    system: str
    axis: str
    scores: dict[str, float]
    spread: float


@dataclass(frozen=True, slots=True)
class SelfPreference:
    """How much more a judge favours its own family than the other judges do.

    Attributes:
        own: the systems of its family.
        excess: (own - other systems) by this judge less the same by the mean of the others, over tasks that all scored.
        ci95: interval of the excess, by cluster.
        p_value: two-sided sign-flip test; `p_holm` after Holm's correction over judges and axes.
    """

    judge: str
    axis: str
    own: tuple[str, ...]
    excess: float
    ci95: Interval | None
    p_value: float
    p_holm: float
    n: int

    def to_row(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Panel:
    """Judges that scored the same answers by one rubric.

    Attributes:
        judges: name -> its table; a model that judged in two ways has the mode behind its name.
        table: the mean of all judges, where all gave a score; an answer that one of them could not score has none, since the
            mean of the others would be milder or harsher than the rest.
    """

    judges: Mapping[str, ScoreTable]
    table: ScoreTable

    def agreement(self) -> list[PanelAgreement]:
        """How far the judges agree, axis by axis."""
        return [self._agreement(axis) for axis in self.table.axes]

    def to_row(self, models: Mapping[str, str], limits: Limits) -> dict[str, Any]:
        """What the panel says of its judges, as plain data; arguments as of `self_preference`."""
        agreement = [
            {
                **found._asdict(),
                "alpha": found.alpha._asdict(),
                "pairs": [{**pair._asdict(), "kappa": pair.kappa._asdict()} for pair in found.pairs],
            }
            for found in self.agreement()
        ]
        return {
            "judges": list(self.judges),
            "agreement": agreement,
            "disputed": [found._asdict() for found in self.disputed(limits)],
            "self_preference": [found.to_row() for found in self.self_preference(models, limits)],
        }

    def _agreement(self, axis: str) -> PanelAgreement:
        answers = self._answers(axis)
        clusters = [self.table.clusters.get(task) or task for _, task in answers]
        scores = {name: [_score(table, axis, *key) for key in answers] for name, table in self.judges.items()}
        columns = list(scores.values())
        counts = [sum(value is not None for value in row) for row in zip(*columns, strict=True)]
        pairs = []
        for (first, a), (second, b) in combinations(scores.items(), 2):
            both = [(x, y, c) for x, y, c in zip(a, b, clusters, strict=True) if x is not None and y is not None]
            xs, ys, names = ([row[0] for row in both], [row[1] for row in both], [row[2] for row in both])
            milder = float(np.mean(np.subtract(xs, ys))) if both else None
            pairs.append(JudgePair(first, second, len(both), weighted_kappa(xs, ys, names), milder))
        alpha = krippendorff_alpha(columns, clusters)
        return PanelAgreement(axis, counts.count(len(columns)), sum(count >= 2 for count in counts), alpha, pairs)

    def _answers(self, axis: str) -> list[tuple[str, str]]:
        """(system, task) in the order in which they come, of whatever judge."""
        keys: dict[tuple[str, str], None] = {}
        for table in self.judges.values():
            for system, tasks in table.scores.get(axis, {}).items():
                keys.update(dict.fromkeys((system, task) for task in tasks))
        return list(keys)

    def disputed(self, limits: Limits, most: int = DISPUTED) -> list[Disputed]:
        """The answers on which the judges differ most, over all axes; an axis without limits counts by its widest range."""
        ranges: dict[tuple[str, str], dict[str, tuple[float, dict[str, float]]]] = {}
        for axis in self.table.axes:
            found: dict[tuple[str, str], tuple[float, dict[str, float]]] = {}
            for system, task in self._answers(axis):
                scores = {name: _score(table, axis, system, task) for name, table in self.judges.items()}
                given = {name: score for name, score in scores.items() if score is not None}
                if len(given) > 1:
                    found[task, system] = max(given.values()) - min(given.values()), given
            low, high = limits.get(axis, (0.0, max((apart for apart, _ in found.values()), default=0.0)))
            for key, (apart, given) in found.items():
                ranges.setdefault(key, {})[axis] = (apart / (high - low) if high > low else 0.0), given
        rows = []
        for (task, system), by_axis in ranges.items():
            spread = sum(share for share, _ in by_axis.values()) / len(by_axis)
            widths = {axis: limits.get(axis, (0.0, 0.0)) for axis in by_axis}
            worst = max(by_axis, key=lambda axis: (by_axis[axis][0], widths[axis][1] - widths[axis][0]))
            if spread > 0:
                rows.append(Disputed(task, system, worst, by_axis[worst][1], spread))
        return sorted(rows, key=lambda row: (-row.spread, row.task, row.system))[:most]

    def self_preference(self, models: Mapping[str, str], limits: Limits) -> list[SelfPreference]:
        """How much each judge that judged its own family favours it, against the other judges.

        Args:
            models: system -> the name of its model, or its own.
            limits: axis -> lowest and highest score, where known.
        """
        found = []
        for judge, table in self.judges.items():
            own = of_judges_family(table.judging.model, models)
            if own and len(own) < len(models):
                found += [row for axis in self.table.axes if (row := self._excess(judge, axis, own, models, limits))]
        corrected = holm([comparison.p_value for _, _, comparison in found])
        return [
            SelfPreference(judge, c.axis, own, c.difference, c.ci95, c.p_value, p, c.n)
            for (judge, own, c), p in zip(found, corrected, strict=True)
        ]

    def _excess(
        self, judge: str, axis: str, own: Sequence[str], systems: Mapping[str, str], limits: Limits
    ) -> tuple[str, tuple[str, ...], Comparison] | None:
        others = [system for system in systems if system not in own]
        gaps: dict[str, dict[str, float | None]] = {"self": {}, "others": {}}
        for task in dict.fromkeys(task for _, task in self._answers(axis)):
            by_judge = {
                name: _gap([_score(t, axis, s, task) for s in own], [_score(t, axis, s, task) for s in others])
                for name, t in self.judges.items()
            }
            mine = by_judge.pop(judge)
            rest = [gap for gap in by_judge.values() if gap is not None]
            if mine is not None and len(rest) == len(by_judge):
                gaps["self"][task], gaps["others"][task] = mine, sum(rest) / len(rest)
        wide = {axis: (limits[axis][0] - limits[axis][1], limits[axis][1] - limits[axis][0])} if axis in limits else {}
        compared = compare_systems({axis: gaps}, Comparing(limits=wide, clusters=self.table.clusters))
        return (judge, tuple(own), compared[0]) if compared else None


def panels(tables: Sequence[ScoreTable]) -> list[Panel]:
    """A panel for each rubric by which two judges or more scored the same answers."""
    by_rubric: dict[tuple[str, str], list[ScoreTable]] = {}
    for table in tables:
        if table.judging.model:
            by_rubric.setdefault((table.judging.rubric, table.judging.rubric_sha256), []).append(table)
    found = []
    for of_rubric in by_rubric.values():
        models = Counter(table.judging.model for table in of_rubric)
        judges = {
            table.judging.model
            if models[table.judging.model] == 1
            else f"{table.judging.model} ({table.judging.mode})": table
            for table in of_rubric
        }
        together = _together(judges)
        if len(judges) > 1 and any(
            score is not None for systems in together.scores.values() for t in systems.values() for score in t.values()
        ):
            found.append(Panel(judges, together))
    return found


def _together(judges: Mapping[str, ScoreTable]) -> ScoreTable:
    tables = list(judges.values())
    first = tables[0]
    together = ScoreTable(first.judging._replace(mode=MODE, model=" + ".join(judges)))
    shared = [s for s in first.systems if all(s in table.systems for table in tables)]
    for table in tables:
        together.clusters |= table.clusters
        together.categories |= table.categories
        together.samples = max(together.samples, table.samples)
        for system in shared:
            together.returned.setdefault(system, set()).update(table.returned.get(system, ()))
            together.statuses.setdefault(system, Counter()).update(table.statuses[system])
            together.answers[system] = max(together.answers.get(system, 1), table.answers.get(system, 1))
            if system in table.costs:
                together.costs[system] = together.costs.get(system, 0.0) + table.costs[system]
    for axis in first.axes:
        together.scores[axis] = {}
        for system in shared:
            of_system = [table.scores.get(axis, {}).get(system, {}) for table in tables]
            tasks = dict.fromkeys(task for scores in of_system for task in scores)
            together.scores[axis][system] = {task: _mean([s.get(task) for s in of_system]) for task in tasks}
    return together


def _score(table: ScoreTable, axis: str, system: str, task: str) -> float | None:
    return table.scores.get(axis, {}).get(system, {}).get(task)


def _gap(own: Sequence[float | None], others: Sequence[float | None]) -> float | None:
    first, second = _mean(own), _mean(others)
    return None if first is None or second is None else first - second


def _mean(scores: Sequence[float | None]) -> float | None:
    """The mean where all are there."""
    given = [score for score in scores if score is not None]
    return sum(given) / len(given) if len(given) == len(scores) else None
