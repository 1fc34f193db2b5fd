"""Natural Instructions, both versions: a task is an instruction in several parts, and its instances."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kollm.core.errors import InputError
from kollm.core.files import read_object
from kollm.sources.rows import local_rows
from kollm.sources.sample import origin
from kollm.sources.source import Adapted, Place, Row, Source, adapt_single

_PARTS = ("Title", "Definition", "Things to Avoid", "Emphasis & Caution", "Prompt")
"""The parts of an instruction of the first version, in the order of its paper (arXiv 2104.08773, Figure 2); the sixth
and seventh are positive and negative examples."""
EXAMPLES = 2
"""Examples of each kind that go into an instruction; the data has up to about ten, which would be most of the text."""


def read(path: Path) -> Iterator[Row]:
    """Yield the instances of a task file, one a row, each with its task's instruction; other files as they are.

    Raises:
        InputError: a JSON file that is no task file of either version.
    """
    if path.suffix != ".json":
        yield from local_rows(path)
        return
    task = read_object(path)
    if not isinstance(task.get("Instances"), list):
        raise InputError(f"'{path}' is no task file: it has no list 'Instances' - name a file of Natural Instructions.")
    instruction = _instruction(task)
    for number, instance in enumerate(task["Instances"]):
        row = instance if isinstance(instance, dict) else {"instance": instance}
        own_id = row.get("id") or f"{path.stem}-{number}"
        yield {**row, "id": own_id, "task_name": path.stem, "instruction": instruction}


def adapt(row: Row, place: Place) -> Adapted:
    """One Record an instance of a task file; of several accepted outputs, the first."""
    flat = {**row, "output": _first(row.get("output"))}
    return adapt_single(flat, place, category=str(row.get("task_name", "")))


def adapt_super(row: Row, place: Place) -> Adapted:
    """One Record of the flat form on the Hub (`task_name, id, definition, inputs, targets`), or of a task file."""
    if "instruction" in row:
        return adapt(row, place)
    flat = {"instruction": row.get("definition"), "input": row.get("inputs"), "output": row.get("targets")}
    name = origin(row) or place.own_id(row)
    return adapt_single(flat, place, own_id=name, category=str(row.get("task_name", "")))


def _instruction(task: Mapping[str, Any]) -> str:
    """The parts that are there, each under its name; the second version has a definition alone, without a heading."""
    if "Title" not in task:
        return _given(_first(task.get("Definition")))
    parts = [f"{name}: {text}" for name in _PARTS if (text := _given(task.get(name)))]
    examples = task.get("Examples")
    for kind in ("Positive", "Negative"):
        listed = examples.get(f"{kind} Examples") if isinstance(examples, dict) else None
        shown = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
        for number, item in enumerate(shown[:EXAMPLES], start=1):
            parts.append(f"{kind} Example {number}\n{_example(item)}")
    return "\n\n".join(parts)


def _example(item: Mapping[str, Any]) -> str:
    names = ("input", "output", "reason", "suggestion")
    return "\n".join(f"{name.capitalize()}: {text}" for name in names if (text := _given(_first(item.get(name)))))


def _given(value: object) -> str:
    """Text of a part; the files write `-` for one that a task does not have."""
    text = value.strip() if isinstance(value, str) else ""
    return "" if text == "-" else text


def _first(value: object) -> Any:
    return value[0] if isinstance(value, list) and value else value


NATURAL_INSTRUCTIONS = Source(
    name="natural_instructions",
    title="Natural Instructions",
    licence="LicenseRef-task-licences",
    adapt=adapt,
    hub_id="",
    revision="",
    read=read,
    huge=True,
    terms="Each of the 61 tasks is under the licence of the data set it was made from. Get the task files from the "
    "project's page and name their folder with --input.",
)
SUPER_NATURAL_INSTRUCTIONS = Source(
    name="super_natural_instructions",
    title="Super-NaturalInstructions",
    licence="LicenseRef-task-licences",
    adapt=adapt_super,
    hub_id="Muennighoff/natural-instructions",
    revision="a29a9757125f4bb1c26445ad0d2ef7d9b2cc9c4c",
    hub_files="train/*.jsonl",
    read=read,
    huge=True,
    terms="The collection is Apache-2.0; each task's instances are under the licence of the data set they come from.",
)
