"""The stages of a run: dataset -> evaluation tasks -> base -> adapter -> answers -> verdicts -> report.

A stage names the inputs that decide its result, does its work inside the work folder, and returns a StageResult.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from kollm.core.errors import InputError, RecipeError, ServiceError
from kollm.core.files import file_sha256, require_file
from kollm.core.ownership import write_sealed
from kollm.core.progress import say
from kollm.core.records import Record
from kollm.core.results import read_metrics_file, read_training_file
from kollm.core.version import __version__
from kollm.dataset.folder import dataset_fingerprint, read_manifest, read_records, training_parts
from kollm.dataset.given import FOLDER as OWN_DATASETS
from kollm.dataset.given import given_datasets, given_fingerprint
from kollm.dataset.leak_check import EVALUATION, find_leaks, load_references
from kollm.dataset.mixture import mix, source_parts
from kollm.dataset.pipeline import build_dataset
from kollm.dataset.settings import SourceInput, make_settings
from kollm.recipe.engines import NONE
from kollm.recipe.load import load_recipe
from kollm.recipe.schema import SPLIT_KEYS, TRAINED_KEYS, BuildSettings, Data, Recipe, Source
from kollm.services.repository import RepoType, locate
from kollm.sources import SAMPLE
from kollm.train.launch import check_launch, launch, launch_command

RECIPE = "run.recipe.yaml"
"""The recipe that training is launched with; the user's own may lie in the work folder as recipe.yaml."""
SOURCES = "sources"
"""The dataset of which the training rows are drawn, where its sources have shares."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a user sets for one run beside the recipe.

    Attributes:
        folder: the work folder.
        evaluation: dataset folder or Hub id of the tasks to answer, in place of the recipe's.
        dataset: dataset folder or Hub id to train on, in place of building the recipe's sources.
        config: accelerate config by name; None picks one for the machine.
        processes: number of training processes; None leaves it to the config.
        limit: rows read from each source, and tasks answered.
        max_characters: cap on characters sent to a paid translator.
        max_cost: cap in USD on each paid stage.
    """

    folder: Path
    evaluation: str | None = None
    dataset: str | None = None
    config: str | None = None
    processes: int | None = None
    limit: int | None = None
    max_characters: int | None = None
    max_cost: float | None = None


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a stage made; stands in run.json.

    Attributes:
        location: inside the work folder, or the Hub id or folder that stands for it.
        summary: a line for people.
        fingerprint: of its content, where later stages depend on it.
        details: what reports tell of it beside, JSON.
    """

    location: str
    summary: str
    fingerprint: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_row(self) -> dict[str, Any]:
        named = {"fingerprint": self.fingerprint} if self.fingerprint else {}
        return {**self.details, "location": self.location, "summary": self.summary, **named}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        details = {key: value for key, value in row.items() if key not in ("location", "summary", "fingerprint")}
        return cls(str(row["location"]), str(row["summary"]), str(row.get("fingerprint", "")), details)


class Run(NamedTuple):
    """A recipe at work in a folder, with the results of the stages before."""

    recipe: Recipe
    options: RunOptions
    results: dict[str, StageResult]

    @property
    def folder(self) -> Path:
        return self.options.folder

    def location(self, stage: str) -> Path | str:
        """Where a stage's result is: a path inside the work folder, or the Hub id or folder that stands for it."""
        where = self.results[stage].location
        inside = self.folder / where
        return inside if inside.exists() else where


class Stage(NamedTuple):
    """One step: the inputs that decide its result, the work, and the names that it writes in the work folder."""

    name: str
    inputs: Callable[[Run], Mapping[str, Any]]
    work: Callable[[Run], StageResult]
    writes: Callable[[Run], tuple[str, ...]]


def _dataset_inputs(run: Run) -> dict[str, Any]:
    if _given_dataset(run) is not None:
        return {"dataset": dataset_fingerprint(str(_given_dataset(run))), "looked_for": list(_tasks_to_look_for(run))}
    looked_for = list(_tasks_to_look_for(run))
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


def _dataset(run: Run) -> StageResult:
    given = _given_dataset(run)
    if given is not None:
        _look_for_tasks(run, given)
        rows = sum(1 for _ in read_records(given))
        return StageResult(
            location=_recorded(given, "dataset"),
            summary=f"{rows:,} rows given in {given}",
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
        return _mixed(folder, f"mixed of {len(data.datasets)} datasets", {})
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
    return StageResult("dataset", f"{rows:,} rows, {how}", fingerprint, {**details, "rows": rows})


def _build_settings(run: Run) -> BuildSettings:
    """The recipe's, with the run's own evaluation set looked for and its limit kept."""
    data, options = run.recipe.data, run.options
    limits = [limit for limit in (data.limit, options.limit) if limit is not None]
    against = (*data.against, *_tasks_to_look_for(run))
    return make_settings(data.build, limit=min(limits, default=None), against=against)


def _tasks_to_look_for(run: Run) -> tuple[str, ...]:
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
    against = (*run.recipe.data.against, *_tasks_to_look_for(run))
    found = list(find_leaks(read_records(dataset, split="train"), load_references(against)))
    if not found:
        return
    shown = ", ".join(f"{leak.row}: {leak.task}" for leak in found[:3])
    what = f"{len(found):,} rows of '{dataset}' hold a task of {', '.join(against)} ({shown})"
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


def _evaluation_inputs(run: Run) -> dict[str, Any]:
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


def _evaluation(run: Run) -> StageResult:
    given = run.options.evaluation
    if given is None:
        assert run.recipe.data.evaluation is not None
        settings = make_settings(run.recipe.data.build, limit=run.options.limit, fresh_answers=False)
        result = _build(run, (run.recipe.data.evaluation,), "evaluation", settings)
        return replace(result, summary=f"{result.details['rows']:,} evaluation tasks")
    rows = sum(1 for _ in read_records(given))
    return StageResult(
        location=_recorded(given, "dataset"),
        summary=f"{rows:,} evaluation tasks given in {given}",
        fingerprint=dataset_fingerprint(given),
        details={"rows": rows},
    )


def _base_inputs(run: Run) -> dict[str, Any]:
    inputs: dict[str, Any] = {"base": run.recipe.base.model_dump(mode="json")}
    if run.recipe.base.is_toy:
        inputs |= {"dataset": run.results["dataset"].fingerprint, "data.holdout": run.recipe.data.holdout}
        inputs |= {"data.holdout_seed": run.recipe.data.holdout_seed}
    return inputs


def _base(run: Run) -> StageResult:
    base = run.recipe.base
    if not base.is_toy:
        where = "a folder" if Path(base.model).is_dir() else "the Hub"
        location = str(Path(base.model).resolve()) if Path(base.model).is_dir() else base.model
        return StageResult(location=location, summary=f"{base.model} from {where}", details={"revision": base.revision})
    _make_toy_base(run)
    return StageResult(location="base", summary=f"made {base.model} on the spot", details={"revision": None})


def _make_toy_base(run: Run) -> None:
    """Pre-train on the plain text of the training rows: no prompt template, and none of the held-out conversations."""
    from kollm.train.data import split_heldout
    from kollm.train.toy import make_recipe_base

    records = read_records(str(run.location("dataset")))
    rows = split_heldout(records, run.recipe.data.holdout, run.recipe.data.holdout_seed).train
    make_recipe_base(run.recipe, rows, run.folder / "base")


def _adapter_inputs(run: Run) -> dict[str, Any]:
    values = run.recipe.model_dump(mode="json", include=set(TRAINED_KEYS) - {"base"})
    later = ("enable_thinking", "early_stopping")  # keys that the run folders of earlier versions do not name
    tokens = run.recipe.base.new_tokens
    return {
        **{key: value for key, value in values.items() if key not in later or value is not None},
        **({"base.new_tokens": file_sha256(require_file(Path(tokens), "The file of new tokens"))} if tokens else {}),
        "dataset": run.results["dataset"].fingerprint,
        "data.holdout": run.recipe.data.holdout,
        "data.holdout_seed": run.recipe.data.holdout_seed,
    }


def _adapter(run: Run) -> StageResult:
    recipe_file = run.folder / RECIPE
    write_sealed(recipe_file, _yaml(run.recipe))
    config, processes = _machine(run.options)
    dataset, base = str(run.location("dataset")), Path(run.location("base")) if run.recipe.base.is_toy else None
    output = run.folder / "adapter"
    check_launch(run.recipe, dataset, config=config, base=base, output=output)
    if _is_small(run, config, processes):
        from kollm.train.job import train_recipe

        train_recipe(load_recipe(str(recipe_file)), dataset, output, base=base)
    else:
        launch(launch_command(recipe_file, dataset, output, config=config, processes=processes, base=base))
    metrics = read_metrics_file(run.folder / "adapter" / "metrics.json")
    held = metrics["heldout"]
    loss = f"held-out loss {held['before']:.3f} -> {held['after']:.3f}" if held["rows"] else "no held-out rows"
    return StageResult(
        location="adapter",
        summary=f"{run.recipe.adapter.method} adapter, {loss}",
        fingerprint=file_sha256(run.folder / "adapter" / "training.json"),
        details={"heldout": held},
    )


def _is_small(run: Run, config: str, processes: int | None) -> bool:
    """Whether to train in this process, which has torch loaded already: a launcher and its child would load it twice more.

    A real base gets a process of its own, whose end for want of memory this one outlives and explains.
    """
    return run.recipe.base.is_toy and run.options.config is None and config == "cpu" and processes in (None, 1)


def _machine(options: RunOptions) -> tuple[str, int | None]:
    """The accelerate config and number of processes: what the user says, else what this machine has."""
    if options.config is not None:
        return options.config, options.processes
    import torch

    gpus = torch.cuda.device_count()
    if gpus == 0:
        return "cpu", options.processes
    return ("single_gpu", None) if gpus == 1 else ("ddp_4gpu", options.processes or gpus)


def _yaml(recipe: Recipe) -> str:
    import yaml

    return yaml.safe_dump(recipe.model_dump(mode="json"), allow_unicode=True, sort_keys=False)


def _answers_inputs(run: Run) -> dict[str, Any]:
    return {
        "generation": run.recipe.generation.model_dump(mode="json"),
        "adapter": run.results["adapter"].fingerprint,
        "evaluation": run.results["evaluation"].fingerprint,
        "limit": run.options.limit,
    }


def _answers(run: Run) -> StageResult:
    from kollm.answer.local import generate_answers, load_system

    recipe, output = run.recipe, run.folder / "generations.jsonl"
    records = list(read_records(str(run.location("evaluation"))))[: run.options.limit]
    base = str(run.location("base"))
    prompt = read_training_file(run.folder / "adapter" / "training.json")["prompt"]
    for name in recipe.generation.systems:
        system = load_system(
            str(run.folder / "adapter") if name == "adapter" else base,
            name=name,
            prompt=prompt,
            enable_thinking=recipe.enable_thinking,
            dtype=recipe.base.dtype,
            revision=None if name == "adapter" else recipe.base.revision,
        )
        # The names that a reader can look up, rather than paths of this machine.
        system = replace(system, model=recipe.base.model, adapter="adapter" if system.adapter else "")
        generate_answers(
            records,
            system,
            output,
            preset=recipe.generation.preset,
            max_new_tokens=recipe.generation.max_new_tokens,
            batch_size=recipe.generation.batch_size,
        )
    systems = len(recipe.generation.systems)
    return StageResult(
        location=output.name,
        summary=f"{len(records) * systems:,} answers of {systems} systems to {len(records):,} tasks",
        fingerprint=file_sha256(output),
    )


def _verdicts_inputs(run: Run) -> dict[str, Any]:
    return {"judge": run.recipe.judge.model_dump(mode="json"), "generations": run.results["answers"].fingerprint}


def _verdicts(run: Run) -> StageResult:
    from kollm.answer.file import read_generations
    from kollm.judge.run import judge_generations

    output = run.folder / "verdicts.jsonl"
    generations = list(read_generations(run.folder / "generations.jsonl"))
    report = judge_generations(generations, _judge(run), output)
    return StageResult(
        location=output.name,
        summary=f"{report.verdicts:,} verdicts of {report.model}, {report.statuses.get('ok', 0):,} scored",
        fingerprint=file_sha256(output),
        details={"statuses": report.statuses},
    )


def _judge(run: Run) -> Any:
    from kollm.judge.make import JudgeOptions, make_judge

    settings = run.recipe.judge
    if settings.engine == "local":
        from kollm.judge.local import LocalJudge

        where = settings.model or run.location("base")
        return LocalJudge(where, settings.rubric, name=None if settings.model else run.recipe.base.model)
    if settings.engine == "rules":
        return make_judge(settings.rubric, JudgeOptions("rules"))
    options = JudgeOptions(
        model=settings.model,
        mode=settings.mode,
        samples=settings.samples,
        base_url=settings.base_url,
        reply_tokens=settings.reply_tokens,
        reasoning_tokens=settings.reasoning_tokens,
        max_cost=run.options.max_cost,
    )
    return make_judge(settings.rubric, options)


def _report_inputs(run: Run) -> dict[str, Any]:
    return {"kollm": __version__, "verdicts": run.results["verdicts"].fingerprint}


def _report(run: Run) -> StageResult:
    from kollm.report import write_report

    write_report([run.folder], run.folder / "report.html")
    return StageResult(location="report.html", summary="report.html and report.json")


def _dataset_writes(run: Run) -> tuple[str, ...]:
    if _given_dataset(run):
        return ()
    data = run.recipe.data
    if data.datasets:
        return ("dataset", OWN_DATASETS)
    return (SOURCES, "dataset") if _is_weighted(data) else ("dataset",)


STAGES: tuple[Stage, ...] = (
    Stage("dataset", _dataset_inputs, _dataset, _dataset_writes),
    Stage("evaluation", _evaluation_inputs, _evaluation, lambda run: () if run.options.evaluation else ("evaluation",)),
    Stage("base", _base_inputs, _base, lambda run: ("base",) if run.recipe.base.is_toy else ()),
    Stage("adapter", _adapter_inputs, _adapter, lambda _: ("adapter",)),
    Stage("answers", _answers_inputs, _answers, lambda _: ("generations.jsonl",)),
    Stage("verdicts", _verdicts_inputs, _verdicts, lambda _: ("verdicts.jsonl",)),
    Stage("report", _report_inputs, _report, lambda _: ("report.html", "report.json", "report.md")),
)
"""The stages in order; `--restart` takes their names."""
