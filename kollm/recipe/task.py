"""Task templates: annotated data as instructions, several phrasings a task, as FLAN, P3 and komt do it.

A task is a YAML file, `templates/tasks/NAME.yaml` or one of yours: the fields that an annotated row has, and phrasings
that turn them into instruction, input and output. Which phrasing a row gets is decided by a hash of seed, task and the
row's id, so that it is the same on every machine and does not depend on the rows around it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from kollm.core.errors import InputError
from kollm.core.files import read_yaml
from kollm.core.hashing import text_sha256
from kollm.core.reading import as_object, validated
from kollm.core.resources import resource_folder

_FIELD = re.compile(r"\{(\w+)\}")


class Rendered(NamedTuple):
    """An annotated row as an instruction; `phrasing` is the number of the phrasing, from 1."""

    instruction: str
    input: str
    output: str
    phrasing: int


class Phrasing(BaseModel):
    """One way to put a task: three texts with `{field}` where the row's text goes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    instruction: str = Field(min_length=1)
    input: str = ""
    output: str = Field(min_length=1)

    @property
    def fields(self) -> frozenset[str]:
        """Names of the fields that it needs."""
        return frozenset(_FIELD.findall(f"{self.instruction} {self.input} {self.output}"))

    def render(self, values: Mapping[str, str], number: int) -> Rendered:
        """The three texts with the row's values; braces inside a value stay as they are."""
        instruction, input, output = (
            _FIELD.sub(lambda match: values[match[1]], text) for text in (self.instruction, self.input, self.output)
        )
        return Rendered(instruction, input, output, number)


class Task(BaseModel):
    """A task and its phrasings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    lang: str = "ko"
    phrasings: tuple[Phrasing, ...] = Field(min_length=1)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of all fields that a phrasing uses, sorted."""
        return tuple(sorted(frozenset().union(*(phrasing.fields for phrasing in self.phrasings))))

    def render(self, values: Mapping[str, str], key: str, *, seed: int = 0, count: int = 1) -> list[Rendered]:
        """The row in up to `count` phrasings, without repetition.

        Args:
            values: field -> text. A phrasing that needs a field which is missing or blank is not chosen.
            key: the row's id.
            seed: another seed gives another choice.
            count: phrasings a row.

        Returns:
            None of them where no phrasing has all its fields.
        """
        there = {name for name, text in values.items() if text.strip()}
        fitting = [number for number, phrasing in enumerate(self.phrasings, start=1) if phrasing.fields <= there]
        fitting.sort(key=lambda number: text_sha256(f"{seed}\n{self.name}\n{key}\n{number}"))
        return [self.phrasings[number - 1].render(values, number) for number in fitting[:count]]


def task_names() -> list[str]:
    """Names of the shipped tasks, sorted."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


@functools.cache
def load_task(name_or_path: str) -> Task:
    """A shipped task by name, or a YAML file of yours by path.

    Raises:
        InputError: no such task, not valid YAML, or a key that tasks do not have.
    """
    path = _folder() / f"{name_or_path}.yaml" if name_or_path in task_names() else Path(name_or_path)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        raise InputError(
            f"There is no task '{name_or_path}' - use one of {', '.join(task_names())}, or the path of a .yaml file."
        )
    values = as_object(read_yaml(path), f"Task {path}")
    return validated(Task, {"name": path.stem, **values}, f"Task {path}", "see the shipped summarization.yaml")


def _folder() -> Path:
    return resource_folder("recipe/tasks")
