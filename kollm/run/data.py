"""The first stages of a run: its training rows, and the tasks that are evaluated."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from kollm.core.counting import counted
from kollm.core.errors import InputError, RecipeError, ServiceError
from kollm.core.files import file_sha256
from kollm.core.progress import say
from kollm.core.records import Record
from kollm.dataset.folder import dataset_fingerprint, read_manifest, read_records, training_parts
from kollm.dataset.given import FOLDER as OWN_DATASETS
from kollm.dataset.given import given_datasets, given_fingerprint
from kollm.dataset.leak_check import EVALUATION, find_leaks, load_references
from kollm.dataset.mixture import mix, source_parts
from kollm.dataset.pipeline import build_dataset
from kollm.dataset.settings import SourceInput, make_settings
from kollm.recipe.engines import NONE
from kollm.recipe.load import load_recipe
from kollm.recipe.schema import SPLIT_KEYS, BuildSettings, Data, Recipe, Source
from kollm.run.stage import Run, RunOptions, StageResult
from kollm.services.repository import RepoType, locate
from kollm.sources import SAMPLE

SOURCES = "sources"
"""The dataset of which the training rows are drawn, where its sources have shares."""


def dataset_inputs(run: Run) -> dict[str, Any]:
    if _given_dataset(run) is not None:
        return {"dataset": dataset_fingerprint(str(_given_dataset(run))), "looked_for": list(tasks_to_look_for(run))}
    looked_for = list(tasks_to_look_for(run))
    if run.recipe.data.datasets:
        given = [item.model_dump(mode="json") for item in run.recipe.data.datasets]
        contents = {item.dataset: given_fingerprint(item) for item in run.recipe.data.datasets}
        return {"datasets": given, "contents": contents, "seed": run.recipe.data.seed, "looked_for": looked_for}
    data = run.recipe.data.model_dump(mode="json", exclude={"evaluation", *SPLIT_KEYS, "dataset", "datasets"})
    for source in data["sources"]:  # keys that the run folders of earlier versions do not name
        for name in ("weight", "repeat"):
            if source[name] is None:
                del source[name]
    files = _file_hashes(run.recipe.data.sources)
    return {"data": data, "files": files, "limit": run.options.limit, "looked_for": looked_for}


def _given_dataset(run: Run) -> str | None:
    return run.options.dataset or run.recipe.data.dataset


def _file_hashes(sources: tuple[Source, ...]) -> dict[str, str]:
    paths = [Path(name) for source in sources for name in (source.input, source.memory) if name and name != SAMPLE]
    return {str(path): file_sha256(path) for path in paths if path.is_file()}


def make_dataset(run: Run) -> StageResult:
    given = _given_dataset(run)
    if given is not None:
        _look_for_tasks(run, given)
        rows = sum(1 for _ in read_records(given))
        return StageResult(
            location=_recorded(given, "dataset"),
            summary=f"{counted(rows, 'row')} given in {given}",
            fingerprint=dataset_fingerprint(given),
            details={"rows": rows},
        )
    result = _training_data(run)
    if run.recipe.data.datasets:
        _look_for_tasks(run, str(run.folder / "dataset"))
    return result


def _training_data(run: Run) -> StageResult:
    """Make the folder `dataset`: the sources built, or the datasets mixed; sources with shares are both."""
    data, folder = run.recipe.data, run.folder / "dataset"
    if data.datasets:
        given_datasets(data.datasets, run.folder, seed=data.seed, output=folder)
        return _mixed(folder, f"mixed of {counted(len(data.datasets), 'dataset')}", {})
    if not _is_weighted(data):
        return _build(run, data.sources, "dataset", _build_settings(run))
    built = _build(run, data.sources, SOURCES, _build_settings(run))
    parts = source_parts(run.folder / SOURCES, data.sources)
    mix(parts, folder, data.seed)
    return _mixed(folder, f"drawn of {built.summary}", built.details)


def _is_weighted(data: Data) -> bool:
    return any(source.weight is not None or source.repeat is not None for source in data.sources)


def _mixed(folder: Path, how: str, details: Mapping[str, Any]) -> StageResult:
    rows = sum(read_manifest(folder)["rows"].values())
    fingerprint = dataset_fingerprint(str(folder))
    return StageResult("dataset", f"{counted(rows, 'row')}, {how}", fingerprint, {**details, "rows": rows})


def _build_settings(run: Run) -> BuildSettings:
    """The recipe's, with the run's own evaluation set looked for and its limit kept."""
    data, options = run.recipe.data, run.options
    limits = [limit for limit in (data.limit, options.limit) if limit is not None]
    against = (*data.against, *tasks_to_look_for(run))
    return make_settings(data.build, limit=min(limits, default=None), against=against)


def tasks_to_look_for(run: Run) -> tuple[str, ...]:
    """The run's own evaluation set, as `against` names it, where it is none that is looked for anyway."""
    source, named = run.recipe.data.evaluation, run.options.evaluation
    if named is None and source is not None:
        named = source.input or (EVALUATION if source.name == EVALUATION else None)
    return (named,) if named is not None and named not in run.recipe.data.against else ()


def _look_for_tasks(run: Run, dataset: str) -> None:
    """Look for the evaluation sets in a dataset that was given, as a build does in its own rows.

    Raises:
        InputError: there are some, and data.leaks is not `keep`.
    """
    against = (*run.recipe.data.against, *tasks_to_look_for(run))
    found = list(find_leaks(read_records(dataset, split="train"), load_references(against)))
    if not found:
        return
    shown = ", ".join(f"{leak.row}: {leak.task}" for leak in found[:3])
    what = f"'{dataset}' has {counted(len(found), 'row that holds', 'rows that hold')} a task of {', '.join(against)} ({shown})"
    if run.recipe.data.leaks != "keep":
        raise InputError(
            f"{what} - take them out (kollm data leaks lists them), or train on them all the same: --set data.leaks=keep."
        )
    say(f"Warning: {what}; they are kept, as data.leaks says.")


def _recorded(given: str, kind: RepoType) -> str:
    """What to write down for files that were given: `ORG/NAME@COMMIT`, or a folder's whole path, from wherever it is read."""
    return str(Path(given).resolve()) if Path(given).is_dir() else locate(given, kind).name


def _build(run: Run, sources: tuple[Source, ...], name: str, settings: BuildSettings) -> StageResult:
    data, options = run.recipe.data, run.options
    if not sources:
        raise RecipeError(
            f"Recipe {run.recipe.name}: data.sources is empty - name sources, or give a dataset with --dataset."
        )
    report = build_dataset(
        [SourceInput(s.name, s.input, s.revision, s.memory, s.limit) for s in sources],
        translator=data.translator,
        translator_model=data.translator_model,
        output=run.folder / name,
        settings=settings,
        max_characters=options.max_characters,
        max_cost=options.max_cost,
    )
    kept, dropped = sum(report.rows.values()), sum(report.dropped.values())
    return StageResult(
        location=name,
        summary=f"{kept:,} Korean rows kept, {dropped:,} rejected",
        fingerprint=dataset_fingerprint(str(run.folder / name)),
        details={"rows": kept, "dropped": dict(report.dropped)},
    )


class TrainingRows(NamedTuple):
    """Training rows by config, and the recipe with the data that they are of."""

    recipe: Recipe
    parts: dict[str, list[Record]]


def training_rows(recipe: Recipe) -> TrainingRows:
    """A recipe's training rows, for a look at them: no source is downloaded, and no translator is asked.

    Where they cannot be had so, the rows of the recipe `demo`, and a line that says it.

    Raises:
        InputError: data that cannot be read.
    """
    data = recipe.data
    if data.is_given or _is_here(data):
        try:
            return _made(recipe)
        except ServiceError as error:
            if not data.is_given:
                raise
            missing = str(error).rstrip(".")
    else:
        missing = f"the data of {recipe.name} is to be downloaded or translated first, then --dataset D shows it"
    say(f"preview: {missing}; these are rows of the bundled sample")
    return _made(recipe.model_copy(update={"data": load_recipe("demo").data}))


def _is_here(data: Data) -> bool:
    """Whether the sources can be built from files of this machine, and without an engine that has to be asked."""
    inputs = [source.input for source in data.sources]
    here = all(name is not None and (name == SAMPLE or Path(name).exists()) for name in inputs)
    return bool(inputs) and here and data.translator in ("memory", NONE)


def _made(recipe: Recipe) -> TrainingRows:
    with tempfile.TemporaryDirectory() as folder:
        run = Run(recipe, RunOptions(Path(folder)), {})
        given = _given_dataset(run)
        if given is None:
            _training_data(run)
            given = str(run.folder / "dataset")
        return TrainingRows(recipe, {name: list(rows) for name, rows in training_parts(given)})


def evaluation_inputs(run: Run) -> dict[str, Any]:
    if run.options.evaluation is not None:
        return {"evaluation": dataset_fingerprint(run.options.evaluation), "limit": run.options.limit}
    source = run.recipe.data.evaluation
    if source is None:
        raise RecipeError(
            f"Recipe {run.recipe.name}: data.evaluation is not set - name a source there, or give --eval DIR."
        )
    return {
        "data.evaluation": source.model_dump(mode="json"),
        "files": _file_hashes((source,)),
        "limit": run.options.limit,
    }


def make_evaluation(run: Run) -> StageResult:
    given = run.options.evaluation
    if given is None:
        assert run.recipe.data.evaluation is not None
        settings = make_settings(run.recipe.data.build, limit=run.options.limit, fresh_answers=False)
        result = _build(run, (run.recipe.data.evaluation,), "evaluation", settings)
        return replace(result, summary=f"{counted(result.details['rows'], 'evaluation task')}")
    rows = sum(1 for _ in read_records(given))
    return StageResult(
        location=_recorded(given, "dataset"),
        summary=f"{counted(rows, 'evaluation task')} given in {given}",
        fingerprint=dataset_fingerprint(given),
        details={"rows": rows},
    )


def dataset_writes(run: Run) -> tuple[str, ...]:
    if _given_dataset(run):
        return ()
    data = run.recipe.data
    if data.datasets:
        return ("dataset", OWN_DATASETS)
    return (SOURCES, "dataset") if _is_weighted(data) else ("dataset",)
