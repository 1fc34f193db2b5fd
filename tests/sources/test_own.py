"""Rows of people's own: every form in which they are kept, told by their keys, and every way in which they are broken."""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kollm.core.errors import InputError
from kollm.core.records import Record
from kollm.sources.own import OwnOptions, OwnRows, read_own
from kollm.sources.own.reading import LONGEST_ROW

ALPACA = [{"instruction": "환불은?", "input": "", "output": "네"}, {"instruction": "배송은?", "output": "송장"}]
TALK = {
    "messages": [
        {"role": "system", "content": "상담원"},
        {"role": "user", "content": "하나"},
        {"role": "assistant", "content": "둘"},
        {"role": "user", "content": "셋"},
        {"role": "assistant", "content": "넷"},
    ]
}


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def put(path: Path, content: str | bytes, encoding: str = "utf-8") -> Path:
    path.write_bytes(content.encode(encoding) if isinstance(content, str) else content)
    return path


def opened(path: Path | str, *mapping: str, **options: Any) -> OwnRows:
    return read_own(path, OwnOptions(mapping=mapping, **options))


def fields(own: OwnRows) -> list[tuple[str, str, str]]:
    return [(row.instruction, row.input, row.output) for row in own.records() if isinstance(row, Record)]


def reasons(own: OwnRows) -> list[str]:
    return [row.reason for row in own.records() if not isinstance(row, Record)]


PAIRS = [("환불은?", "", "네"), ("배송은?", "", "송장")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", lines(*ALPACA)),
        ("a.ndjson", lines(*ALPACA)),
        ("a.json", json.dumps(ALPACA)),
        ("lines.json", lines(*ALPACA)),
        ("pretty.json", "\n".join(json.dumps(row, indent=1) for row in ALPACA)),
        ("bom.json", "\ufeff" + json.dumps(ALPACA)),
        ("wrapped.json", json.dumps({"version": 2, "data": ALPACA})),
        ("columns.json", json.dumps({"instruction": ["환불은?", "배송은?"], "output": ["네", "송장"]})),
        ("pandas.json", json.dumps({"instruction": {"0": "환불은?", "1": "배송은?"}, "output": {"0": "네", "1": "송장"}})),
        ("a.csv", "instruction,input,output\n환불은?,,네\n배송은?,,송장\n"),
        ("bom.csv", "\ufeffinstruction,output\r\n환불은?,네\r\n배송은?,송장\r\n"),
        ("mac.csv", "instruction,output\r환불은?,네\r배송은?,송장\r"),
        ("excel.csv", "sep=;\r\ninstruction;output\r\n환불은?;네\r\n배송은?;송장\r\n"),
        ("a.tsv", "instruction\toutput\n환불은?\t네\n배송은?\t송장\n"),
        ("a.jsonl.gz", gzip.compress(lines(*ALPACA).encode(), mtime=0)),
        ("names.csv", "Question,Answer\n환불은?,네\n배송은?,송장\n"),
        ("prompts.jsonl", lines(*({"prompt": q, "completion": a} for q, _, a in PAIRS))),
        ("queries.jsonl", lines(*({"query": q, "response": a} for q, _, a in PAIRS))),
        ("argilla.json", json.dumps([{"id": n, "fields": {"instruction": q}, "responses": {"output": [{"value": a}]}} for n, (q, _, a) in enumerate(PAIRS)])),
        ("flat.jsonl", lines(*({"instruction": q, "output.responses": [a]} for q, _, a in PAIRS))),
        ("turns.jsonl", lines(*([{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, _, a in PAIRS))),
        ("sharegpt.json", json.dumps([{"conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}]} for q, _, a in PAIRS])),
        ("trl.jsonl", lines(*({"prompt": [{"role": "user", "content": q}], "completion": [{"role": "assistant", "content": a}]} for q, _, a in PAIRS))),
        ("cells.csv", 'messages\n"[{""role"": ""user"", ""content"": ""환불은?""}, {""role"": ""assistant"", ""content"": ""네""}]"\n"[{""role"": ""user"", ""content"": ""배송은?""}, {""role"": ""assistant"", ""content"": ""송장""}]"\n'),
        ("pairs.jsonl", lines(*({"prompt": q, "chosen": a, "rejected": "뭐"} for q, _, a in PAIRS))),
        ("self.jsonl", lines(*({"instruction": q, "instances": [{"input": "", "output": a}]} for q, _, a in PAIRS))),
    ],
)  # fmt: skip
def test_the_same_rows_in_every_form(tmp_path: Path, name: str, content: str | bytes) -> None:
    own = opened(put(tmp_path / name, content))
    assert fields(own) == PAIRS
    assert own.lang == "ko"
    assert "2 rows, read as " in own.summary()
    assert not reasons(own)


@pytest.mark.parametrize("encoding", ["cp949", "euc-kr", "utf-16", "utf-8-sig"])
def test_korean_encodings_are_read_and_said(tmp_path: Path, encoding: str) -> None:
    own = opened(
        put(tmp_path / "a.csv", "질문,답변\n환불은?,네\n배송은?,송장\n", encoding), "instruction=질문", "output=답변"
    )
    assert fields(own) == PAIRS
    said = {"cp949": "CP949", "euc-kr": "CP949", "utf-16": "UTF-16"}.get(encoding)
    assert said is None or f"read as {said}" in own.summary()


def test_parquet_arrow_folders_and_saved_sets(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    table = pa.table({"instruction": ["환불은?", "배송은?"], "output": ["네", "송장"], "score": [1.5, 2.0]})
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    Dataset.from_list(ALPACA).save_to_disk(tmp_path / "saved")
    DatasetDict(train=Dataset.from_list(ALPACA), test=Dataset.from_list(ALPACA[:1])).save_to_disk(tmp_path / "splits")
    hub = tmp_path / "hub" / "data"
    hub.mkdir(parents=True)
    put(tmp_path / "hub" / "README.md", "card")
    pq.write_table(table, hub / "train-00000-of-00001.parquet")
    pq.write_table(table.slice(0, 1), hub / "test-00000-of-00001.parquet")
    for name in ("a.parquet", "a.arrow", "saved", "splits", "hub"):
        assert fields(opened(tmp_path / name)) == PAIRS, name
    assert "1 column not used: score" in read(opened(tmp_path / "a.parquet"))
    assert "split train; not read: test" in read(opened(tmp_path / "hub"))
    assert fields(opened(tmp_path / "hub", split="test")) == PAIRS[:1]
    assert fields(opened(tmp_path / "hub", asked=True)) == PAIRS[:1], "questions come from the test split"
    with pytest.raises(InputError, match="no files of the split 'dev' - it has test, train"):
        opened(tmp_path / "hub", split="dev")


def read(own: OwnRows) -> str:
    list(own.records())
    return own.summary()


def test_a_conversation_keeps_its_system_message_and_its_turns(tmp_path: Path) -> None:
    (row,) = opened(put(tmp_path / "a.jsonl", lines(TALK))).records()
    assert isinstance(row, Record)
    assert (row.system, row.history, row.instruction, row.output) == ("상담원", (("하나", "둘"),), "셋", "넷")
    factory = {"system": "상담원", "instruction": "셋", "input": "", "output": "넷", "history": [["하나", "둘"]]}
    (same,) = opened(put(tmp_path / "b.jsonl", lines(factory))).records()
    assert isinstance(same, Record)
    assert (same.system, same.history, same.instruction, same.output) == (row.system, row.history, "셋", "넷")
    asked = {"messages": TALK["messages"][:4]}
    (question,) = opened(put(tmp_path / "c.jsonl", lines(asked)), asked=True).records()
    assert isinstance(question, Record)
    assert (question.instruction, question.output, question.history) == ("셋", "", (("하나", "둘"),))


def test_tool_turns_are_context_in_marks(tmp_path: Path) -> None:
    call = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    turns = [
        {"role": "user", "content": "몇 시?"},
        call,
        {"role": "tool", "content": "3"},
        {"role": "assistant", "content": "세 시"},
    ]
    (row,) = opened(put(tmp_path / "a.jsonl", lines({"messages": turns}))).records()
    assert isinstance(row, Record)
    assert row.history == (("몇 시?", '<tool_call>\n{"name": "f", "arguments": "{}"}\n</tool_call>'),)
    assert (row.instruction, row.output) == ("<tool_response>\n3\n</tool_response>", "세 시")


def turns(*said: tuple[str, Any]) -> Mapping[str, Any]:
    return {"messages": [{"role": role, "content": text} for role, text in said]}


@pytest.mark.parametrize(
    ("rows", "left_out"),
    [
        ([turns(("user", "a"), ("robot", "b"))], ["unknown_role: robot"]),
        ([turns(("user", "a"), ("system", "s"), ("assistant", "b"))], ["system_turn_after_others"]),
        ([turns(("user", None), ("assistant", "b"))], ["no_question_with_an_answer"]),
        ([turns(("user", [{"type": "image_url"}]), ("assistant", "b"))], ["turn_not_text"]),
        ([{"messages": []}], ["no_messages"]),
        ([{"messages": "말"}], ["messages_not_a_list_of_turns"]),
        ([{"messages": [{"role": "user"}]}], ["turn_without_role_or_text"]),
        ([{"instruction": None, "output": "b"}], ["empty_instruction"]),
        ([{"instruction": ["a"], "output": "b"}], ["not_text_instruction"]),
        ([{"instruction": {"a": 1}, "output": "b"}], ["not_text_instruction"]),
        ([{"instruction": "a"}], ["no_column_output"]),
        ([{"instruction": "a", "output": "b", "history": "c"}], ["history_not_pairs_of_turns"]),
        (["text", 3, None], ["not_an_object"] * 3),
    ],
)
def test_a_row_that_cannot_be_used_is_left_out_with_its_reason(
    tmp_path: Path, rows: Sequence[Any], left_out: list[str]
) -> None:
    good = turns(("user", "q"), ("assistant", "a")) if "messages" in str(rows) else {"instruction": "q", "output": "a"}
    own = opened(put(tmp_path / "a.jsonl", lines(good, *rows)))
    assert reasons(own) == left_out
    assert own.counts["read"] == 1 + len(rows)
    assert f"{len(rows)} row{'s' * (len(rows) > 1)} left out: {left_out[0]}" in own.summary()
    kept = [row for row in own.records() if not isinstance(row, Record)]
    assert all(row.record.output for row in kept), "nothing of the row is lost"


def test_numbers_are_text_and_a_line_with_more_cells_is_named(tmp_path: Path) -> None:
    own = opened(put(tmp_path / "a.csv", "prompt,completion\n1,2\na,b,c\nd\n"))
    assert fields(own) == [("1", "", "2")]
    assert reasons(own) == ["more_cells_than_columns", "no_column_completion"]
    numbers = opened(
        put(tmp_path / "a.jsonl", lines({"prompt": 3, "completion": 4.5}, {"prompt": True, "completion": "x"}))
    )
    assert fields(numbers) == [("3", "", "4.5"), ("true", "", "x")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "", "holds no rows"),
        ("a.csv", "question,answer\n", "holds no rows"),
        ("a.zip", b"PK\x03\x04", "an archive: unpack it"),
        ("a.xlsx", b"PK\x03\x04", "a workbook: save its sheet as CSV"),
        ("a.csv", b"PK\x03\x04..", "ZIP archive or a workbook"),
        ("a.bin", "x", "its form '.bin' is not known"),
        ("a.csv", b"question,answer\ncaf\xe9,b\n", r"neither UTF-8 nor CP949 \(byte 19\)"),
        ("a.jsonl", b"\xff\xfe\x00\x81\x82", "neither UTF-8 nor CP949"),
        ("a.jsonl", '{"a": 1}\n{bad\n', "line 2: not valid JSON"),
        ("a.jsonl", "[" * 100_000, "line 1: not valid JSON"),
        ("a.json", "[" * 100_000, "not valid JSON"),
        ("a.jsonl", '{"question": ' + "9" * 6_000 + "}", "line 1: not valid JSON"),
        ("a.json", '[{"instruction": "a", "output": "b"}', "the file ends inside of the list"),
        ("a.json", '[{"instruction": "a"\n "output": "b"}]', "line 2: not valid JSON"),
        ("a.csv", "a,a\n1,2\n", "two columns are called 'a'"),
        ("a.parquet", b"PAR1xx", "no parquet file"),
        ("a.arrow", b"xx", "no Arrow file"),
        ("a.jsonl", lines({"질문": "a", "답변": "b"}), "--map instruction=질문 --map output=답변"),
        ("a.jsonl", lines({"a": "x", "b": "y"}), "'a', 'b', and none of them"),
        ("a.jsonl", lines({"instruction": "x", "output": ""}), "'output' is empty in the first 1 row"),
        ("a.jsonl", lines({"question": "a", "answer": "b", **turns(("user", "a"), ("assistant", "b"))}), "OpenAI messages and as questions and answers - decide with --map"),
        ("a.jsonl", lines({"question": "a", "instruction": "x", "answer": "b"}), "--map instruction=question"),
        ("a.jsonl", lines(*ALPACA, TALK), "line 3: the rows before are Alpaca, and this one is OpenAI messages"),
        ("a.jsonl", lines(*ALPACA * 150, TALK), "line 301: the rows before are Alpaca, and this one is OpenAI messages"),
        ("a.json", json.dumps([{"id": 1, "data": {"text": "a"}, "annotations": []}]), "Label Studio's full export"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        list(opened(put(tmp_path / name, content)).records())
    assert "\n" not in str(raised.value)


def test_a_row_as_long_as_a_memory_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert LONGEST_ROW < 1 << 30
    monkeypatch.setattr("kollm.sources.own.reading.LONGEST_ROW", 1000)
    own = opened(put(tmp_path / "a.jsonl", lines(ALPACA[0], {"instruction": "a" * 5000, "output": "b"}, ALPACA[1])))
    assert fields(own) == PAIRS
    assert reasons(own) == ["line_too_long"]


@pytest.mark.parametrize(
    ("name", "content", "asked"),
    [
        ("a.txt", "하나\n\n둘\n", ["하나", "둘"]),
        ("a.csv", "아무 이름\n하나\n둘\n", ["하나", "둘"]),
        ("a.jsonl", lines({"prompt": "하나"}, {"prompt": "둘", "answer": "참고"}), ["하나", "둘"]),
    ],
)
def test_questions_need_no_answer(tmp_path: Path, name: str, content: str, asked: list[str]) -> None:
    own = opened(put(tmp_path / name, content), asked=True)
    assert [row[0] for row in fields(own)] == asked


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    for content in (json.dumps(ALPACA), lines(*ALPACA), "instruction,output\n환불은?,네\n배송은?,송장\n"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
        assert fields(opened("-")) == PAIRS


def test_ids_are_the_rows_own_or_their_places(tmp_path: Path) -> None:
    own = opened(
        put(
            tmp_path / "a.jsonl",
            lines({"id": "x", "prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}),
        ),
        name="support",
        licence="CC-BY-4.0",
    )
    rows = [row for row in own.records() if isinstance(row, Record)]
    assert [row.id for row in rows] == ["support-x", "support-1"]
    assert {row.licence for row in rows} == {"CC-BY-4.0"}
    with pytest.raises(InputError, match="--source-name 'My Rows'"):
        OwnOptions(name="My Rows")


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (["instruction"], "is no pair"),
        (["question=a"], "there is no field 'question' - use one of id, system"),
        (["instruction=c"], "has no column 'c' - it has 'a', 'b'"),
        (["output=b"], "add --map instruction=COLUMN"),
    ],
)
def test_a_wrong_map_is_one_sentence(tmp_path: Path, mapping: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        opened(put(tmp_path / "a.jsonl", lines({"a": "x", "b": "y"})), *mapping)
