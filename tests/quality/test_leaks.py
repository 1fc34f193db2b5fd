"""Evaluation tasks among training rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kollm.core.errors import InputError
from kollm.core.records import Original, Record
from kollm.dataset.leak_check import EVALUATION, find_leaks, load_references
from kollm.quality.leaks import Tasks, load_tasks, save_tasks, tasks_of
from kollm.sources import read_source, sample_file

TASKS = [item for item in read_source("human_eval", "sample") if isinstance(item, Record)]
KOREAN = [item for item in read_source("human_eval", sample_file("human_eval", "ko")) if isinstance(item, Record)]


def _train() -> list[Record]:
    rows = [read_source(name, "sample") for name in ("gpt4_llm", "dolly", "sharegpt")]
    return [item for source in rows for item in source if isinstance(item, Record)]


@pytest.mark.parametrize("tasks", [TASKS, KOREAN])
def test_every_task_is_found_in_other_spacing_case_and_place(tasks: list[Record]) -> None:
    known = tasks_of(tasks)
    disguised = [
        f"Here is a job.\n\n>>> {task.instruction.upper()}  \t {task.input.replace(' ', '  ')} <<<" for task in tasks
    ]
    assert [leak.task for leak in known.find(disguised)] == [task.id for task in tasks]


def test_other_rows_are_no_leaks() -> None:
    known = tasks_of([*TASKS, *KOREAN]) + load_tasks()
    assert known.find([record.whole_text() for record in _train()]) == []


def test_an_earlier_turn_can_leak() -> None:
    task = TASKS[0]
    talk = Record("x", "sharegpt", "thanks", "", "welcome", history=((f"{task.instruction}\n{task.input}", "..."),))
    assert [(leak.row, leak.task) for leak in tasks_of(TASKS).find(["other", talk.whole_text()])] == [(1, task.id)]


def test_the_reference_answer_alone_is_no_leak() -> None:
    assert tasks_of(TASKS).find([task.output for task in TASKS if task.output not in task.input]) == []


def test_the_task_of_which_most_is_there_is_named() -> None:
    short = replace(TASKS[0], id="short", input="")
    known = tasks_of([short, TASKS[0]])
    whole = f"{TASKS[0].instruction} {TASKS[0].input}"
    (leak,) = known.find([whole])
    assert leak.share == 1.0


def test_the_bundled_hashes_are_both_languages_of_the_252_tasks() -> None:
    tasks = load_tasks()
    assert len(set(tasks.ids)) == 252
    assert 500 <= len(tasks) <= 504
    assert tasks.hashes.dtype == np.uint64


def test_hashes_survive_their_file(tmp_path: Path) -> None:
    tasks = tasks_of(TASKS)
    save_tasks(tasks, tmp_path / "tasks.npz")
    again = load_tasks(tmp_path / "tasks.npz")
    assert again.ids == tasks.ids
    assert np.array_equal(again.hashes, tasks.hashes)
    (tmp_path / "other.npz").write_text("no", encoding="utf-8")
    with pytest.raises(InputError, match="not a file of task hashes"):
        load_tasks(tmp_path / "other.npz")


def test_no_tasks_find_nothing() -> None:
    assert tasks_of([]).find(["text"]) == []
    assert isinstance(load_references([]), Tasks)
    assert tasks_of(TASKS).find([]) == []
    assert tasks_of(TASKS).find([""]) == []


def test_references_by_name_and_file(tmp_path: Path) -> None:
    assert load_references([EVALUATION]).ids == load_tasks().ids
    path = tmp_path / "mine.jsonl"
    path.write_text('{"instruction": "Name every lake in Finland by depth.", "input": "", "output": "x"}\n', encoding="utf-8")  # fmt: skip
    assert load_references(["sample", str(path)]).ids == [*(task.id for task in TASKS), "alpaca-0"]
    path.write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="holds no tasks"):
        load_references([str(path)])


def test_the_english_side_of_a_translated_row_is_checked_too() -> None:
    task = TASKS[3]
    source = Original(task.instruction, task.input, "x")
    row = Record("dolly-1", "dolly", "전혀 다른 한국어 문장입니다.", "", "답", lang="ko", original=source)
    assert [(found.row, found.task) for found in find_leaks([row], tasks_of(TASKS))] == [("dolly-1", task.id)]
