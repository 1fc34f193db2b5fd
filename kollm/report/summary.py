"""The numbers of a report, as plain data: what report.json holds and what the page and the markdown table show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kollm.core.records import STATUSES
from kollm.core.version import __version__
from kollm.judge.intervals import LEVEL
from kollm.judge.pairwise import PairVerdict, summarize_pairs
from kollm.judge.rubric import Axis
from kollm.judge.scores import ScoreTable, find_rubric, parse_rate, score_tables, without_reply
from kollm.judge.stats import Comparing, estimate, length_correlation
from kollm.quality.flags import FLAGS
from kollm.report.benchmarks import benchmark_rows
from kollm.report.folder import Answered, Material, WorkFolder
from kollm.report.published import PUBLISHED
from kollm.report.words import STAGES

INTERVAL = "Jeffreys, at the effective sample size, by cluster"
TEST = "exact sign flips, by cluster"
MOST_COMPARED = 8
"""Systems up to which every pair is compared in the report; `kollm compare` takes any number."""


def summarize(folders: Sequence[WorkFolder], material: Material, rubrics: Iterable[str | Path] = ()) -> dict[str, Any]:
    """Everything in a report except the samples; a plain JSON-able dict.

    Args:
        folders: what to report, in the order to show it.
        material: their answers and verdicts.
        rubrics: files of rubrics that do not come with kollm, for the ranges and labels of their axes.
    """
    extra = tuple(rubrics)
    tables, lengths = score_tables(material.verdicts), material.lengths
    places = {system: place for place, system in enumerate(material.systems)}
    return {
        "kollm": __version__,
        "toy": any(folder.toy for folder in folders),
        "method": {"interval": INTERVAL, "level": LEVEL, "test": TEST},
        "runs": [_run(folder) for folder in folders],
        "answers": [
            _answers(system, [answer for given in tasks.values() for answer in given])
            for system, tasks in material.answers.items()
        ],
        "pairwise": [row for folder in folders for row in _pairwise(folder.pairs)],
        "benchmarks": benchmark_rows(score for folder in folders for score in folder.benchmarks),
        "judgings": [_judging(table, lengths, places, extra) for table in tables],
    }


def _run(folder: WorkFolder) -> dict[str, Any]:
    recipe = folder.run.get("recipe", {})
    return {
        "name": folder.name,
        "toy": folder.toy,
        "kollm": folder.run.get("kollm"),
        "recipe": recipe,
        "stages": {
            name: {
                "status": stage.get("status"),
                "seconds": stage.get("seconds"),
                "summary": (stage.get("result") or {}).get("summary"),
            }
            for name, stage in _in_order(folder.run.get("stages", {}), STAGES)
            if name != "report"
        },
        "dataset": _dataset(folder.manifest),
        "training": folder.metrics,
        "settings": _settings(folder),
        "outdated_verdicts": folder.outdated,
    }


def _in_order(items: Mapping[str, Any], first: Iterable[str]) -> list[tuple[str, Any]]:
    """The items named in `first` in its order, then the others."""
    return [(name, items[name]) for name in dict.fromkeys([*first, *items]) if name in items]


def _dataset(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest's counts, one entry a source; empty where no dataset was built."""
    if not manifest:
        return {}
    kept = manifest.get("rows", {})
    return {
        "sources": [
            {
                "name": source["name"],
                "revision": source.get("revision"),
                "read": source.get("rows"),
                "kept": kept.get(source["name"].replace("_", "-")),
            }
            for source in ({"name": item} if isinstance(item, str) else item for item in manifest.get("sources", ()))
        ],
        "dropped": manifest.get("dropped", {}),
        "translator": (manifest.get("translator") or {}).get("name"),
        **{key: manifest.get(key) for key in ("filters", "turns", "mode", "characters")},
    }


def _settings(folder: WorkFolder) -> list[dict[str, Any]]:
    """Recipe, versions and hardware as dotted keys, with the origin of a value where the recipe names it."""
    recipe = {key: value for key, value in folder.run.get("recipe", {}).items() if key != "origins"}
    origins = folder.run.get("recipe", {}).get("origins") or {}
    values = {"kollm": folder.run.get("kollm"), **recipe}
    values |= {key: folder.training[key] for key in ("versions", "hardware") if key in folder.training}
    return [
        {"key": key, "value": value, "origin": origins.get(key, "")}
        for key, value in _dotted(values)
        if value not in (None, "", [], {})
    ]


def _dotted(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _dotted(item, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        for number, item in enumerate(value):
            yield from _dotted(item, f"{prefix}.{number}")
    else:
        yield prefix, value


def _answers(system: str, answers: Sequence[Answered]) -> dict[str, Any]:
    flags = Counter(flag for answer in answers for flag in answer.flags)
    lengths = [len(answer.generation.response) for answer in answers]
    first = answers[0].generation
    return {
        "system": system,
        "model": first.model,
        "adapter": first.adapter,
        "params": first.params,
        "n": len(answers),
        "flags": {flag: {"n": flags[flag], "share": flags[flag] / len(answers)} for flag in FLAGS},
        "characters": {
            "mean": float(np.mean(lengths)),
            "median": float(np.median(lengths)),
            "longest": max(lengths),
        },
    }


def _judging(
    table: ScoreTable,
    lengths: Mapping[str, Mapping[str, float]],
    places: Mapping[str, int],
    rubrics: Sequence[str | Path],
) -> dict[str, Any]:
    judging = table.judging
    rubric = find_rubric(judging, rubrics)
    axes = {axis.key: axis for axis in rubric.axes} if rubric else {}
    order = [key for key, _ in _in_order(table.scores, axes)]
    limits = {key: (float(axis.low), float(axis.high)) for key, axis in axes.items()}
    systems = sorted(table.systems, key=places.__getitem__)
    few = len(systems) <= MOST_COMPARED
    return {
        "rubric": judging.rubric,
        "rubric_sha256": judging.rubric_sha256,
        "rubric_changed": bool(rubric and rubric.sha256 != judging.rubric_sha256),
        "mode": judging.mode,
        "model": judging.model,
        "returned": sorted(set().union(*table.returned.values())),
        "axes": [_axis(key, axes.get(key)) for key in order],
        "systems": [
            {"place": places[system], **_system(table, system, order, limits, lengths.get(system))}
            for system in systems
        ],
        "samples": table.samples,
        "categories": _categories(table, systems, order, limits),
        "comparisons": [c.to_row() for c in table.compare(Comparing(limits=limits, lengths=lengths), order=systems)]
        if few
        else [],
        "too_many_to_compare": not few,
        "published": [row._asdict() for row in PUBLISHED.get(judging.rubric, ())],
    }


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


def _pairwise(pairs: Sequence[PairVerdict]) -> list[dict[str, Any]]:
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
