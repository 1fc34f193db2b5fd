"""A double id ends no build: the first row keeps it, later ones are called by their place too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kollm.core.records import Record
from kollm.dataset.folder import read_any_records, read_records
from kollm.dataset.pipeline import SourceInput, build_dataset
from kollm.sources import Rejected, read_source


def talk(own_id: object, number: int, answer: str = "") -> dict[str, Any]:
    said = [f"What is the number {number} good for?", answer or f"It is good for counting up to {number}."]
    turns = [{"from": name, "value": text} for name, text in zip(("human", "gpt"), said, strict=True)]
    return {"id": own_id, "conversations": turns if answer != "-" else turns[:1]}


def build(tmp_path: Path, source: str, rows: list[Any]) -> Path:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(rows), encoding="utf-8")
    out = tmp_path / "out"
    build_dataset([SourceInput(source, file)], translator="none", filters="none", output=out, against=(), near=1.1)
    return out


def test_double_ids_are_told_apart_and_counted(tmp_path: Path) -> None:
    rows = [
        talk("a", 1),
        talk("a", 2),
        talk("a", 3, "-"),
        talk(4, 4),
        talk("4", 5),
        talk("a-r1", 6),
        talk("a", 7),
        talk(None, 8),
    ]
    out = build(tmp_path, "sharegpt", rows)
    kept = [record.id.removeprefix("sharegpt-") for record in read_records(out)]
    assert kept == ["a", "a-r1r", "4", "4-r4", "a-r1", "a-r6", "7"]
    rejected = read_any_records(out, "rejected")
    assert [record.id for record in rejected] == ["sharegpt-a-r2"]
    assert json.loads((out / "manifest.json").read_text(encoding="utf-8"))["mended"]["double_id_renamed"] == 4
    ids = [record.id for record in (*read_records(out), *rejected)]
    assert len(set(ids)) == len(ids)
    read = list(read_source("sharegpt", tmp_path / "rows.json"))
    assert {"a", "4-r4", "a-r6", "7"} <= {
        item.id.removeprefix("sharegpt-") for item in read if isinstance(item, Record)
    }


@pytest.mark.parametrize(
    ("source", "rows", "kept", "left_out"),
    [
        ("sharegpt", [talk(1, 1), {"id": 2, "conversations": [{"from": "gpt", "value": "Hello"}]}, talk(3, 3)], ["1", "3"], ["2"]),
        ("gpt4_llm", [{"id": "1", "instruction": "What is it?", "input": "", "output": "It."}, {"id": "0", "instruction": "Say."}], ["1"], ["0"]),
        ("kullm_v2", [{"id": "s_9", "instruction": "뭐예요?"}, {"id": "s_9", "instruction": "왜요?"}, {"id": "a_1", "instruction": "산은?", "output": "한라산"}], ["2"], ["0", "1"]),
        ("gpt4_llm", [{"id": True, "instruction": "A?", "output": "B"}, {"id": 2.0, "instruction": "C?", "output": "D"}, {"id": "x\ny", "instruction": "E?", "output": "F"}], ["0", "2", "2-r2"], []),
    ],
)  # fmt: skip
def test_own_ids_and_places_do_not_meet(
    tmp_path: Path, source: str, rows: list[Any], kept: list[str], left_out: list[str]
) -> None:
    out = build(tmp_path, source, rows)
    assert [record.id for record in read_records(out)] == [f"{source}-{name}" for name in kept]
    assert [record.id for record in read_any_records(out, "rejected")] == [f"{source}-{name}" for name in left_out]


def test_many_rows_of_one_id(tmp_path: Path) -> None:
    rows = [
        {"id": "same", "instruction": f"What is {number}?", "input": "", "output": f"{number}!"}
        for number in range(20_000)
    ]
    out = build(tmp_path, "gpt4_llm", rows)
    assert len({record.id for record in read_records(out)}) == 20_000


def test_rejected_rows_of_a_source_alone(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"id": "a"}\n{"id": "a"}\n', encoding="utf-8")
    found = list(read_source("gpt4_llm", file))
    assert [item.record.id for item in found if isinstance(item, Rejected)] == ["gpt4_llm-a", "gpt4_llm-a-r1"]
