"""Leaks: training rows that hold an evaluation task, in English or in Korean.

A row leaks a task when at least THRESHOLD of the character n-grams of the task's instruction and input stand in the
row, whatever the row's spacing, punctuation and case. kollm carries the n-grams of the 252 user-oriented tasks and of
their Korean translation as hashes, without their text, so that every build is checked without a network.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kollm.core.errors import InputError
from kollm.core.files import require_file, whole_file
from kollm.core.records import Record
from kollm.core.resources import PACKAGE
from kollm.quality.shingles import TOGETHER, Hashes, Offsets, fold_letters, grams, mix, unmix, windows

GRAM = 10
THRESHOLD = 0.5
"""Of 1,674 unrelated rows (GPT-4's Alpaca answers, ShareGPT, Self-Instruct's seeds) none held 0.5 of any of the 252
tasks, the highest 0.40; a row that carries a task under other spacing, case or punctuation holds 1.0."""
SHORTEST = 12
"""Letters that a task needs to be told from ordinary wording; shorter ones are left out."""
_FILTER_BITS = 21
"""Of a window its highest: a table tells for these how many n-grams a text must hold of a task with such a one; 0 where there is none."""
BUNDLED = PACKAGE / "quality" / "human_eval_hashes.npz"
"""Hashes of the 252 tasks in English and Korean, made by `dataset_scripts/evaluation_hashes.py`."""


Numbers = npt.NDArray[np.int64]


class Leak(NamedTuple):
    """A row that holds a task.

    Attributes:
        row: number of the row in its batch.
        task: the task's id.
        share: part of the task's n-grams that the row holds.
    """

    row: int
    task: str
    share: float


class Tasks:
    """The n-grams of evaluation tasks, ready to be looked up.

    Args:
        ids: ids of the tasks.
        hashes: different n-grams of each task, end to end.
        offsets: where those of each task start, one entry more than tasks.
    """

    def __init__(self, ids: Sequence[str], hashes: Hashes, offsets: Offsets) -> None:
        self.ids, self.hashes, self.offsets = list(ids), hashes, offsets
        self._counts = np.diff(offsets)
        owners = np.repeat(np.arange(len(ids)), self._counts)
        order = np.argsort(hashes, kind="stable")
        self._owners = owners[order]
        self._known, self._starts = np.unique(hashes[order], return_index=True)
        self._ends = np.append(self._starts[1:], len(hashes))
        needed = np.ceil(THRESHOLD * self._counts)[owners]
        least = np.argsort(-needed, kind="stable")  # where several n-grams share a place, the least stays
        self._needed = np.zeros(1 << _FILTER_BITS, dtype=np.uint8)
        self._needed[_high(unmix(hashes[least]))] = np.minimum(needed[least], 255)

    def __len__(self) -> int:
        return len(self.ids)

    def __add__(self, other: Tasks) -> Tasks:
        return Tasks(
            self.ids + other.ids,
            np.concatenate([self.hashes, other.hashes]),
            np.concatenate([self.offsets, other.offsets[1:] + self.offsets[-1]]),
        )

    def find(self, texts: Sequence[str]) -> list[Leak]:
        """The leaks of a batch of texts, at most one a text: the task of which it holds most."""
        if not self.ids:
            return []
        parts = [self._held(texts[start : start + TOGETHER], start) for start in range(0, len(texts), TOGETHER)]
        once = np.unique(np.concatenate([np.zeros(0, np.int64), *parts]))  # an n-gram counts once a row
        rows, places = once // len(self._known), once % len(self._known)
        return self._best(*self._matches(rows, places))

    def _held(self, texts: Sequence[str], first: int) -> Numbers:
        """For each n-gram of a task in a text, the text's number and its place among the known ones, as one number.

        Those are left out of whose tasks each needs more n-grams than the text may have of all tasks.
        """
        codes, offsets = fold_letters(texts)
        found = windows(codes, GRAM)
        needed = self._needed.take(_high(found))
        at = np.flatnonzero(needed)  # 4 of 100, and so few that only these are hashed and looked up
        rows = np.searchsorted(offsets, at, side="right") - 1
        enough = needed[at] <= np.bincount(rows, minlength=len(texts))[rows]
        at, rows = at[enough], rows[enough]
        hashes = mix(found[at])
        places = np.minimum(np.searchsorted(self._known, hashes), len(self._known) - 1)
        there = (self._known[places] == hashes) & (at + GRAM <= offsets[rows + 1])
        held: Numbers = (rows[there] + first) * len(self._known) + places[there]
        return held

    def _matches(self, rows: Numbers, places: Numbers) -> tuple[Numbers, Numbers]:
        """Row and task, for every row's n-gram and each task that has it."""
        many = self._ends[places] - self._starts[places]
        first = np.repeat(self._starts[places], many)
        within = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
        return np.repeat(rows, many), self._owners[first + within]

    def _best(self, rows: Numbers, tasks: Numbers) -> list[Leak]:
        pairs, counts = np.unique(rows * len(self.ids) + tasks, return_counts=True)
        shares = counts / self._counts[pairs % len(self.ids)]
        best: dict[int, Leak] = {}
        for pair, share in zip(pairs[shares >= THRESHOLD], shares[shares >= THRESHOLD], strict=True):
            row, task = divmod(int(pair), len(self.ids))
            if row not in best or share > best[row].share:
                best[row] = Leak(row, self.ids[task], float(share))
        return [best[row] for row in sorted(best)]


def task_text(record: Record) -> str:
    """What is looked for in a row's whole text: the instruction and its input, not the reference, which an honest answer
    may repeat."""
    return f"{record.instruction}\n{record.input}"


def tasks_of(records: Iterable[Record]) -> Tasks:
    """Tasks from evaluation records, in the language they are in; of translated ones, in both."""
    ids, texts = [], []
    for record in records:
        ids.append(record.id)
        texts.append(task_text(record))
        if record.translated:
            ids.append(record.id)
            texts.append(task_text(record.english()))
    found = grams(fold_letters(texts), GRAM)
    parts, names = [], []
    for number, name in enumerate(ids):
        own = np.unique(found.hashes[found.offsets[number] : found.offsets[number + 1]])
        if len(own) > SHORTEST - GRAM:  # as many n-grams as that many letters have
            parts.append(own)
            names.append(name)
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    return Tasks(names, np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint64), offsets)


def _high(values: Hashes) -> Numbers:
    return (values >> np.uint64(64 - _FILTER_BITS)).view(np.int64)


def save_tasks(tasks: Tasks, path: Path) -> None:
    """Write the hashes of tasks, without their text, to an .npz file."""
    with whole_file(path) as file:
        np.savez_compressed(file, ids=np.array(tasks.ids), hashes=tasks.hashes, offsets=tasks.offsets)


def load_tasks(path: Path = BUNDLED) -> Tasks:
    """Read what `save_tasks` wrote; by default the 252 user-oriented tasks in English and Korean.

    Raises:
        InputError: the file is missing or of another kind.
    """
    require_file(path, "The file of task hashes")
    try:
        with np.load(path, allow_pickle=False) as file:
            return Tasks([str(name) for name in file["ids"]], file["hashes"], file["offsets"])
    except (ValueError, KeyError, OSError) as error:
        raise InputError(f"'{path}' is not a file of task hashes ({error}) - make one with save_tasks.") from error
