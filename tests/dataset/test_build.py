"""The dataset pipeline from rows to folder, on the bundled sample and on small files."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from kollm.core.errors import InputError, QuotaError
from kollm.core.records import Record
from kollm.dataset.folder import read_manifest, read_records
from kollm.dataset.leak_check import EVALUATION
from kollm.dataset.pipeline import build_dataset
from kollm.dataset.plan import plan_build
from kollm.dataset.settings import SourceInput, make_settings
from kollm.quality.dedup import NEAR
from kollm.quality.privacy import Privacy
from kollm.recipe.load import load_recipe
from kollm.recipe.schema import BuildSettings
from kollm.services.ledger import Ledger
from kollm.sources import read_source, sample_file
from tests.servers.deepl import KEY, DeepLServer

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
        build_dataset(SAMPLE, output=tmp_path / name, limit=20)
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
    assert "Warning: every row was rejected (1), 1 of them for '" in capsys.readouterr().err
    assert load_dataset(str(report.folder), "rejected", cache_dir=str(tmp_path / "cache"))["train"][0]["reason"] == (
        "empty_instruction"
    )


def test_a_place_that_is_no_dataset_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep me", encoding="utf-8")
    with pytest.raises(InputError, match=r"is in use, it holds mine\.txt"):
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


def test_a_work_folder_that_a_disk_holds_on_to_is_named_and_costs_no_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    remove = os.rmdir

    def busy(path: Any, **more: Any) -> None:
        if Path(path).name == ".data.shards":
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))
        remove(path, **more)

    with monkeypatch.context() as disk:
        disk.setattr(os, "rmdir", busy)
        build_dataset(SAMPLE, output=tmp_path / "data", limit=20)
    assert "could not be removed whole" in capsys.readouterr().err
    first = _files(tmp_path / "data")
    build_dataset(SAMPLE, output=tmp_path / "data", limit=20)
    assert _files(tmp_path / "data") == first and not (tmp_path / ".data.shards").exists()


def test_worker_processes_make_no_difference(tmp_path: Path) -> None:
    build_dataset(SAMPLE, output=tmp_path / "alone", processes=0)
    build_dataset(SAMPLE, output=tmp_path / "shared", processes=2)
    assert _files(tmp_path / "alone") == _files(tmp_path / "shared")


def test_a_worker_names_the_malformed_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "a", "output": "b"}\n{"x\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"rows\.jsonl, line 2: not valid JSON"):
        build_dataset([SourceInput("gpt4_llm", path)], translator="none", output=tmp_path / "data", processes=2)
    assert not (tmp_path / "data").exists()


ROW = {
    "instruction": "Explain how a tide works to a child of ten years.",
    "input": "",
    "output": "The moon pulls at the sea, and the water on that side of the earth rises a little; so it does on the far side.",
}


def test_duplicates_are_told_across_sources_and_name_the_row_that_stays(tmp_path: Path) -> None:
    near = {**ROW, "output": ROW["output"].replace("a little", "somewhat")}
    first = _write_jsonl(tmp_path / "a.jsonl", [ROW, near])
    second = _write_jsonl(tmp_path / "b.jsonl", [ROW])
    report = build_dataset(
        [SourceInput("gpt4_llm", first), SourceInput("alpaca", second)],
        translator="none",
        filters="none",
        output=tmp_path / "data",
    )
    assert report.rows == {"gpt4-llm": 1}
    reasons = _reasons(report.folder)
    assert reasons == {"gpt4_llm-1": "duplicate_near: gpt4_llm-0", "alpaca-0": "duplicate_exact: gpt4_llm-0"}


def _reasons(folder: Path) -> dict[str, str]:
    table = pq.read_table(folder / "rejected" / "train-00000.parquet", columns=["id", "reason"])
    return {row["id"]: row["reason"] for row in table.to_pylist()}


def _talk(text: str) -> dict[str, object]:
    turns = [{"from": "human", "value": text}, {"from": "gpt", "value": "Thank you, I noted it down for you."}]
    return {"id": "x", "conversations": turns}


@pytest.mark.parametrize(("privacy", "kept"), [("mask", "person1@example.com"), ("off", "mina@firm.kr"), ("drop", "")])
def test_personal_data_in_conversations(tmp_path: Path, privacy: Privacy, kept: str) -> None:
    path = _write_jsonl(tmp_path / "talk.jsonl", [_talk("My address is mina@firm.kr.")])
    report = build_dataset(
        [SourceInput("sharegpt", path)], translator="none", filters="none", privacy=privacy, output=tmp_path / "data"
    )
    if not kept:
        assert report.dropped == {"personal_data": 1}
        assert b"mina@firm.kr" not in b"".join(_files(report.folder).values())
        return
    (record,) = read_records(report.folder)
    assert kept in record.instruction
    mended = read_manifest(report.folder)["mended"]
    assert mended == ({"email_masked": 1} if privacy == "mask" else {})


@pytest.mark.parametrize(("privacy", "masked"), [("auto", False), ("mask", True), ("off", False)])
def test_any_source_can_be_screened_and_so_is_what_a_memory_adds(
    tmp_path: Path, privacy: Privacy, masked: bool
) -> None:
    row = {"instruction": "Tell me whom to write to.", "input": "", "output": "Write to mina@firm.kr about the tide."}
    korean = {
        "instruction": "누구에게 쓸지 알려 주세요.",
        "input": "",
        "output": "조수는 mina@firm.kr이나 010-2345-6789로 물어보세요.",
    }
    report = build_dataset(
        [SourceInput("alpaca", _write_jsonl(tmp_path / "en.jsonl", [row]), memory=_write_jsonl(tmp_path / "ko.jsonl", [korean]))],
        translator="memory", filters="none", privacy=privacy, output=tmp_path / "data",
    )  # fmt: skip
    (record,) = read_records(report.folder)
    assert ("mina@firm.kr" not in record.output and "2345" not in record.output) == masked
    assert record.original is not None
    assert ("mina@firm.kr" not in record.original.output) == masked


def test_a_task_that_leaks_in_korean_alone_is_refused_after_translation(tmp_path: Path) -> None:
    task = next(item for item in read_source("human_eval", sample_file("human_eval", "ko")) if isinstance(item, Record))
    english = _write_jsonl(tmp_path / "en.jsonl", [ROW])
    korean = _write_jsonl(tmp_path / "ko.jsonl", [{**ROW, "instruction": f"{task.instruction} {task.input}"}])
    against = str(sample_file("human_eval", "ko"))
    sources = [SourceInput("gpt4_llm", english, memory=korean)]
    with pytest.raises(InputError, match=r"1 row holds a task .* \(gpt4_llm-0: human_eval-sample_task_0\)"):
        build_dataset(sources, output=tmp_path / "data", against=[against], filters="none")
    report = build_dataset(sources, output=tmp_path / "data", against=[against], filters="none", leaks="keep")
    assert report.leaks == ("gpt4_llm-0: human_eval-sample_task_0",)
    assert read_manifest(report.folder)["settings"]["against"][0].startswith("sha256:")


def test_a_paid_engine_is_asked_once_and_what_is_not_bought_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with DeepLServer() as server, Ledger.open(tmp_path / "ledger.sqlite3") as ledger:
        monkeypatch.setenv("DEEPL_AUTH_KEY", KEY)
        monkeypatch.setenv("DEEPL_SERVER_URL", server.url)
        options = {"translator": "deepl", "ledger": ledger, "limit": 20}
        with pytest.raises(QuotaError, match="cap of 100 characters"):
            build_dataset(SAMPLE[:1], output=tmp_path / "data", max_characters=100, **options)
        assert not (tmp_path / "data").exists()
        first = build_dataset(SAMPLE[:1], output=tmp_path / "one", **options)
        requests = len(server.state.requests)
        assert "the text leaves this machine, unless the ledger has it" in capsys.readouterr().err
        second = build_dataset(SAMPLE[:1], output=tmp_path / "two", **options)
        assert len(server.state.requests) == requests > 0
    assert first.characters == second.characters > 0
    assert _files(tmp_path / "one") == _files(tmp_path / "two")
    assert "leaves this machine" not in capsys.readouterr().err
    assert {record.provenance.engine for record in read_records(tmp_path / "one")} == {"deepl"}


def test_rows_that_are_korean_already_are_not_translated(tmp_path: Path) -> None:
    row = {"id": "dolly_1", "instruction": "밀물이 무엇인지 알려 주세요.", "input": "", "output": "달이 바닷물을 끌어당겨 물이 차오르는 일입니다."}  # fmt: skip
    path = _write_jsonl(tmp_path / "rows.jsonl", [row])
    report = build_dataset([SourceInput("kullm_v2", path)], output=tmp_path / "data")
    (record,) = read_records(report.folder)
    assert (record.output, record.original, record.lang) == (row["output"], None, "ko")


def test_a_plan_tells_what_a_build_would_bill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_build(SAMPLE)
    with DeepLServer() as server, Ledger.open(tmp_path / "ledger.sqlite3") as ledger:
        monkeypatch.setenv("DEEPL_AUTH_KEY", KEY)
        monkeypatch.setenv("DEEPL_SERVER_URL", server.url)
        report = build_dataset(SAMPLE, translator="deepl", ledger=ledger, output=tmp_path / "data")
    planned = sum(row.characters for row in plan.rows)
    assert report.characters <= planned <= 1.001 * report.characters  # `&lt;` counts as it is sent
    assert sum(row.read for row in plan.rows) == 115 + 75 + 40
    routed = report.dropped.get("route", 0)
    assert sum(row.routed for row in plan.rows) == routed


def test_settings_are_one_kind_everywhere() -> None:
    assert BuildSettings().near == NEAR and BuildSettings().against == (EVALUATION,)
    recipe = load_recipe("demo", ["data.leaks=drop", "data.near=0.9", "data.privacy=mask", "data.against=[sample]"])
    assert recipe.data.build == make_settings(leaks="drop", near=0.9, privacy="mask", against=["sample"])
    assert make_settings(recipe.data.build, leaks="keep").leaks == "keep"
    with pytest.raises(InputError, match="there is no setting 'leak' - did you mean 'leaks'"):
        make_settings(leak="drop")
    with pytest.raises(InputError, match="leaks is 'dropp' - input should be 'refuse'"):
        make_settings(leaks="dropp")
