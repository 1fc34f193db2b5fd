"""`kollm run`: the stages of a recipe, in order, in one work folder that resumes.

`run.json` holds, for every stage, the inputs it was made from and, once it is done, its result. Running again skips what
is done with the same inputs; another input stops the run, naming it, until `--restart STAGE` clears that stage and those
after it. Each stage resumes by itself from whatever a kill left of it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kollm.core.errors import InputError, StateError
from kollm.core.files import ensure_folder, write_json
from kollm.core.hashing import canonical_json
from kollm.core.lock import folder_lock
from kollm.core.progress import say
from kollm.core.results import read_run_file
from kollm.core.version import __version__
from kollm.recipe.schema import Adapter, Data, GenerationSettings, Judge, Recipe
from kollm.run.checks import require_runnable
from kollm.run.clearing import clear, require_clearable
from kollm.run.destinations import destinations
from kollm.run.stage import Run, RunOptions, Stage, StageResult
from kollm.run.stages import stages_of
from kollm.services.adapter_base import mend_moved

CLEARING = "clearing"
"""Status of a stage whose files are being removed; after a kill the next start goes on with it."""


def run_recipe(recipe: Recipe, options: RunOptions, restart: str | None = None) -> dict[str, StageResult]:
    """Run every stage that is not done, and return the results by stage.

    Raises:
        RecipeError: something that would stop a later stage, found before the first; the message lists all of it.
        StateError: the folder holds another run, or a changed input; the message names the key and both values.
        KollmError: whatever a stage raises; what was finished stays.
    """
    require_runnable(recipe, options, restart)
    for line in destinations(recipe, bool(options.dataset or recipe.data.is_given)):
        say(line)
    with folder_lock(options.folder):
        ensure_folder(options.folder)
        mend_moved(options.folder / "adapter")
        journal = _open_journal(options.folder, recipe, restart)
        run = Run(recipe, options, {})
        _require_unwritten(run, journal)
        stages = stages_of(recipe)
        for number, stage in enumerate(stages, start=1):
            inputs = _flat(stage.inputs(run))
            entry = journal["stages"].get(stage.name)
            if entry is not None:
                _require_same(stage.name, entry["inputs"], inputs, options.folder)
            label = f"[{number}/{len(stages)}] {stage.name}"
            if entry is not None and entry["status"] == "done":
                say(f"{label}: done before, skipped ({entry['result']['summary']})")
            else:
                say(f"{label}: {'resumes' if entry else 'starts'}")
                entry = _perform(stage, run, inputs, journal, entry or {})
                say(f"{label}: {entry['result']['summary']} ({entry['seconds']:.0f} s)")
            run.results[stage.name] = StageResult.from_row(entry["result"])
        return run.results


def planned(recipe: Recipe, options: RunOptions, restart: str | None = None) -> list[tuple[str, str]]:
    """Stage and state, `done` or `to do`, without doing or writing anything."""
    path = options.folder / "run.json"
    stages = read_run_file(path)["stages"] if path.is_file() else {}
    names = [stage.name for stage in stages_of(recipe)]
    begin = names.index(restart) if restart in names else len(names)
    done = [stages.get(name, {}).get("status") == "done" and names.index(name) < begin for name in names]
    return [(name, "done" if is_done else "to do") for name, is_done in zip(names, done, strict=True)]


def _perform(
    stage: Stage, run: Run, inputs: dict[str, Any], journal: dict[str, Any], before: Mapping[str, Any]
) -> dict[str, Any]:
    spent = float(before.get("seconds", 0.0))
    writes = before.get("writes", list(stage.writes(run)))
    entry: dict[str, Any] = {"status": "running", "inputs": inputs, "seconds": spent, "writes": writes}
    journal["stages"][stage.name] = entry
    write_json(run.folder / "run.json", journal)
    started = time.monotonic()
    result = stage.work(run)
    entry.update(status="done", seconds=round(spent + time.monotonic() - started, 3), result=result.to_row())
    write_json(run.folder / "run.json", journal)
    return entry


def _open_journal(folder: Path, recipe: Recipe, restart: str | None) -> dict[str, Any]:
    path = folder / "run.json"
    journal: dict[str, Any] = read_run_file(path, whole=True) if path.is_file() else {"stages": {}}
    if journal["stages"] and journal.get("recipe", {}).get("name") != recipe.name:
        raise StateError(
            f"'{folder}' holds a run of the recipe '{journal.get('recipe', {}).get('name')}', not of '{recipe.name}' - use another folder."
        )
    if restart is not None:
        _mark_from(folder, journal, restart, [stage.name for stage in stages_of(recipe)])
    _clear_marked(folder, journal)
    journal.update(kollm=__version__, recipe=recipe.model_dump(mode="json"), toy=recipe.base.is_toy)
    return journal


def _mark_from(folder: Path, journal: dict[str, Any], restart: str, names: Sequence[str]) -> None:
    if restart not in names:
        raise InputError(f"There is no stage '{restart}' - use one of {', '.join(names)}.")
    entries = [journal["stages"][name] for name in names[names.index(restart) :] if name in journal["stages"]]
    require_clearable(folder, entries)
    for entry in entries:
        entry["status"] = CLEARING


def _clear_marked(folder: Path, journal: dict[str, Any]) -> None:
    """Remove what marked stages wrote, those of an earlier start that was killed meanwhile too."""
    marked = {name: entry for name, entry in journal["stages"].items() if entry["status"] == CLEARING}
    if not marked:
        return
    write_json(folder / "run.json", journal)
    clear(folder, marked.values())
    for name in marked:
        del journal["stages"][name]
    write_json(folder / "run.json", journal)


def _require_unwritten(run: Run, journal: Mapping[str, Any]) -> None:
    """Refuse to begin where the files of a stage that has not begun are there already: they are somebody's.

    Raises:
        StateError: there are some.
    """
    for stage in stages_of(run.recipe):
        there = [name for name in stage.writes(run) if (run.folder / name).exists()]
        if stage.name not in journal["stages"] and there:
            raise StateError(
                f"'{run.folder / there[0]}' is there, and this run has not made it - move it elsewhere, or use another folder."
            )


def _require_same(stage: str, before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    for key in sorted(before.keys() | now.keys()):
        later = key not in before and (key in _LATER or now[key] in (None, _DEFAULTS.get(key)))
        if before.get(key) != now.get(key) and not later:
            raise StateError(
                f"'{folder}' was made with {key} = {before.get(key)!r}, now it is {now.get(key)!r} - use another folder, or "
                f"begin again from there: --restart {stage}."
            )


def _defaults() -> dict[str, Any]:
    sections = {"data": Data(), "generation": GenerationSettings(), "judge": Judge(), "adapter": Adapter()}
    values = {name: section.model_dump(mode="json") for name, section in sections.items()}
    return _flat(values)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value if isinstance(value, str | int | float | None) else canonical_json(value)
    return flat


_DEFAULTS = _defaults()
"""What a key of a recipe is that a run of an earlier version had not."""
_LATER = {"looked_for"}
"""Inputs that runs of earlier versions did not write down."""
