"""One way of judging as plain data: its systems, comparisons, and what else stands beside them; and panels of several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kollm.core.verdicts import STATUSES
from kollm.judge.across import find_across
from kollm.judge.corrected import correct_table
from kollm.judge.families import of_judges_family
from kollm.judge.labels import Labels
from kollm.judge.pairwise import PairVerdict, summarize_pairs
from kollm.judge.panel import Panel
from kollm.judge.rubric import Axis
from kollm.judge.scores import Judging, Limits, ScoreTable, find_rubric, parse_rate, without_reply
from kollm.judge.stats import Comparing, estimate, length_correlation
from kollm.report.folder import Material
from kollm.report.published import PUBLISHED

MOST_COMPARED = 8
"""Systems up to which every pair is compared in the report; `kollm compare` takes any number."""


@dataclass
class Shown:
    """What stands beside scores in a report.

    Attributes:
        material: answers and verdicts.
        rubrics: files of rubrics that do not come with kollm.
        bridges: what bridge.json files hold.
        labels: people's scores of some of the answers, which correct the judges.
        lengths, models, places: by system, as the material has them; a place is a colour.
    """

    material: Material
    rubrics: tuple[str | Path, ...] = ()
    bridges: Sequence[Mapping[str, Any]] = ()
    labels: Labels | None = None
    lengths: Mapping[str, Mapping[str, float]] = field(init=False)
    models: Mapping[str, str] = field(init=False)
    places: Mapping[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.lengths, self.models = self.material.lengths, self.material.models
        self.places = {system: place for place, system in enumerate(self.material.systems)}


def judging_row(table: ScoreTable, shown: Shown) -> dict[str, Any]:
    """One table of scores; its comparisons are left out where its systems had different judges."""
    judging = table.judging
    rubric = find_rubric(judging, shown.rubrics)
    axes = {axis.key: axis for axis in rubric.axes} if rubric else {}
    order = [key for key in dict.fromkeys([*axes, *table.scores]) if key in table.scores]
    limits = {key: (float(axis.low), float(axis.high)) for key, axis in axes.items()}
    systems = sorted(table.systems, key=shown.places.__getitem__)
    few = len(systems) <= MOST_COMPARED
    across = find_across(table, shown.material.drifted)
    compared = (
        table.compare(Comparing(limits=limits, lengths=shown.lengths), order=systems) if few and not across else []
    )
    return {
        **judging._asdict(),
        "rubric_changed": bool(rubric and rubric.sha256 != judging.rubric_sha256),
        "returned": sorted(set().union(*table.returned.values())),
        "own_family": of_judges_family(judging.model, {s: shown.models.get(s, s) for s in systems}),
        "axes": [_axis(key, axes.get(key)) for key in order],
        "systems": [
            {"place": shown.places[system], **_system(table, system, order, limits, shown.lengths.get(system))}
            for system in systems
        ],
        "samples": table.samples,
        "categories": _categories(table, systems, order, limits),
        "comparisons": [comparison.to_row() for comparison in compared],
        "too_many_to_compare": not few,
        "across": None if across is None else across._asdict(),
        "bridged": _bridged(judging, shown.bridges),
        "corrected": [] if shown.labels is None else _corrected(table, shown.labels, limits),
        "published": [row._asdict() for row in PUBLISHED.get(judging.rubric, ())],
        "panel": None,
    }


def panel_row(panel: Panel, shown: Shown) -> dict[str, Any]:
    """The mean of several judges as a table, with their agreement, what they dispute, and whom they favour."""
    row = judging_row(panel.table, shown)
    limits = {axis["key"]: (axis["low"], axis["high"]) for axis in row["axes"] if axis["low"] is not None}
    models = {system: shown.models.get(system, system) for system in panel.table.systems}
    panel_of = panel.to_row(models, limits)
    return {**row, "published": [], "bridged": [], "corrected": [], "own_family": [], "panel": panel_of}


def _corrected(table: ScoreTable, labels: Labels, limits: Limits) -> list[dict[str, Any]]:
    """The means of each system of which enough answers are labelled, corrected by the labels."""
    rows: dict[str, dict[str, Any]] = {}
    for found in correct_table(table, labels, limits):
        if not found.second:
            row = rows.setdefault(found.first, {"system": found.first, "judge": "", "n": found.n_labels, "axes": {}})
            row["axes"][found.axis] = {"mean": found.corrected, "ci95": found.ci95}
    return list(rows.values())


def _bridged(judging: Judging, bridges: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Systems that another judge scored, on this one's scale."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for found in bridges:
        if found["new"] == judging._asdict():
            for mean in found["means"]:
                key = found["old"]["model"], mean["first"]
                row = rows.setdefault(key, {"system": mean["first"], "judge": key[0], "n": mean["n"], "axes": {}})
                row["axes"][mean["axis"]] = {"mean": mean["bridged"], "ci95": mean["ci95"]}
    return list(rows.values())


def _categories(
    table: ScoreTable, systems: Sequence[str], order: Sequence[str], limits: Mapping[str, tuple[float, float]]
) -> list[dict[str, Any]]:
    """Means of each system within each category of tasks; none where tasks have no category."""
    rows = []
    for category in dict.fromkeys(table.categories.values()):
        part = table.of_category(category)
        for system in systems:
            tasks = list(dict.fromkeys(task for axis in order for task in part.scores[axis].get(system, ())))
            if not tasks:
                continue
            clusters = [table.clusters.get(task) or task for task in tasks]
            found = {
                axis: estimate(
                    [part.scores[axis].get(system, {}).get(task) for task in tasks], limits.get(axis), clusters
                )
                for axis in order
            }
            axes = {axis: {"mean": e.mean, "ci95": e.ci95, "n_scored": e.n_scored} for axis, e in found.items()}
            rows.append({"category": category, "system": system, "n": len(tasks), "axes": axes})
    return rows


def pairwise_rows(pairs: Sequence[PairVerdict]) -> list[dict[str, Any]]:
    """Wins and position bias of each two systems that a judge chose between."""
    by_judge: dict[str, list[PairVerdict]] = {}
    for pair in pairs:
        by_judge.setdefault(pair.model_requested, []).append(pair)
    return [
        {
            "first": first,
            "second": second,
            "model": model,
            "cost": sum(pair.cost for pair in of_judge if (pair.system_a, pair.system_b) == (first, second)),
            **summary.to_row(),
        }
        for model, of_judge in by_judge.items()
        for (first, second), summary in summarize_pairs(of_judge).items()
    ]


def _axis(key: str, axis: Axis | None) -> dict[str, Any]:
    if axis is None:
        return {"key": key, "label": key, "korean": key, "low": None, "high": None}
    return {"key": key, "label": axis.label, "korean": axis.korean, "low": axis.low, "high": axis.high}


def _system(
    table: ScoreTable,
    system: str,
    order: Sequence[str],
    limits: Mapping[str, tuple[float, float]],
    lengths: Mapping[str, float] | None,
) -> dict[str, Any]:
    statuses = table.statuses[system]
    judged = {task for axis in table.axes for task in table.scores[axis].get(system, ())}
    tasks = list(lengths) if lengths else sorted(judged)
    clusters = [table.clusters.get(task) or task for task in tasks]
    axes: dict[str, Any] = {}
    for axis in order:
        scores = table.scores[axis].get(system, {})
        values = [scores.get(task) for task in tasks]
        found = estimate(values, limits.get(axis), clusters)
        axes[axis] = {
            "mean": found.mean,
            "ci95": found.ci95,
            "bounds": found.bounds,
            "n": found.n,
            "n_scored": found.n_scored,
            "mass": table.mass.get(system, {}).get(axis),
            "distribution": _distribution([v for v in values if v is not None]),
            "length_correlation": length_correlation(
                [(lengths[task], score) for task, score in scores.items() if score is not None and task in lengths]
            )
            if lengths
            else None,
        }
    return {
        "system": system,
        "n": len(tasks),
        "answers": table.answers.get(system, 1),
        "unjudged": len(set(tasks) - judged),
        "verdicts": sum(statuses.values()),
        "statuses": {status: statuses[status] for status in STATUSES},
        "parse_rate": parse_rate(statuses),
        "without_reply": without_reply(statuses),
        "cost": table.costs.get(system),
        "axes": axes,
    }


def _distribution(scores: Sequence[float]) -> list[tuple[float, int]]:
    """Scores with their counts, rounded to half points for the mean of samples and for expected scores."""
    return sorted(Counter(round(score * 2) / 2 for score in scores).items())
