"""The stages of a run: dataset -> evaluation tasks -> base -> adapter -> answers -> verdicts -> report.

A stage names the inputs that decide its result, does its work inside the work folder, and returns a StageResult.
"""

from __future__ import annotations

from kollm.run.answers import answer_tasks, answers_inputs, judge_answers, make_report, report_inputs, verdicts_inputs
from kollm.run.data import dataset_inputs, dataset_writes, evaluation_inputs, make_dataset, make_evaluation
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
