"""The dataset pipeline from rows to folder, on the bundled sample and on small files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from datasets import load_dataset

from kollm.build import SourceInput, build_dataset
from kollm.dataset import read_manifest, read_records
from kollm.errors import InputError

SAMPLE = [SourceInput(name, "sample") for name in ("gpt4_llm", "dolly", "sharegpt")]


def _write_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_row_of_the_sample_is_kept_or_rejected(tmp_path: Path) -> None:
    report = build_dataset(SAMPLE, output=tmp_path / "data")
    assert sum(report.rows.values()) + sum(report.dropped.values()) == 115 + 75 + 40
    rejected = list(read_records(report.folder, "rejected")) if report.dropped else []
    assert len(rejected) == sum(report.dropped.values())


def test_two_builds_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        build_dataset(SAMPLE, output=tmp_path / name)
    assert _files(tmp_path / "one") == _files(tmp_path / "two")


def test_load_dataset_reads_the_folder(tmp_path: Path) -> None:
    report = build_dataset(SAMPLE, output=tmp_path / "data")
    everything = load_dataset(str(report.folder), cache_dir=str(tmp_path / "cache"))
    dolly = load_dataset(str(report.folder), "dolly", cache_dir=str(tmp_path / "cache"))
    assert everything["train"].num_rows == sum(report.rows.values())
    assert dolly["train"].num_rows == report.rows["dolly"]
    ours = [record.to_row() for record in read_records(report.folder, "dolly")]
    assert list(dolly["train"]) == ours


def test_evaluation_tasks_are_all_kept_in_a_split_of_their_own(tmp_path: Path) -> None:
    report = build_dataset([SourceInput("human_eval", "sample")], output=tmp_path / "data")
    records = list(read_records(report.folder, "human-eval", "test"))
    assert len(records) == 24
    assert report.dropped == {}
    assert [record.id for record in records[:2]] == ["human_eval-sample_task_0", "human_eval-sample_task_1"]
    assert all(record.output and record.lang == "ko" and record.original for record in records)


def test_a_malformed_line_is_named_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "a"}\n{"instruction": \n', encoding="utf-8")
    with pytest.raises(InputError, match=r"rows\.jsonl, line 2: not valid JSON"):
        build_dataset([SourceInput("gpt4_llm", path)], translator="none", output=tmp_path / "data")
    assert [item.name for item in tmp_path.iterdir()] == ["rows.jsonl"]


def test_no_rows_is_an_error(tmp_path: Path) -> None:
    empty = _write_jsonl(tmp_path / "empty.jsonl", [])
    with pytest.raises(InputError, match="no rows at all"):
        build_dataset([SourceInput("dolly", empty)], translator="none", output=tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_all_rows_rejected_is_a_dataset_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _write_jsonl(tmp_path / "rows.jsonl", [{"instruction": "", "input": "", "output": "x"}])
    report = build_dataset([SourceInput("gpt4_llm", path)], translator="none", output=tmp_path / "data")
    assert report.dropped == {"empty_instruction": 1}
    assert "Warning: all 1 rows were rejected" in capsys.readouterr().err
    assert load_dataset(str(report.folder), "rejected", cache_dir=str(tmp_path / "cache"))["train"][0]["reason"] == (
        "empty_instruction"
    )


def test_a_place_that_is_no_dataset_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep me", encoding="utf-8")
    with pytest.raises(InputError, match="holds files that are no dataset"):
        build_dataset(SAMPLE, output=tmp_path / "notes")
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be written"):
        build_dataset(SAMPLE, output=blocked / "data")


def test_an_earlier_dataset_is_replaced(tmp_path: Path) -> None:
    build_dataset(SAMPLE, output=tmp_path / "data")
    build_dataset(SAMPLE[:1], output=tmp_path / "data")
    assert list(read_manifest(tmp_path / "data")["rows"]) == ["gpt4-llm"]
    assert [item.name for item in tmp_path.iterdir()] == ["data"]
