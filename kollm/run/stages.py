"""The stages of a run: dataset -> evaluation tasks -> base -> adapter -> answers -> verdicts -> report; and with preferences,
after the adapter: samples -> their verdicts -> pairs -> another adapter.

A stage names the inputs that decide its result, does its work inside the work folder, and returns a StageResult.
"""

from __future__ import annotations

from kollm.dataset.pairs.given import SAMPLES
from kollm.recipe.schema import Recipe
from kollm.run.answers import (
    PREFERRED,
    answer_tasks,
    answers_inputs,
    compare_steps,
    compared_inputs,
    judge_answers,
    make_report,
    report_inputs,
    verdicts_inputs,
)
from kollm.run.data import dataset_inputs, dataset_writes, evaluation_inputs, make_dataset, make_evaluation
from kollm.run.preferences import (
    PAIRS,
    draw_samples,
    judge_samples,
    pair_samples,
    pairs_inputs,
    preferred_inputs,
    sample_verdicts_inputs,
    samples_inputs,
    train_preferred,
)
from kollm.run.stage import Stage
from kollm.run.training import adapter_inputs, base_inputs, find_base, train_adapter

STAGES: tuple[Stage, ...] = (
    Stage("dataset", dataset_inputs, make_dataset, dataset_writes),
    Stage(
        "evaluation", evaluation_inputs, make_evaluation, lambda run: () if run.options.evaluation else ("evaluation",)
    ),
    Stage("base", base_inputs, find_base, lambda run: ("base",) if run.recipe.base.is_toy else ()),
    Stage("adapter", adapter_inputs, train_adapter, lambda _: ("adapter",)),
    Stage("answers", answers_inputs, answer_tasks, lambda _: ("generations.jsonl",)),
    Stage("verdicts", verdicts_inputs, judge_answers, lambda _: ("verdicts.jsonl",)),
    Stage("report", report_inputs, make_report, lambda _: ("report.html", "report.json", "report.md")),
)
"""The stages in order; `--restart` takes their names."""
PREFERENCE_STAGES: tuple[Stage, ...] = (
    Stage("samples", samples_inputs, draw_samples, lambda _: (f"{SAMPLES}/generations.jsonl",)),
    Stage("sample_verdicts", sample_verdicts_inputs, judge_samples, lambda _: (f"{SAMPLES}/verdicts.jsonl",)),
    Stage("pairs", pairs_inputs, pair_samples, lambda _: (PAIRS,)),
    Stage("preferred", preferred_inputs, train_preferred, lambda _: (PREFERRED,)),
)
"""After the adapter, where the recipe has the section `preference`."""
COMPARED = Stage("compared", compared_inputs, compare_steps, lambda _: ("pairs.jsonl",))
"""Before the report, where a service judges and there is a second training to compare."""


def stages_of(recipe: Recipe) -> tuple[Stage, ...]:
    """The stages of a run of this recipe, in order."""
    if recipe.preference is None:
        return STAGES
    place = next(number for number, stage in enumerate(STAGES) if stage.name == "answers")
    compared = (COMPARED,) if recipe.judge.engine == "openai" and "adapter" in recipe.generation.systems else ()
    return (*STAGES[:place], *PREFERENCE_STAGES, *STAGES[place:-1], *compared, STAGES[-1])
