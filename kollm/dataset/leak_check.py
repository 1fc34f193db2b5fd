"""Which evaluation sets rows are compared with, and the check of a whole dataset."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from kollm.core.errors import InputError
from kollm.core.records import Record
from kollm.core.text import normalise
from kollm.dataset.folder import read_records
from kollm.quality.leaks import Tasks, load_tasks, tasks_of
from kollm.sources import SAMPLE, find_source, read_source
from kollm.sources.rows import SUFFIXES, local_rows

EVALUATION = "human_eval"
"""The 252 user-oriented tasks in English and Korean, whose hashed n-grams come with kollm."""
_BATCH = 1_000


class Found(NamedTuple):
    """A row of a dataset that holds an evaluation task, and how much of the task's n-grams."""

    row: str
    task: str
    share: float


def load_references(names: Sequence[str]) -> Tasks:
    """The tasks of evaluation sets.

    Args:
        names: `human_eval`, `sample` for the bundled tasks, a JSON, JSONL or parquet file, a dataset folder, or
            a Hub id; none for no check.

    Raises:
        InputError: a file or folder that is not there, or holds no tasks.
    """
    tasks = tasks_of([])
    for name in names:
        tasks += load_tasks() if name == EVALUATION else _tasks_in(name)
    return tasks


def find_leaks(records: Iterable[Record], tasks: Tasks) -> Iterator[Found]:
    """The records that hold a task, in Korean or in the English they were translated from."""
    iterator = iter(records)
    while batch := list(islice(iterator, _BATCH)):
        texts = [normalise(record.whole_text()) + _english(record) for record in batch]
        yield from (Found(batch[leak.row].id, leak.task, leak.share) for leak in tasks.find(texts))


def _english(record: Record) -> str:
    return f"\n{record.english().whole_text()}" if record.translated else ""


def _tasks_in(name: str) -> Tasks:
    if name == SAMPLE:
        records: Iterable[object] = read_source(EVALUATION, SAMPLE)
    elif Path(name).suffix in SUFFIXES:
        records = read_source(_form(Path(name)), name)
    else:
        records = read_records(name)
    tasks = tasks_of(record.map_texts(normalise) for record in records if isinstance(record, Record))
    if not len(tasks):
        raise InputError(f"'{name}' holds no tasks to compare with - name an evaluation set.")
    return tasks


def _form(path: Path) -> str:
    """The source whose form a file of tasks has: Self-Instruct's, else Alpaca's."""
    first = next(iter(local_rows(path)), {})
    return find_source(EVALUATION if "instances" in first else "alpaca").name
