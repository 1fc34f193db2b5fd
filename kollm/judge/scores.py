"""Verdicts as a table: axis -> system -> task -> score, one table for each way of judging."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from kollm.core.verdicts import Verdict
from kollm.judge.foreign.scales import SCALES, SHARES
from kollm.judge.rubric import Rubric
from kollm.judge.rubric_file import load_rubric, rubric_names
from kollm.judge.stats import Comparing, Comparison, compare_systems

Limits = Mapping[str, tuple[float, float]]
"""Axis key to its lowest and highest score."""


SHARE_LIMITS: Limits = dict.fromkeys(SHARES, (0.0, 1.0))


class Judging(NamedTuple):
    """What two verdicts must share to stand in one table."""

    rubric: str
    rubric_sha256: str
    mode: str
    model: str


def judging_of(verdict: Verdict) -> Judging:
    """How a verdict was given."""
    return Judging(verdict.rubric, verdict.rubric_sha256, verdict.mode, verdict.model_requested)


@dataclass(slots=True)
class ScoreTable:
    """The scores that one judge gave by one rubric in one mode.

    Attributes:
        judging: rubric, its hash, mode and requested judge model.
        scores: axis -> system -> task id -> mean over the answers and samples that have a number, or None.
        statuses: system -> status -> number of verdicts.
        returned: system -> models that answered, as the server named them.
        clusters: task id -> its cluster, where it shares one.
        categories: task id -> its category, where it has one.
        answers: system -> the most answers that it gave to one task.
        samples: the most verdicts on one answer.
        costs: system -> USD, as far as the verdicts say.
        mass: system -> axis -> mean probability that the judge gave to the scores of the scale, where it was measured.
    """

    judging: Judging
    scores: dict[str, dict[str, dict[str, float | None]]] = field(default_factory=dict)
    statuses: dict[str, Counter[str]] = field(default_factory=dict)
    returned: dict[str, set[str]] = field(default_factory=dict)
    clusters: dict[str, str] = field(default_factory=dict)
    categories: dict[str, str] = field(default_factory=dict)
    answers: dict[str, int] = field(default_factory=dict)
    samples: int = 1
    costs: dict[str, float] = field(default_factory=dict)
    mass: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def axes(self) -> tuple[str, ...]:
        return tuple(self.scores)

    @property
    def systems(self) -> tuple[str, ...]:
        return tuple(self.statuses)

    def changed_judge(self) -> tuple[str, str] | None:
        """Two systems that were asked of one model and answered by different ones, as a moved alias gives; None for none."""
        named = {system: models - {""} for system, models in self.returned.items()}
        known = [(system, models) for system, models in named.items() if models]
        return next(((known[0][0], system) for system, models in known if models != known[0][1]), None)

    def compare(self, how: Comparing | None = None, *, order: Iterable[str] | None = None) -> list[Comparison]:
        """Pairs of systems on every axis, corrected together; `order` says which of two comes first."""
        names = list(order or self.systems)
        ordered = {axis: {name: of[name] for name in names if name in of} for axis, of in self.scores.items()}
        return compare_systems(ordered, replace(how or Comparing(), clusters=self.clusters))

    def of_category(self, category: str) -> ScoreTable:
        """The same table over the tasks of one category."""
        scores = {
            axis: {
                system: {task: score for task, score in tasks.items() if self.categories.get(task) == category}
                for system, tasks in systems.items()
            }
            for axis, systems in self.scores.items()
        }
        return replace(self, scores=scores)


def parse_rate(statuses: Mapping[str, int]) -> float | None:
    """Share of the replies that came whole in which every axis was read: ok / (ok + parse_error); None for no reply."""
    replies = statuses.get("ok", 0) + statuses.get("parse_error", 0)
    return statuses.get("ok", 0) / replies if replies else None


def without_reply(statuses: Mapping[str, int]) -> int:
    """Verdicts that the parse rate leaves out, since no whole reply came: refusals, cut replies and API errors."""
    return sum(count for status, count in statuses.items() if status not in ("ok", "parse_error"))


def find_rubric(judging: Judging, extra: Iterable[str | Path] = ()) -> Rubric | None:
    """The rubric that verdicts were given by: one of `extra` with their hash, else the shipped one of that name, or None."""
    for rubric in map(load_rubric, extra):
        if rubric.sha256 == judging.rubric_sha256:
            return rubric
    if judging.rubric in SCALES:
        return SCALES[judging.rubric]
    return load_rubric(judging.rubric) if judging.rubric in rubric_names() else None


def axis_limits(judging: Judging, extra: Iterable[str | Path] = ()) -> Limits:
    """Lowest and highest score of each axis, as far as the rubric is known."""
    rubric = find_rubric(judging, extra)
    if rubric is None:
        return SHARE_LIMITS if judging.mode == "imported" and judging.rubric.startswith("lm-eval ") else {}
    return {axis.key: (float(axis.low), float(axis.high)) for axis in rubric.axes}


def score_tables(verdicts: Iterable[tuple[str, Verdict]]) -> list[ScoreTable]:
    """Tables in the order in which their judgings first appear.

    Args:
        verdicts: the name under which a system is shown, and a verdict on it.
    """
    tables: dict[Judging, _Filling] = {}
    for system, verdict in verdicts:
        judging = judging_of(verdict)
        filling = tables.get(judging)
        if filling is None:
            filling = tables[judging] = _Filling(ScoreTable(judging))
        filling.add(system, verdict)
    return [filling.table_whole() for filling in tables.values()]


@dataclass(slots=True)
class _Filling:
    """A table while verdicts come in."""

    table: ScoreTable
    given: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    masses: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, system: str, verdict: Verdict) -> None:
        table, id = self.table, verdict.id
        table.statuses.setdefault(system, Counter())[verdict.status] += 1
        table.returned.setdefault(system, set()).add(verdict.model_returned)
        if verdict.cluster and verdict.cluster != id:
            table.clusters[id] = verdict.cluster
        if verdict.category:
            table.categories[id] = verdict.category
        table.answers[system] = max(table.answers.get(system, 1), verdict.answer + 1)
        table.samples = max(table.samples, verdict.sample + 1)
        for axis, score in verdict.scores.items():
            samples = self.given.setdefault(axis, {}).setdefault(system, {}).setdefault(id, [])
            if score is not None:
                samples.append(score)
        cost, mass = verdict.usage.get("cost"), verdict.usage.get("mass")
        if isinstance(cost, int | float):
            table.costs[system] = table.costs.get(system, 0.0) + cost
        if isinstance(mass, Mapping):
            for axis, share in mass.items():
                if isinstance(share, int | float):
                    self.masses.setdefault(system, {}).setdefault(str(axis), []).append(share)

    def table_whole(self) -> ScoreTable:
        self.table.scores = {
            axis: {
                system: {task: sum(samples) / len(samples) if samples else None for task, samples in tasks.items()}
                for system, tasks in systems.items()
            }
            for axis, systems in self.given.items()
        }
        self.table.mass = {
            system: {axis: sum(shares) / len(shares) for axis, shares in axes.items()}
            for system, axes in self.masses.items()
        }
        return self.table
