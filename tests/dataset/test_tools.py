"""Definitions of tools on their way: rows of a user's own, a dataset folder, `load_dataset`, the preview; and older folders."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner

from kollm.app.rows import Query, RowStore
from kollm.cli import cli
from kollm.core.generations import Generation
from kollm.core.preferences import Preference
from kollm.core.records import Record
from kollm.dataset.folder import PREFERENCES, DatasetWriter, Part, read_records
from kollm.dataset.given import given_dataset
from kollm.dataset.preferences import preference_table, read_preferences
from kollm.dataset.tables import SCHEMA, to_table
from tests.train.templates import tokenizer_for, trl_templates

TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "도시의 날씨", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]  # fmt: skip
TEXT = json.dumps(TOOLS, ensure_ascii=False)
CALL = {"type": "function", "function": {"name": "get_weather", "arguments": '{"city": "서울"}'}}
TALK = {
    "messages": [
        {"role": "user", "content": "서울 날씨는?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "맑음 21"},
        {"role": "assistant", "content": "맑고 21도입니다."},
    ],
    "tools": TOOLS,
}
PLAIN = {"messages": [{"role": "user", "content": "안녕?"}, {"role": "assistant", "content": "안녕하세요."}]}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in (TALK, PLAIN)), encoding="utf-8")
    return path


def without(folder: Path, config: str, column: str = "tools") -> None:
    """The folder as an older kollm would have written it."""
    for path in sorted((folder / config).glob("*.parquet")):
        pq.write_table(pq.read_table(path).drop_columns([column]), path)


def test_rows_keep_them_in_the_folder_and_load_dataset_reads_them(rows: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    folder = given_dataset(rows, tmp_path)
    assert [row.tools for row in read_records(folder)] == [TEXT, ""]
    loaded = load_dataset(folder, "own", split="train", cache_dir=str(tmp_path / "cache"))
    assert list(loaded["tools"]) == [TEXT, ""] and set(loaded.column_names) == set(SCHEMA.names)
    assert [Record.from_row(row).tools for row in loaded] == [TEXT, ""]


def test_rows_with_different_tools_repeat_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    row = {"instruction": "서울 날씨는 어떤가요? 우산을 가져가야 하나요?", "output": "지금은 날씨를 알 수 없습니다."}
    given = [TOOLS, [], [{**TOOLS[0], "function": {"name": "get_time"}}], TOOLS, None]
    rows = [{**row, "tools": value} for value in given]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    assert [bool(row.tools) for row in read_records(given_dataset(path, tmp_path))] == [True, False, True]
    line = ["data", "build", "own", "--input", str(path), "--against", "none", "-o", str(tmp_path / "D")]
    done = CliRunner().invoke(cli, line, catch_exceptions=False)
    assert "duplicate_exact: 2" in done.output and "duplicate_near" not in done.output
    assert [row.tools for row in read_records(tmp_path / "D")] == [
        TEXT, "", '[{"type": "function", "function": {"name": "get_time"}}]'
    ]  # fmt: skip


def test_folders_of_older_versions_are_read(tmp_path: Path) -> None:
    record = Record("own-1", "own", "물음", "", "답", lang="ko", tools=TEXT)
    folder = tmp_path / "old"
    with DatasetWriter(folder) as writer:
        writer.write(Part("own", "train"), to_table([record, replace(record, id="own-2")]))
        writer.publish({"sources": []}, "card")
    assert [row.tools for row in read_records(folder)] == [TEXT, TEXT]
    shown = RowStore(folder).find("own-1")
    assert shown is not None and shown.record == record
    without(folder, "own")
    assert [row.tools for row in read_records(folder)] == ["", ""]
    assert RowStore(folder).page(Query(), 0).total == 2
    shown = RowStore(folder).find("own-1")
    assert shown is not None and shown.record == replace(record, tools="")
    row: dict[str, Any] = record.to_row()
    del row["tools"]
    assert Record.from_row(row) == replace(record, tools="")
    assert Record.from_row({**row, "tools": None}).tools == ""


def test_pairs_of_older_versions_are_read(tmp_path: Path) -> None:
    pair = Preference("p", "own", "물음", "", "답", "모름", tools=TEXT)
    folder = tmp_path / "pairs"
    with DatasetWriter(folder) as writer:
        writer.write(Part(PREFERENCES, "train"), preference_table([pair]))
        writer.publish({"sources": []}, "card")
    assert list(read_preferences(folder)) == [pair]
    without(folder, PREFERENCES)
    assert list(read_preferences(folder)) == [replace(pair, tools="")]


def test_the_texts_of_a_row_and_its_translation_leave_them_alone() -> None:
    record = Record("r", "own", "Weather?", "", "Sunny", tools=TEXT)
    assert TEXT not in record.texts().values()
    korean = record.with_texts({"instruction": "날씨?", "output": "맑음"}, lang="ko", original=record.as_original())
    assert korean.tools == TEXT and korean.english().tools == TEXT


def test_a_translated_dataset_has_the_definitions_as_they_were(tmp_path: Path) -> None:
    for name, question, answer in (("en", "What is the weather in Seoul?", "It is sunny and 21 degrees in Seoul."), ("ko", "서울 날씨는 어떤가요?", "서울은 맑고 기온은 21도입니다.")):  # fmt: skip
        row = {"id": 1, "instruction": question, "output": answer, "tools": TOOLS if name == "en" else None}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    line = ["data", "build", "own", "--input", str(tmp_path / "en.jsonl"), "--translator", "memory"]
    line += ["--memory", str(tmp_path / "ko.jsonl"), "--against", "none", "-o", str(tmp_path / "D")]
    done = CliRunner().invoke(cli, line, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    (made,) = read_records(tmp_path / "D")
    assert (made.lang, made.instruction, made.tools) == ("ko", "서울 날씨는 어떤가요?", TEXT)


def test_answers_have_them_and_hashes_of_answers_without_are_as_they_were() -> None:
    values: dict[str, Any] = {"id": "t", "instruction": "q", "input": "", "response": "a", "model": "m", "adapter": ""}
    plain = Generation(**values, params={}, finish_reason="stop", system="s")
    assert plain.task_sha256() == "sha256:9e4a6154a042827daa5a78968e0821ec983ee43dfedc76af5263a7ef05298540"
    offered = replace(plain, tools=TEXT)
    assert offered.task_sha256() != plain.task_sha256()
    assert Generation.from_row(offered.to_row()) == offered
    older = {name: value for name, value in plain.to_row().items() if name != "tools"}
    assert Generation.from_row(older) == plain


def test_show_finds_a_row_from_any_folder_and_writes_its_tools_out(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    Path(given_dataset(rows, tmp_path)).rename(tmp_path / "work" / "dataset")
    values: dict[str, Any] = {"id": "own-0", "instruction": "q", "input": "", "response": "a", "model": "m", "adapter": ""}  # fmt: skip
    answer = Generation(**values, params={}, finish_reason="stop", system="s", tools=TEXT)
    (tmp_path / "work" / "generations.jsonl").write_text(json.dumps(answer.to_row()) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for folder in ("work", str(tmp_path / "work")):
        shown = CliRunner().invoke(cli, ["show", "own-0", "-o", folder], catch_exceptions=False).output
        assert "== record in dataset/own" in shown and "== answer of s" in shown
        assert shown.count('        "name": "get_weather",') == 2


def test_preview_shows_them_in_the_bases_template_and_counts_what_a_prompt_cannot_show(
    rows: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    tokenizer_for(trl_templates()["qwen3"], json.dumps([TALK, PLAIN], ensure_ascii=False)).save_pretrained(base)
    (base / "config.json").write_text('{"model_type": "qwen3"}')
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"base": {"model": str(base)}, "data": {"holdout": 0}}))
    line = ["preview", str(recipe), "--dataset", str(rows), "--base", str(base)]
    shown = CliRunner().invoke(cli, line, catch_exceptions=False).output
    talk = shown.partition("--- own-1")[0]
    assert TEXT[1:-1] in talk and "<tools>" in talk, "as the template writes them"
    assert "⟦" in talk and "get_weather" not in "".join(part.partition("⟧")[0] for part in talk.split("⟦")[1:])
    assert "tool definitions" not in shown
    plain = CliRunner().invoke(cli, [*line, "--set", "prompt=kullm-2023"], catch_exceptions=False).output
    assert "<tools>" not in plain
    assert "1 row is learned without tool definitions, since the prompt has no place for them" in plain
