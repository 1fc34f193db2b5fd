"""Sampling a set of many files: even over files, the same for a seed, bounded in what it reads, ids that stay."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from kollm.core.records import Record
from kollm.sources import Rejected, read_source
from kollm.sources.sample import ORIGIN, WINDOW, sample_rows
from kollm.sources.source import Row


class Shelf:
    """Files of numbered rows that count how many of them were read."""

    def __init__(self, sizes: dict[str, int]) -> None:
        self.read = dict.fromkeys(sizes, 0)
        self.files: dict[str, Callable[[], Iterator[Row]]] = {
            name: partial(self._rows, name, size) for name, size in sizes.items()
        }

    def _rows(self, name: str, size: int) -> Iterator[Row]:
        for number in range(size):
            self.read[name] += 1
            yield {"file": name, "number": number}


def test_rows_come_evenly_from_all_files_and_reading_ends_at_the_window() -> None:
    shelf = Shelf({f"task{index}": 1_000_000 for index in range(10)})
    rows = list(sample_rows(shelf.files, 50, seed=1))
    assert len(rows) == 50
    assert all(sum(row["file"] == name for row in rows) == 5 for name in shelf.files)
    assert set(shelf.read.values()) == {5 * WINDOW}
    assert max(row["number"] for row in rows) >= 5
    assert all(row[ORIGIN] == f"{row['file']}-{row['number']}" for row in rows)


def test_a_seed_gives_the_same_rows_and_another_seed_others() -> None:
    files = Shelf({"a": 500, "b": 500, "c": 500}).files
    assert list(sample_rows(files, 30, 7)) == list(sample_rows(files, 30, 7))
    assert list(sample_rows(files, 30, 7)) != list(sample_rows(files, 30, 8))


def test_what_short_files_lack_comes_from_the_others() -> None:
    for seed in range(20):
        shelf = Shelf({"short": 2, "long": 400, "longer": 400})
        rows = list(sample_rows(shelf.files, 60, seed))
        last_is_short = rows[-1]["file"] == "short"
        assert len(rows) == (42 if last_is_short else 60)
        assert len({row[ORIGIN] for row in rows}) == len(rows)


def test_fewer_rows_than_files_open_only_as_many_files() -> None:
    shelf = Shelf({f"task{index:03}": 10 for index in range(100)})
    rows = list(sample_rows(shelf.files, 7))
    assert len(rows) == 7 == len({row["file"] for row in rows})
    assert sum(count > 0 for count in shelf.read.values()) == 7


def test_every_row_of_the_window_is_as_likely() -> None:
    counts = [0] * WINDOW
    for seed in range(2_000):
        (row,) = sample_rows(Shelf({"a": 10_000}).files, 1, seed)
        counts[row["number"]] += 1
    expected = 2_000 / WINDOW
    assert sum((count - expected) ** 2 / expected for count in counts) < 43.8  # chi-squared, 19 degrees, p = .001


def test_without_a_number_all_rows_come_in_order() -> None:
    rows = list(sample_rows(Shelf({"b": 2, "a": 3}).files, None))
    assert [row[ORIGIN] for row in rows] == ["a-0", "a-1", "a-2", "b-0", "b-1"]


@pytest.mark.parametrize("limit", [4, 9])
def test_a_folder_of_task_files_is_sampled_and_ids_do_not_depend_on_the_sample(tmp_path: Path, limit: int) -> None:
    for task in ("first", "second", "third"):
        rows = [{"inputs_pretokenized": f"{task} {n}?", "targets_pretokenized": f"{n}"} for n in range(40)]
        (tmp_path / task).mkdir()
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / task / "train.jsonl").write_text(text, encoding="utf-8")

    def read(limit: int | None) -> dict[str, str]:
        items: list[Record | Rejected] = list(read_source("p3", tmp_path, limit=limit, seed=5))
        return {item.id: item.instruction for item in items if isinstance(item, Record)}

    everything, sample = read(None), read(limit)
    assert len(everything) == 120 and len(sample) == limit
    assert sample.items() <= everything.items()
    assert everything["p3-second/train-17"] == "second 17?"
