"""The numbers of a report, as plain data: what report.json holds and what the page and the markdown table show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kollm.core.version import __version__
from kollm.judge.intervals import LEVEL
from kollm.judge.labels import Labels
from kollm.judge.panel import panels
from kollm.judge.scores import score_tables
from kollm.quality.flags import FLAGS
from kollm.report.benchmarks import benchmark_rows
from kollm.report.folder import Answered, Material, WorkFolder
from kollm.report.judging import Shown, judging_row, pairwise_rows, panel_row
from kollm.report.steps import step_rows
from kollm.report.words import INTERVAL, STAGES, TEST


def summarize(
    folders: Sequence[WorkFolder],
    material: Material,
    rubrics: Iterable[str | Path] = (),
    labels: Labels | None = None,
) -> dict[str, Any]:
    """Everything in a report except the samples; a plain JSON-able dict.

    Args:
        folders: what to report, in the order to show it.
        material: their answers and verdicts.
        rubrics: files of rubrics that do not come with kollm, for the ranges and labels of their axes.
        labels: people's scores of some of the answers, which correct the judges.
    """
    if labels is not None:
        labels = labels.without_changed(
            Labels({}, {(v.id, system, v.answer): v.response_sha256 for system, v in material.verdicts})
        )
    tables = score_tables(material.verdicts)
    shown = Shown(material, tuple(rubrics), [folder.bridge for folder in folders if folder.bridge], labels)
    summary = {
        "kollm": __version__,
        "toy": any(folder.toy for folder in folders),
        "method": {"interval": INTERVAL.en, "level": LEVEL, "test": TEST.en},
        "runs": [_run(folder) for folder in folders],
        "answers": [
            _answers(system, [answer for given in tasks.values() for answer in given])
            for system, tasks in material.answers.items()
        ],
        "pairwise": [row for folder in folders for row in pairwise_rows(folder.pairs)],
        "benchmarks": benchmark_rows(score for folder in folders for score in folder.benchmarks),
        "judgings": [judging_row(table, shown) for table in tables],
        "panels": [panel_row(panel, shown) for panel in panels(tables)],
    }
    return {**summary, "steps": step_rows(folders, material, summary)}


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
