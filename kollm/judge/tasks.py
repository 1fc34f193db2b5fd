"""The answers to judge, and what their tasks bring beside them: references, categories, clusters, checklists and rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kollm.core.columns import check_shown
from kollm.core.counting import counted
from kollm.core.errors import InputError
from kollm.core.files import read_jsonl
from kollm.core.generations import Generation
from kollm.core.progress import track

KEYS = ("reference", "category", "cluster", "checklist", "rules", "system_message", "history", "tools")


def read_answers(path: Path) -> Iterator[Generation]:
    """The answers of a generations.jsonl, every row checked.

    Raises:
        InputError: the file is missing, or a row is malformed or has a name that no table can show.
    """
    for number, row in enumerate(track(read_jsonl(path), f"read {path.name}"), start=1):
        where = f"{path}, row {number}"
        try:
            answer = Generation.from_row(row)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        check_shown(where, answer.id, answer.system)
        yield answer


def with_tasks(answers: Sequence[Generation], path: Path) -> list[Generation]:
    """Answers with what a file says of their tasks: one JSON object a line, `id` and any of KEYS.

    Raises:
        InputError: the file is missing or malformed, a key is unknown, or no task of the file is answered.
    """
    tasks: dict[str, Mapping[str, Any]] = {}
    for number, row in enumerate(read_jsonl(path), start=1):
        where = f"{path}, row {number}"
        if not isinstance(row.get("id"), str):
            raise InputError(f"{where}: id is {row.get('id')!r} - each task has a text as its id.")
        if unknown := sorted(row.keys() - {"id", *KEYS}):
            raise InputError(f"{where}: unknown key '{unknown[0]}' - a task has id and any of {', '.join(KEYS)}.")
        tasks[row["id"]] = {key: value for key, value in row.items() if key != "id" and value is not None}
    found = [_with(answer, tasks[answer.id], path) if answer.id in tasks else answer for answer in answers]
    if not any(answer.id in tasks for answer in answers):
        raise InputError(
            f"None of the {counted(len(tasks), 'task')} in {path} is answered - check that the ids are the same."
        )
    return found


def _with(answer: Generation, task: Mapping[str, Any], path: Path) -> Generation:
    try:
        checked = Generation.from_row({**answer.to_row(), **task})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return replace(checked, params=answer.params)
