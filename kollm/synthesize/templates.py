"""Rows of annotated data put into a task's phrasings: any file, its columns mapped to the task's fields."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from kollm.core.errors import InputError
from kollm.core.records import Provenance, Record
from kollm.recipe.task import Task
from kollm.synthesize.made import Made

SOURCE = "templates"


def fill_templates(
    rows: Iterable[Mapping[str, Any]],
    task: Task,
    *,
    columns: Mapping[str, str] | None = None,
    constants: Mapping[str, str] | None = None,
    phrasings: int = 1,
    seed: int = 0,
    licence: str,
) -> Made:
    """Records of the rows.

    Args:
        rows: annotated rows.
        task: the task whose phrasings are used.
        columns: field of the task -> column of the rows, where the two have different names.
        constants: field of the task -> one text for all rows, e.g. the labels to choose from.
        phrasings: phrasings a row, the second under the row's id and `-p2`, and so on.
        seed: decides which phrasings.
        licence: SPDX identifier of the rows' licence.

    Raises:
        InputError: a field that the task does not have.
    """
    named = {*(columns or {}), *(constants or {})}
    if unknown := sorted(named - set(task.fields)):
        raise InputError(
            f"The task '{task.name}' has no field '{unknown[0]}' - its fields are {', '.join(task.fields)}."
        )
    records, dropped = [], Counter[str]()
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            dropped["not_an_object"] += 1
            continue
        picked = {field: row.get((columns or {}).get(field, field)) for field in task.fields}
        values = {field: str(value) for field, value in picked.items() if isinstance(value, str | int | float)}
        key = str(row.get("id", index))
        rendered = task.render({**values, **(constants or {})}, key, seed=seed, count=phrasings)
        dropped["field_missing"] += not rendered
        for place, (instruction, input, output, _) in enumerate(rendered, start=1):
            records.append(
                Record(
                    id=f"{task.name}-{key}" + (f"-p{place}" if place > 1 else ""),
                    source=SOURCE,
                    instruction=instruction,
                    input=input,
                    output=output,
                    lang=task.lang,
                    licence=licence,
                    provenance=Provenance(index=index, category=task.name),
                )
            )
    return Made(records, +dropped)
