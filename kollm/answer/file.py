"""The file of answers, generations.jsonl: read, checked against how a system answers now, and written whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kollm.core.errors import StateError
from kollm.core.files import json_line, read_jsonl, write_atomic
from kollm.core.generations import Generation
from kollm.core.lock import output_lock


def read_generations(path: Path) -> Iterator[Generation]:
    """The Generations of a JSON Lines file.

    Raises:
        InputError: the file is missing, or a line is malformed.
    """
    return (Generation.from_row(row) for row in read_jsonl(path))


def check_same_way(path: Path, there: Generation, params: Mapping[str, Any], keys: Iterable[str]) -> None:
    """Refuse to put answers beside those that the same system gave in another way.

    Raises:
        StateError: one of the parameters `keys` differs.
    """
    for key in keys:
        if there.params.get(key) != params.get(key):
            raise StateError(
                f"{path} holds answers of '{there.system}' made with another {key} ({there.params.get(key)!r}, now "
                f"{params.get(key)!r}) - write to another file, name the system otherwise (--system), or remove that file."
            )


def write_generations(output: Path, system: str, answers: Iterable[Generation]) -> None:
    """Put a system's answers into the file; what it holds of other systems stays, and of other tasks too."""
    with output_lock(output):
        _write(output, system, answers)


def _write(output: Path, system: str, answers: Iterable[Generation]) -> None:
    there = list(read_generations(output)) if output.exists() else []
    own = {(row.id, row.sample): row for row in there if row.system == system}
    own |= {
        (row.id, row.sample): row for row in answers
    }  # in the place of an earlier answer to the task, else at the end
    rows = [*(row for row in there if row.system != system), *own.values()]
    write_atomic(output, "".join(json_line(row.to_row()) for row in rows))
