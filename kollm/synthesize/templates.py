"""Rows of annotated data put into a task's phrasings: any file, its columns mapped to the task's fields."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kollm.core.errors import InputError
from kollm.core.records import Provenance, Record
from kollm.recipe.task import Task
from kollm.synthesize.made import Made

SOURCE = "templates"


@dataclass(frozen=True, slots=True)
class Filling:
    """How rows go into a task's fields.

    Attributes:
        columns: field of the task -> column of the rows, where the two have different names.
        constants: field of the task -> one text for all rows, e.g. the labels to choose from.
        phrasings: phrasings a row, the second under the row's id and `-p2`, and so on.
        seed: decides which phrasings.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    phrasings: int = 1
    seed: int = 0


def fill_templates(
    rows: Iterable[Mapping[str, Any]],
    task: Task,
    filling: Filling | None = None,
    *,
    licence: str,
) -> Made:
    """Records of the rows.

    Args:
        rows: annotated rows.
        task: the task whose phrasings are used.
        filling: which columns go into which fields, and how many phrasings a row gets.
        licence: SPDX identifier of the rows' licence.

    Raises:
        InputError: a field that the task does not have.
    """
    filling = filling or Filling()
    named = {*filling.columns, *filling.constants}
    if unknown := sorted(named - set(task.fields)):
        raise InputError(
            f"The task '{task.name}' has no field '{unknown[0]}' - its fields are {', '.join(task.fields)}."
        )
    records, dropped = [], Counter[str]()
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            dropped["not_an_object"] += 1
            continue
        picked = {name: row.get(filling.columns.get(name, name)) for name in task.fields}
        values = {name: str(value) for name, value in picked.items() if isinstance(value, str | int | float)}
        key = str(row.get("id", index))
        rendered = task.render({**values, **filling.constants}, key, seed=filling.seed, count=filling.phrasings)
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
