"""Each source's rows become Records; what cannot be used is rejected with its reason, never lost."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kollm.core.errors import InputError
from kollm.core.records import Record
from kollm.sources import SOURCES, Rejected, adapt_batch, find_source, is_local, open_source, read_source
from kollm.sources.sharegpt import MAX_CONVERSATION
from kollm.sources.source import MAX_FIELD

Row = Mapping[str, Any]


def _write(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _read(name: str, path: Path, **options: Any) -> tuple[list[Record], list[Rejected]]:
    items = list(read_source(name, path, **options))
    return [i for i in items if isinstance(i, Record)], [i for i in items if isinstance(i, Rejected)]


def _notes(name: str, path: Path) -> dict[str, int]:
    opened = open_source(find_source(name), path)
    return dict(adapt_batch(find_source(name), opened.place, next(opened.batches)).notes)


def _talk(*turns: str, id: str = "c", names: tuple[str, str] = ("human", "gpt")) -> Row:
    return {"id": id, "conversations": [{"from": names[n % 2], "value": turn} for n, turn in enumerate(turns)]}


def test_alpaca_rows_are_known_by_their_place(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.jsonl", [{"instruction": "Add.", "input": "1 and 2", "output": 3}, {"instruction": "Say hi.", "input": None, "output": "hi"}])  # fmt: skip
    records, rejected = _read("gpt4_llm", path)
    assert rejected == []
    assert [(r.id, r.input, r.output) for r in records] == [("gpt4_llm-0", "1 and 2", "3"), ("gpt4_llm-1", "", "hi")]
    assert records[0].licence == "CC-BY-NC-4.0"
    assert records[0].provenance.revision.startswith("sha256:")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"instruction": "", "input": "", "output": "x"}, "empty_instruction"),
        ({"instruction": "x", "input": "", "output": " \n"}, "empty_output"),
        ({"instruction": "x", "input": ""}, "no_column_output"),
        ({"instruction": ["x"], "input": "", "output": "y"}, "not_text_instruction"),
        ({"instruction": "x", "input": "\ud800", "output": "y"}, "lone_surrogate"),
        ({"instruction": "x", "input": "", "output": "y" * (MAX_FIELD + 1)}, "field_too_long"),
        (["no", "object"], "not_an_object"),
        (None, "not_an_object"),
        ({}, "no_column_instruction"),
    ],
)
def test_a_row_that_cannot_be_used_is_kept_with_its_reason(tmp_path: Path, row: Any, reason: str) -> None:
    good = {"instruction": "Say hi.", "input": "", "output": "hi"}
    records, rejected = _read("gpt4_llm", _write(tmp_path / "rows.jsonl", [good, row, good]))
    assert [record.id for record in records] == ["gpt4_llm-0", "gpt4_llm-2"]
    assert [item.reason for item in rejected] == [reason]
    assert rejected[0].record.id == "gpt4_llm-1"


def test_raw_xml_and_quotes_are_text(tmp_path: Path) -> None:
    text = 'He said "<t n=\\"0\\"><x id=\'3\'/></t> & ]]>" \\u0000'
    records, _ = _read("gpt4_llm", _write(tmp_path / "x.jsonl", [{"instruction": text, "input": "", "output": text}]))
    assert records[0].instruction == text


def test_a_parquet_file_without_the_columns_rejects_each_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"question": ["a", "b"]}), tmp_path / "rows.parquet")
    records, rejected = _read("dolly", tmp_path / "rows.parquet")
    assert records == []
    assert [item.reason for item in rejected] == ["no_column_instruction"] * 2
    assert '"question": "b"' in rejected[1].record.output


def test_dolly_keeps_its_category_and_loses_citation_marks(tmp_path: Path) -> None:
    row = {
        "instruction": "What is x[0]?",
        "context": "It opened in 1998.[12] It was so large,[3][4] then. [5] See x[0] and [1](link).",
        "response": "A list item.",
        "category": "closed_qa",
    }
    path = _write(tmp_path / "d.jsonl", [row])
    (record,), _ = _read("dolly", path)
    assert record.input == "It opened in 1998. It was so large, then. See x[0] and [1](link)."
    assert record.instruction == "What is x[0]?"
    assert record.provenance.category == "closed_qa"
    assert _notes("dolly", path) == {"citation_numbers_removed": 1}


def test_a_conversation_is_one_record_with_its_history(tmp_path: Path) -> None:
    (record,), _ = _read("sharegpt", _write(tmp_path / "s.jsonl", [_talk("a", "b", "c", "d")]))
    assert record.id == "sharegpt-c"
    assert (record.history, record.instruction, record.output) == ((("a", "b"),), "c", "d")


def test_pairs_and_first_pairs(tmp_path: Path) -> None:
    path = _write(tmp_path / "s.jsonl", [_talk("a", "b", "c", "d")])
    pairs, _ = _read("sharegpt", path, turns="pairs")
    assert [(r.id, r.instruction, r.output) for r in pairs] == [
        ("sharegpt-c-t1", "a", "b"),
        ("sharegpt-c-t2", "c", "d"),
    ]
    (first,), _ = _read("sharegpt", path, turns="first")
    assert (first.id, first.instruction, first.history) == ("sharegpt-c", "a", ())


def test_turns_are_mended_and_each_mending_is_counted(tmp_path: Path) -> None:
    leading = {"id": "l", "conversations": [{"from": "gpt", "value": "Hi!"}, *_talk("a", "b")["conversations"]]}
    twice = {
        "id": "t",
        "conversations": [
            {"from": "human", "value": "a"},
            {"from": "human", "value": "b"},
            {"from": "gpt", "value": ""},
            {"from": "chatgpt", "value": "c"},
        ],
    }
    path = _write(tmp_path / "s.jsonl", [leading, twice, _talk("a", "b", "c", id="u")])
    records, rejected = _read("sharegpt", path)
    assert rejected == []
    assert [(r.instruction, r.output) for r in records] == [("a", "b"), ("a\n\nb", "c"), ("a", "b")]
    assert _notes("sharegpt", path) == {
        "leading_assistant_turn_removed": 1,
        "turns_merged": 1,
        "unanswered_last_turn_removed": 1,
    }


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"id": "x", "conversations": "text"}, "no_conversations"),
        ({"id": "x", "conversations": ["text"]}, "turn_not_an_object"),
        ({"id": "x", "conversations": [{"from": "tool", "value": "a"}]}, "unknown_speaker"),
        ({"id": "x", "conversations": [{"from": "system", "value": "a"}]}, "no_pair_of_turns"),
        ({"id": "x", "conversations": [{"from": "human", "value": ["a"]}]}, "turn_not_text"),
        ({"id": "x", "conversations": []}, "no_pair_of_turns"),
        ({"id": "x", "conversations": [{"from": "human", "value": "a"}]}, "no_pair_of_turns"),
    ],
)
def test_a_conversation_that_cannot_be_mended_is_rejected(tmp_path: Path, row: Row, reason: str) -> None:
    records, rejected = _read("sharegpt", _write(tmp_path / "s.jsonl", [row]))
    assert records == []
    assert [(item.record.id, item.reason) for item in rejected] == [("sharegpt-x", reason)]


@pytest.mark.parametrize("last", [10, MAX_CONVERSATION // 2 + 200, 3 * MAX_CONVERSATION])
def test_splitting_a_long_conversation_loses_no_pair(tmp_path: Path, last: int) -> None:
    turns = [letter * (MAX_CONVERSATION // 8) for letter in "abcdefghijkl"] + ["question", "z" * last]
    records, _ = _read("sharegpt", _write(tmp_path / "s.jsonl", [_talk(*turns)]))
    assert len(records) > 1
    assert [record.id for record in records] == [f"sharegpt-c-p{n}" for n in range(1, len(records) + 1)]
    pairs = [pair for record in records for pair in (*record.history, (record.instruction, record.output))]
    assert [text for pair in pairs for text in pair] == turns
    for record in records[:-1]:
        assert sum(len(text) for pair in record.history for text in pair) + len(record.output) <= MAX_CONVERSATION


def test_answers_that_are_pages_become_markdown(tmp_path: Path) -> None:
    html = '<div class="markdown prose"><p>Use <code>x</code>.</p></div>'
    (record,), _ = _read("sharegpt", _write(tmp_path / "s.jsonl", [_talk("<p>my code</p>", html)]))
    assert (record.instruction, record.output) == ("<p>my code</p>", "Use `x`.")


def test_a_task_has_a_record_for_each_instance(tmp_path: Path) -> None:
    rows = [
        {"id": "t0", "motivation_app": "Gmail", "instruction": "Do.", "instances": [{"input": "a", "output": "b"}, {"input": "c", "output": "d"}]},
        {"id": "t1", "instruction": "Do.", "instances": {"input": ["a"], "output": ["b"]}},
        {"id": "t2", "instruction": "Do.", "instances": []},
    ]  # fmt: skip
    records, rejected = _read("human_eval", _write(tmp_path / "h.jsonl", rows))
    assert [(r.id, r.input, r.output, r.provenance.category) for r in records] == [
        ("human_eval-t0", "a", "b", "Gmail"),
        ("human_eval-t0-i2", "c", "d", "Gmail"),
        ("human_eval-t1", "a", "b", ""),
    ]
    assert [item.reason for item in rejected] == ["no_instances"]


def test_self_instruct_reads_prompts_too(tmp_path: Path) -> None:
    (record,), _ = _read("self_instruct", _write(tmp_path / "s.jsonl", [{"prompt": "a", "completion": "b"}]))
    assert (record.instruction, record.output) == ("a", "b")


def test_kullm_rows_have_the_licence_of_their_part(tmp_path: Path) -> None:
    rows = [{"id": f"{part}_1", "instruction": "하나", "input": "", "output": "둘"} for part in ("dolly", "alpaca", "vicuna")]  # fmt: skip
    records, _ = _read("kullm_v2", _write(tmp_path / "k.jsonl", rows))
    assert [r.licence for r in records] == ["CC-BY-SA-3.0", "CC-BY-NC-4.0", "LicenseRef-OpenAI-terms"]
    assert {r.lang for r in records} == {"ko"}


def test_an_id_that_occurs_twice_gets_its_place(tmp_path: Path) -> None:
    path = _write(tmp_path / "s.jsonl", [_talk("a", "b"), _talk("c", "d")])
    assert [record.id for record in _read("sharegpt", path)[0]] == ["sharegpt-c", "sharegpt-c-r1"]


def test_unknown_sources_and_revisions_of_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no source 'dollly' - use one of"):
        list(read_source("dollly"))
    path = _write(tmp_path / "a.jsonl", [])
    with pytest.raises(InputError, match="names a commit on the Hub"):
        list(read_source("dolly", path, revision="abc"))


@pytest.mark.parametrize(
    ("input", "local"),
    [
        ("rows.jsonl", True),
        ("data/rows.parquet", True),
        ("/absolute/rows", True),
        ("rows", True),
        ("beomi/KoAlpaca-v1.1a", False),
        ("lab/dolly", False),
        (Path("lab/dolly"), True),
    ],
)
def test_a_hub_id_may_hold_a_dot(input: str | Path, local: bool) -> None:
    assert is_local(input) is local


def test_every_source_has_what_the_card_needs() -> None:
    for source in SOURCES.values():
        assert source.title and source.licence and source.name == source.name.lower()
        assert source.split == "test" or source.terms or source.licence in ("Apache-2.0", "CC-BY-4.0"), source.name
