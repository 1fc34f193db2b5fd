"""P3 and FLAN: existing data sets put into prompts by templates; a row is a prompt and its target."""

from __future__ import annotations

from kollm.sources.sample import origin
from kollm.sources.source import Adapted, Columns, Place, Row, Source, adapt_single

P3_COLUMNS = Columns("inputs_pretokenized", "choices", "targets_pretokenized")
FLAN_COLUMNS = Columns("inputs", "input", "targets")


def adapt(row: Row, place: Place) -> Adapted:
    """One Record of P3: input -> instruction, target -> output, the answer choices -> input where the prompt hides them.

    Rows that spell out a wrong option, which T0's evaluation scores by likelihood, are no training data: rejected.
    """
    if row.get("is_correct") is False:
        return place.reject(row, "wrong_answer_option")
    offered = row.get("answer_choices")
    choices = [text for item in offered if (text := str(item).strip())] if isinstance(offered, list) else []
    prompt, target = row.get("inputs_pretokenized"), row.get("targets_pretokenized")
    flat = {"inputs_pretokenized": prompt, "targets_pretokenized": target, "choices": ""}
    if isinstance(prompt, str) and isinstance(target, str):
        flat["targets_pretokenized"] = target.strip()
        if not all(choice.lower() in prompt.lower() for choice in choices):
            flat["choices"] = "\n".join(f"- {choice}" for choice in choices)
    adapted = adapt_single(flat, place, P3_COLUMNS, own_id=origin(row), category=_task(row))
    if choices and adapted.records and adapted.records[0].output not in choices:
        return adapted._replace(notes=(*adapted.notes, "target_is_no_answer_choice"))
    return adapted


def adapt_flan(row: Row, place: Place) -> Adapted:
    """One Record of FLAN: input -> instruction, target -> output; the category is its task."""
    category = row.get("_task_name") or row.get("task") or ""
    return adapt_single(row, place, FLAN_COLUMNS, own_id=origin(row), category=str(category))


def _task(row: Row) -> str:
    """The prompt's name, which in P3 is the folder that the file lies in."""
    return (origin(row) or "").split("/")[0]


P3 = Source(
    name="p3",
    title="P3, the Public Pool of Prompts",
    licence="Apache-2.0",
    adapt=adapt,
    hub_id="bigscience/P3",
    revision="refs/convert/parquet",
    hub_files="*/train/*.parquet",
    huge=True,
    terms="The data sets behind the prompts keep their own licences.",
)
FLAN = Source(
    name="flan",
    title="FLAN",
    licence="CC-BY-4.0",
    adapt=adapt_flan,
    hub_id="Open-Orca/FLAN",
    revision="d9780ed11727427965dd123838a19dd725fca11e",
    hub_files="default/train/*.parquet",
    huge=True,
    terms="The data sets behind the templates keep their own licences.",
)
