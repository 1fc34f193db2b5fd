"""The last stages of a run: what each system answers, what the judge says of it, and the report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kollm.core.files import file_sha256
from kollm.core.results import read_training_file
from kollm.core.version import __version__
from kollm.dataset.folder import read_records
from kollm.run.stage import Run, StageResult


def answers_inputs(run: Run) -> dict[str, Any]:
    return {
        "generation": run.recipe.generation.model_dump(mode="json"),
        "adapter": run.results["adapter"].fingerprint,
        "evaluation": run.results["evaluation"].fingerprint,
        "limit": run.options.limit,
    }


def answer_tasks(run: Run) -> StageResult:
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


def verdicts_inputs(run: Run) -> dict[str, Any]:
    return {"judge": run.recipe.judge.model_dump(mode="json"), "generations": run.results["answers"].fingerprint}


def judge_answers(run: Run) -> StageResult:
    from kollm.answer.file import read_generations
    from kollm.judge.run import judge_generations

    output = run.folder / "verdicts.jsonl"
    generations = list(read_generations(run.folder / "generations.jsonl"))
    report = judge_generations(generations, judge_of(run), output)
    return StageResult(
        location=output.name,
        summary=f"{report.verdicts:,} verdicts of {report.model}, {report.statuses.get('ok', 0):,} scored",
        fingerprint=file_sha256(output),
        details={"statuses": report.statuses},
    )


def judge_of(run: Run) -> Any:
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


def report_inputs(run: Run) -> dict[str, Any]:
    return {"kollm": __version__, "verdicts": run.results["verdicts"].fingerprint}


def make_report(run: Run) -> StageResult:
    from kollm.report import write_report

    write_report([run.folder], run.folder / "report.html")
    return StageResult(location="report.html", summary="report.html and report.json")
