"""The last stages of a run: what each system answers, what the judge says of it, and the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kollm.answer.presets import Decoding
from kollm.core.counting import counted
from kollm.core.files import file_sha256
from kollm.core.records import Record
from kollm.core.results import read_training_file
from kollm.core.version import __version__
from kollm.dataset.folder import read_records
from kollm.recipe.schema import Judge, Recipe
from kollm.run.stage import Run, StageResult

PREFERRED = "preferred"
"""Folder of the adapter that was trained on preferences."""


def systems_of(recipe: Recipe) -> tuple[str, ...]:
    """The systems that answer the evaluation tasks; what was trained on preferences is called by its method."""
    step = recipe.preference
    return (*recipe.generation.systems, *((step.method,) if step is not None else ()))


def answers_inputs(run: Run) -> dict[str, Any]:
    preferred = run.results.get("preferred")
    return {
        "generation": run.recipe.generation.model_dump(mode="json"),
        "adapter": run.results["adapter"].fingerprint,
        **({"preferred": preferred.fingerprint} if preferred is not None else {}),
        "evaluation": run.results["evaluation"].fingerprint,
        "limit": run.options.limit,
    }


def answer_tasks(run: Run) -> StageResult:
    output = run.folder / "generations.jsonl"
    records = list(read_records(str(run.location("evaluation"))))[: run.options.limit]
    systems = systems_of(run.recipe)
    settings = run.recipe.generation
    for name in systems:
        answer(run, name, records, output, Decoding(settings.preset, settings.max_new_tokens))
    return StageResult(
        location=output.name,
        summary=f"{counted(len(records) * len(systems), 'answer')} of {counted(len(systems), 'system')} to {counted(len(records), 'task')}",
        fingerprint=file_sha256(output),
    )


def answer(run: Run, name: str, records: Sequence[Record], output: Path, how: Decoding) -> None:
    """Let one system of the run answer records into a file."""
    from kollm.answer.local import Loading, generate_answers, load_system

    recipe = run.recipe
    folder = {"base": None, "adapter": "adapter"}.get(name, PREFERRED)
    system = load_system(
        str(run.location("base") if folder is None else run.folder / folder),
        name=name,
        prompt=read_training_file(run.folder / "adapter" / "training.json")["prompt"],
        enable_thinking=recipe.enable_thinking,
        loading=Loading(recipe.base.dtype, revision=recipe.base.revision if folder is None else None),
    )
    # The names that a reader can look up, rather than paths of this machine.
    system = replace(system, model=recipe.base.model, adapter=folder if folder and system.adapter else "")
    generate_answers(records, system, output, how, batch_size=recipe.generation.batch_size)


def verdicts_inputs(run: Run) -> dict[str, Any]:
    return {"judge": run.recipe.judge.model_dump(mode="json"), "generations": run.results["answers"].fingerprint}


def judge_answers(run: Run) -> StageResult:
    return judge_file(run, run.folder / "generations.jsonl", run.recipe.judge)


def judge_file(run: Run, answers: Path, settings: Judge) -> StageResult:
    """Judge a file of answers into verdicts.jsonl beside it."""
    from kollm.answer.file import read_generations
    from kollm.judge.run import judge_generations

    output = answers.with_name("verdicts.jsonl")
    report = judge_generations(list(read_generations(answers)), judge_of(run, settings), output)
    return StageResult(
        location=output.relative_to(run.folder).as_posix(),
        summary=f"{counted(report.verdicts, 'verdict')} of {report.model or report.mode}, {report.statuses.get('ok', 0):,} scored",
        fingerprint=file_sha256(output),
        details={"statuses": report.statuses},
    )


def judge_of(run: Run, settings: Judge) -> Any:
    from kollm.judge.make import JudgeOptions, make_judge

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


def compared_inputs(run: Run) -> dict[str, Any]:
    return {"judge": run.recipe.judge.model_dump(mode="json"), "generations": run.results["answers"].fingerprint}


def compare_steps(run: Run) -> StageResult:
    """Let the judge see the answers of the adapter and of what was trained on preferences beside each other, in both orders."""
    from kollm.answer.file import read_generations
    from kollm.judge.make import JudgeOptions
    from kollm.judge.pairwise import judge_pairs
    from kollm.judge.served import ReplyBudget

    settings, step = run.recipe.judge, run.recipe.preference
    assert step is not None
    generations = list(read_generations(run.folder / "generations.jsonl"))
    sides = [[answer for answer in generations if answer.system == name] for name in (step.method, "adapter")]
    client = JudgeOptions(model=settings.model, base_url=settings.base_url, max_cost=run.options.max_cost).client()
    output = run.folder / "pairs.jsonl"
    budget = ReplyBudget(None, settings.reasoning_tokens)
    found = judge_pairs(sides[0], sides[1], client, output, budget=budget).summary
    rate = "none decided" if found.win_rate is None else f"{step.method} wins {found.win_rate:.1%} against adapter"
    return StageResult(output.name, f"{counted(found.n, 'pair')} judged in both orders, {rate}", file_sha256(output))


def report_inputs(run: Run) -> dict[str, Any]:
    compared = run.results.get("compared")
    beside = {"compared": compared.fingerprint} if compared is not None else {}
    return {"kollm": __version__, "verdicts": run.results["verdicts"].fingerprint, **beside}


def make_report(run: Run) -> StageResult:
    from kollm.report import write_report

    write_report([run.folder], run.folder / "report.html")
    return StageResult(location="report.html", summary="report.html and report.json")
