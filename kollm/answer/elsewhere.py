"""Answers that were made elsewhere, in whatever file: read by the same forms as rows of a user's own."""

from __future__ import annotations

import itertools
from pathlib import Path

from kollm.core.columns import check_shown
from kollm.core.errors import InputError
from kollm.core.files import require_file
from kollm.core.generations import Generation
from kollm.core.progress import say
from kollm.core.records import Record
from kollm.sources.own import OwnOptions, read_own
from kollm.sources.own.places import find_files
from kollm.sources.own.reading import read_rows
from kollm.sources.own.source import unique

_OURS = {"id", "instruction", "input", "response", "model", "adapter", "params", "finish_reason", "system"}


def is_generations(path: Path) -> bool:
    """Whether a file is one that `kollm generate` writes, or wrote with a fault that its reader names."""
    require_file(path, "The file of answers")
    if path.suffix != ".jsonl":
        return False
    (file,) = find_files(path).files
    try:
        first = next(itertools.islice(read_rows(file, lambda _: None), 1), None)
    except InputError:
        return True  # its reader says what is wrong
    return first is None or not isinstance(first.row, dict) or len(_OURS & first.row.keys()) > len(_OURS) // 2


def read_answers(path: Path, mapping: tuple[str, ...] = ()) -> list[Generation]:
    """The answers of a file, each with its question; said in one line.

    Args:
        path: any file of rows that `sources/own` reads.
        mapping: `FIELD=COLUMN` options; the field `response` is the answer, and `system` names what answered.

    Raises:
        InputError: the file cannot be read, no form fits, or no row has an answer.
    """
    fields = dict(option.partition("=")[::2] for option in mapping)
    answered_by = fields.pop("system", None)
    if "response" in fields:
        fields["output"] = fields.pop("response")
    own = read_own(path, OwnOptions(mapping=tuple(f"{name}={column}" for name, column in fields.items())))
    names = _systems(path, answered_by) if answered_by is not None else {}
    records = [row for row in own.records() if isinstance(row, Record)]
    say(own.summary())
    if not records:
        raise InputError(
            f"None of the rows of '{path}' has a question and an answer - say which columns hold them with --map."
        )
    by_id = {record.id: record.provenance.index for record in records}
    answers = []
    for record, named in zip(records, unique(records), strict=True):
        system = names.get(by_id[record.id], "") or path.stem
        check_shown(str(path), named.id, system)
        answers.append(
            Generation(
                named.id.removeprefix("own-"),
                record.instruction,
                record.input,
                record.output,
                system,
                "",
                {},
                "stop",
                system,
                system_message=record.system,
                history=record.history,
                tools=record.tools,
            )
        )
    return answers


def _systems(path: Path, column: str) -> dict[int, str]:
    """Place of each row -> what answered it."""
    (file,) = find_files(path).files
    names = {}
    for index, located in enumerate(read_rows(file, lambda _: None)):
        value = located.row.get(column) if isinstance(located.row, dict) else None
        if index == 0 and isinstance(located.row, dict) and column not in located.row:
            raise InputError(
                f"--map system={column}: '{path}' has no column '{column}' - it has {', '.join(located.row)}."
            )
        names[index] = str(value).strip() if value is not None else ""
    return names
