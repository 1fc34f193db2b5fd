"""`kollm run`: dataset -> evaluation tasks -> base -> adapter -> answers -> verdicts -> report, in one work folder.

`run.json` holds, for every stage, the inputs it was made from and, once it is done, its result. Running again skips what
is done with the same inputs; another input stops the run, naming it, until `--restart STAGE` clears that stage and those
after it. Each stage resumes by itself from whatever a kill left of it.
"""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from kollm import __version__
from kollm.build import SourceInput, build_dataset
from kollm.dataset import dataset_fingerprint, read_records
from kollm.errors import InputError, RecipeError, StateError
from kollm.files import ensure_folder, file_sha256, read_json, write_atomic, write_json
from kollm.progress import say
from kollm.pull import locate
from kollm.recipe import TOY_PREFIX, Recipe, Source, ToyBase
from kollm.records import canonical_json
from kollm.train.launch import launch, launch_command


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


class Run(NamedTuple):
    """A recipe at work in a folder, with the results of the stages before."""

    recipe: Recipe
    options: RunOptions
    results: dict[str, dict[str, Any]]

    @property
    def folder(self) -> Path:
        return self.options.folder

    def location(self, stage: str) -> Path | str:
        """Where a stage's result is: a path inside the work folder, or the Hub id or folder that stands for it."""
        where = str(self.results[stage]["location"])
        inside = self.folder / where
        return inside if inside.exists() else where


class Stage(NamedTuple):
    """One step: the inputs that decide its result, the work, and the files to clear when it starts afresh."""

    name: str
    inputs: Callable[[Run], Mapping[str, Any]]
    work: Callable[[Run], dict[str, Any]]
    files: tuple[str, ...]


def run_recipe(recipe: Recipe, options: RunOptions, restart: str | None = None) -> dict[str, dict[str, Any]]:
    """Run every stage that is not done, and return the results by stage.

    Raises:
        StateError: the folder holds another run, or a changed input; the message names the key and both values.
        KollmError: whatever a stage raises; what was finished stays.
    """
    ensure_folder(options.folder)
    with _only_one(options.folder):
        journal = _open_journal(options.folder, recipe, restart)
        run = Run(recipe, options, {})
        for number, stage in enumerate(STAGES, start=1):
            inputs = _flat(stage.inputs(run))
            entry = journal["stages"].get(stage.name)
            if entry is not None:
                _require_same(stage.name, entry["inputs"], inputs, options.folder)
            label = f"[{number}/{len(STAGES)}] {stage.name}"
            if entry is not None and entry["status"] == "done":
                say(f"{label}: done before, skipped ({entry['result']['summary']})")
            else:
                say(f"{label}: {'resumes' if entry else 'starts'}")
                entry = _perform(stage, run, inputs, journal, entry or {})
                say(f"{label}: {entry['result']['summary']} ({entry['seconds']:.0f} s)")
            run.results[stage.name] = entry["result"]
        return run.results


def planned(options: RunOptions, restart: str | None = None) -> list[tuple[str, str]]:
    """Stage and state, `done` or `to do`, without doing or writing anything."""
    path = options.folder / "run.json"
    stages = read_json(path)["stages"] if path.is_file() else {}
    names = [stage.name for stage in STAGES]
    begin = names.index(restart) if restart else len(names)
    done = [stages.get(name, {}).get("status") == "done" and names.index(name) < begin for name in names]
    return [(name, "done" if is_done else "to do") for name, is_done in zip(names, done, strict=True)]


def _perform(
    stage: Stage, run: Run, inputs: dict[str, Any], journal: dict[str, Any], before: Mapping[str, Any]
) -> dict[str, Any]:
    spent = float(before.get("seconds", 0.0))
    entry: dict[str, Any] = {"status": "running", "inputs": inputs, "seconds": spent}
    journal["stages"][stage.name] = entry
    write_json(run.folder / "run.json", journal)
    started = time.monotonic()
    result = stage.work(run)
    entry.update(status="done", seconds=round(spent + time.monotonic() - started, 3), result=result)
    write_json(run.folder / "run.json", journal)
    return entry


def _open_journal(folder: Path, recipe: Recipe, restart: str | None) -> dict[str, Any]:
    path = folder / "run.json"
    journal: dict[str, Any] = read_json(path) if path.is_file() else {"stages": {}}
    if journal["stages"] and journal["recipe"]["name"] != recipe.name:
        raise StateError(
            f"'{folder}' holds a run of the recipe '{journal['recipe']['name']}', not of '{recipe.name}' - use another folder."
        )
    if restart is not None:
        _clear_from(folder, journal, restart)
    journal.update(kollm=__version__, recipe=recipe.model_dump(mode="json"), toy=recipe.base.is_toy)
    return journal


def _clear_from(folder: Path, journal: dict[str, Any], restart: str) -> None:
    names = [stage.name for stage in STAGES]
    if restart not in names:
        raise InputError(f"There is no stage '{restart}' - use one of {', '.join(names)}.")
    for stage in STAGES[names.index(restart) :]:
        journal["stages"].pop(stage.name, None)
    write_json(folder / "run.json", journal)  # forgotten before deleted: a kill in between loses no truth
    for stage in STAGES[names.index(restart) :]:
        for name in stage.files:
            for path in folder.glob(name):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()


def _require_same(stage: str, before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            raise StateError(
                f"'{folder}' was made with {key} = {before.get(key)!r}, now it is {now.get(key)!r} - use another folder, or "
                f"begin again from there: --restart {stage}."
            )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value if isinstance(value, str | int | float | None) else canonical_json(value)
    return flat


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the work folder: two runs at once would write the same files. The lock dies with its process."""
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StateError(
                f"Another `kollm run` is at work in '{folder}' - wait for it or use another folder."
            ) from error
        yield


# --- the stages -------------------------------------------------------------------------------------------------------


def _dataset_inputs(run: Run) -> dict[str, Any]:
    if _given_dataset(run) is not None:
        return {"dataset": dataset_fingerprint(str(_given_dataset(run)))}
    data = run.recipe.data.model_dump(mode="json", exclude={"evaluation", "holdout", "holdout_seed", "dataset"})
    return {"data": data, "files": _file_hashes(run.recipe.data.sources), "limit": run.options.limit}


def _given_dataset(run: Run) -> str | None:
    return run.options.dataset or run.recipe.data.dataset


def _file_hashes(sources: tuple[Source, ...]) -> dict[str, str]:
    paths = [Path(name) for source in sources for name in (source.input, source.memory) if name and name != "sample"]
    return {str(path): file_sha256(path) for path in paths if path.is_file()}


def _dataset(run: Run) -> dict[str, Any]:
    given = _given_dataset(run)
    if given is not None:
        rows = sum(1 for _ in read_records(given))
        return {
            "location": locate(given, "dataset").name,
            "fingerprint": dataset_fingerprint(given),
            "rows": rows,
            "summary": f"{rows:,} rows given in {given}",
        }
    return _build(run, run.recipe.data.sources, "dataset")


def _build(run: Run, sources: tuple[Source, ...], name: str) -> dict[str, Any]:
    data, options = run.recipe.data, run.options
    if not sources:
        raise RecipeError(
            f"Recipe {run.recipe.name}: data.sources is empty - name sources, or give a dataset with --dataset."
        )
    report = build_dataset(
        [SourceInput(s.name, s.input, s.revision, s.memory) for s in sources],
        translator=data.translator,
        translator_model=data.translator_model,
        output=run.folder / name,
        filters=data.filters,
        turns=data.turns,
        mode=data.mode,
        limit=options.limit,
        max_characters=options.max_characters,
        max_cost=options.max_cost,
    )
    kept, dropped = sum(report.rows.values()), sum(report.dropped.values())
    return {
        "location": name,
        "fingerprint": dataset_fingerprint(str(run.folder / name)),
        "rows": kept,
        "dropped": dict(report.dropped),
        "summary": f"{kept:,} Korean rows kept, {dropped:,} rejected",
    }


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


def _evaluation(run: Run) -> dict[str, Any]:
    given = run.options.evaluation
    if given is None:
        assert run.recipe.data.evaluation is not None
        result = _build(run, (run.recipe.data.evaluation,), "evaluation")
        return {**result, "summary": f"{result['rows']:,} evaluation tasks"}
    rows = sum(1 for _ in read_records(given))
    return {
        "location": locate(given, "dataset").name,
        "fingerprint": dataset_fingerprint(given),
        "rows": rows,
        "summary": f"{rows:,} evaluation tasks given in {given}",
    }


def _base_inputs(run: Run) -> dict[str, Any]:
    inputs: dict[str, Any] = {"base": run.recipe.base.model_dump(mode="json")}
    if run.recipe.base.is_toy:
        inputs |= {"dataset": run.results["dataset"]["fingerprint"], "data.holdout": run.recipe.data.holdout}
        inputs |= {"data.holdout_seed": run.recipe.data.holdout_seed}
    return inputs


def _base(run: Run) -> dict[str, Any]:
    base = run.recipe.base
    if not base.is_toy:
        return {"location": base.model, "revision": base.revision, "summary": f"{base.model} from the Hub"}
    _make_toy_base(run)
    return {"location": "base", "revision": None, "summary": f"made {base.model} on the spot"}


def _make_toy_base(run: Run) -> None:
    """Pre-train on the plain text of the training rows: no prompt template, and none of the held-out conversations."""
    from kollm.judge import load_rubric
    from kollm.prompts import PromptTemplate
    from kollm.train.data import split_heldout
    from kollm.train.toy import answer_texts, make_base, plain_texts

    recipe = run.recipe
    records = read_records(str(run.location("dataset")))
    rows = split_heldout(records, recipe.data.holdout, recipe.data.holdout_seed).train
    wording = [load_rubric(recipe.judge.rubric).prompt("", "", ""), PromptTemplate.load(recipe.prompt).prompt("", " ")]
    architecture = recipe.base.model.removeprefix(TOY_PREFIX)
    make_base(
        architecture,
        recipe.base.toy or ToyBase(),
        plain_texts(rows),
        run.folder / "base",
        vocabulary_texts=[*wording, *answer_texts(rows)],
    )


def _adapter_inputs(run: Run) -> dict[str, Any]:
    keys = ("adapter", "quantization", "trainer", "prompt", "global_batch_size", "loss", "attention")
    values = run.recipe.model_dump(mode="json")
    return {
        **{key: values[key] for key in keys},
        "dataset": run.results["dataset"]["fingerprint"],
        "data.holdout": run.recipe.data.holdout,
        "data.holdout_seed": run.recipe.data.holdout_seed,
    }


def _adapter(run: Run) -> dict[str, Any]:
    recipe_file = run.folder / "recipe.yaml"
    write_atomic(recipe_file, _yaml(run.recipe))
    config, processes = _machine(run.options)
    launch(
        launch_command(
            recipe_file,
            str(run.location("dataset")),
            run.folder / "adapter",
            config=config,
            processes=processes,
            base=Path(run.location("base")) if run.recipe.base.is_toy else None,
        )
    )
    metrics = read_json(run.folder / "adapter" / "metrics.json")
    held = metrics["heldout"]
    loss = f"held-out loss {held['before']:.3f} -> {held['after']:.3f}" if held["rows"] else "no held-out rows"
    return {
        "location": "adapter",
        "fingerprint": file_sha256(run.folder / "adapter" / "training.json"),
        "heldout": held,
        "summary": f"{run.recipe.adapter.method} adapter, {loss}",
    }


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
        "adapter": run.results["adapter"]["fingerprint"],
        "evaluation": run.results["evaluation"]["fingerprint"],
        "limit": run.options.limit,
    }


def _answers(run: Run) -> dict[str, Any]:
    from kollm.generate import generate_answers, load_system

    recipe, output = run.recipe, run.folder / "generations.jsonl"
    records = list(read_records(str(run.location("evaluation"))))[: run.options.limit]
    base = str(run.location("base"))
    for name in recipe.generation.systems:
        system = load_system(
            str(run.folder / "adapter") if name == "adapter" else base,
            name=name,
            base=base if name == "adapter" else None,
            prompt=recipe.prompt,
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
    return {
        "location": output.name,
        "fingerprint": file_sha256(output),
        "summary": f"{len(records) * systems:,} answers of {systems} systems to {len(records):,} tasks",
    }


def _verdicts_inputs(run: Run) -> dict[str, Any]:
    return {"judge": run.recipe.judge.model_dump(mode="json"), "generations": run.results["answers"]["fingerprint"]}


def _verdicts(run: Run) -> dict[str, Any]:
    from kollm.generate import read_generations
    from kollm.judge.run import judge_generations

    output = run.folder / "verdicts.jsonl"
    generations = list(read_generations(run.folder / "generations.jsonl"))
    report = judge_generations(generations, _judge(run), output)
    return {
        "location": output.name,
        "fingerprint": file_sha256(output),
        "statuses": report.statuses,
        "summary": f"{report.verdicts:,} verdicts of {report.model}, {report.statuses.get('ok', 0):,} scored",
    }


def _judge(run: Run) -> Any:
    from kollm.judge.make import make_judge

    settings = run.recipe.judge
    if settings.engine == "local":
        from kollm.judge.local import LocalJudge

        where = settings.model or run.location("base")
        return LocalJudge(where, settings.rubric, name=settings.model or run.recipe.base.model)
    return make_judge(
        "openai",
        settings.rubric,
        model=settings.model,
        mode=settings.mode,
        samples=settings.samples,
        base_url=settings.base_url,
        max_cost=run.options.max_cost,
    )


def _report_inputs(run: Run) -> dict[str, Any]:
    return {"kollm": __version__, "verdicts": run.results["verdicts"]["fingerprint"]}


def _report(run: Run) -> dict[str, Any]:
    from kollm.report import write_report

    write_report([run.folder], run.folder / "report.html")
    return {"location": "report.html", "summary": "report.html and report.json"}


STAGES: tuple[Stage, ...] = (
    Stage("dataset", _dataset_inputs, _dataset, ("dataset",)),
    Stage("evaluation", _evaluation_inputs, _evaluation, ("evaluation",)),
    Stage("base", _base_inputs, _base, ("base",)),
    Stage("adapter", _adapter_inputs, _adapter, ("adapter",)),
    Stage("answers", _answers_inputs, _answers, ("generations.jsonl*",)),
    Stage("verdicts", _verdicts_inputs, _verdicts, ("verdicts.jsonl*",)),
    Stage("report", _report_inputs, _report, ("report.html", "report.json")),
)
"""The stages in order; `--restart` takes their names."""
