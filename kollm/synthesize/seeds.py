"""Seed tasks: what people wrote, from which a model is to make more. Self-Instruct's own form, one task a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from kollm.core.errors import InputError
from kollm.core.files import read_jsonl

BUNDLED = Path(__file__).with_name("seeds.ko.jsonl")


class Instance(NamedTuple):
    """An input that a task is carried out on, and the answer; the input is empty where the instruction says it all."""

    input: str
    output: str


class SeedTask(NamedTuple):
    """One task that a person wrote."""

    instruction: str
    instances: tuple[Instance, ...]
    is_classification: bool


def read_seeds(path: Path) -> list[SeedTask]:
    """Read seed tasks: `instruction`, `instances[{input, output}]`, `is_classification`.

    Raises:
        InputError: the file is missing, holds a line that is no task, or lacks one of the two kinds of task.
    """
    seeds = [_seed(row, f"{path}, row {number}") for number, row in enumerate(read_jsonl(path), start=1)]
    for kind, name in ((True, "a classification task"), (False, "a task that is no classification")):
        if not any(seed.is_classification is kind for seed in seeds):
            raise InputError(f"{path}: {name} is missing - the model is shown examples of both kinds; add one.")
    return seeds


def _seed(row: dict[str, Any], where: str) -> SeedTask:
    instruction, instances, kind = row.get("instruction"), row.get("instances"), row.get("is_classification")
    if not isinstance(instruction, str) or not instruction.strip() or not isinstance(kind, bool):
        raise InputError(
            f"{where}: a seed task needs `instruction` and `is_classification` (true or false) - add them."
        )
    if not isinstance(instances, list) or not instances or not all(isinstance(item, dict) for item in instances):
        raise InputError(f"{where}: a seed task needs `instances`, a list of {{input, output}} - add one.")
    pairs = tuple(Instance(str(item.get("input") or ""), str(item.get("output") or "")) for item in instances)
    return SeedTask(instruction.strip(), pairs, kind)
