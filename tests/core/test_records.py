from __future__ import annotations

import dataclasses

import pytest

from kollm.core.errors import InputError
from kollm.core.records import Original, Provenance, Record
from kollm.dataset.tables import to_records, to_table

RECORD = Record(
    id="dolly-3",
    source="dolly",
    instruction="요약하세요.",
    input="긴 글",
    output="짧은 글",
    history=(("안녕하세요?", "반갑습니다."),),
    lang="ko",
    licence="CC-BY-SA-3.0",
    original=Original("Summarise.", "long", "short", (("Hi?", "Hello."),)),
    provenance=Provenance(revision="abc", index=3, route="translate", engine="memory", mode="row", attempt=1),
)


def test_a_record_survives_its_row() -> None:
    assert Record.from_row(RECORD.to_row()) == RECORD
    bare = dataclasses.replace(RECORD, original=None, history=())
    assert Record.from_row(bare.to_row()) == bare


def test_an_unknown_or_missing_column_is_named() -> None:
    row = RECORD.to_row()
    with pytest.raises(InputError, match="unknown colour"):
        Record.from_row({**row, "colour": 1})
    row.pop("licence")
    with pytest.raises(InputError, match="missing licence"):
        Record.from_row(row)


def test_messages_keep_the_input_apart() -> None:
    roles = [(m["role"], m.get("input")) for m in RECORD.messages()]
    assert roles == [("user", None), ("assistant", None), ("user", "긴 글"), ("assistant", None)]


def test_all_texts_are_reached_by_one_walk():
    original = Original("Ask", "Context", "Answer", (("Before", "Then"),), "Be kind")
    record = Record("x-1", "x", "질문", "맥락", "대답", (("먼저", "그때"),), "친절하게", original=original)
    names = ["system", "history.0.user", "history.0.assistant", "instruction", "input", "output"]
    assert list(record.texts()) == list(original.texts()) == names
    assert record.map_texts(str.upper) == record
    assert record.map_texts(lambda text: text + "!").texts() == {
        name: f"{text}!" for name, text in record.texts().items()
    }
    assert record.english().texts() == original.texts() and record.english().english() == record.english()
    assert Record.from_row(record.to_row()) == record and to_records(to_table([record])) == [record]
    assert record.messages()[0] == {"role": "system", "content": "친절하게"}


def test_rows_and_tables_from_before_the_column_system_are_read():
    record = Record("x-1", "x", "질문", "", "대답", original=Original("Ask", "", "Answer"))
    row = record.to_row()
    del row["system"], row["original"]["system"]
    assert Record.from_row(row) == record
    assert to_records(to_table([record]).drop_columns(["system"])) == [record]
