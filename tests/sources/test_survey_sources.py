"""The survey's instruction sets: rows in each set's own schema, written here, become Records."""

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
from kollm.sources import SOURCES, Rejected, read_source

Row = Mapping[str, Any]


def write_jsonl(path: Path, rows: Iterable[Row]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def write_json(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


def read(name: str, path: Path, **options: Any) -> tuple[list[Record], list[Rejected]]:
    items = list(read_source(name, path, **options))
    return [i for i in items if isinstance(i, Record)], [i for i in items if isinstance(i, Rejected)]


NI_TASK = {
    "Title": "Asking when something happens",
    "Definition": "Write a question about when an event in the sentence happens.",
    "Things to Avoid": "Do not ask about anything else.",
    "Emphasis & Caution": "-",
    "Prompt": "Ask a question about the time of an event.",
    "Examples": {
        "Positive Examples": [
            {"input": "Mina ate at noon.", "output": "When did Mina eat?", "reason": "It asks for a time.", "suggestion": "-"}
        ],
        "Negative Examples": [
            {"input": "Mina ate.", "output": "What did Mina eat?", "reason": "No time.", "suggestion": "Ask when."}
        ],
    },
    "Instances": [
        {"input": "The shop opens at nine.", "output": ["When does the shop open?", "At what time is it open?"]},
        {"input": "The bus came late.", "output": ["When did the bus come?"]},
    ],
}  # fmt: skip


def test_natural_instructions_joins_the_parts_that_a_task_has_in_order(tmp_path: Path) -> None:
    path = write_json(tmp_path / "subtask001_when.json", NI_TASK)
    records, rejected = read("natural_instructions", path)
    assert rejected == []
    assert [record.id for record in records] == [
        "natural_instructions-subtask001_when-0",
        "natural_instructions-subtask001_when-1",
    ]
    instruction = records[0].instruction
    parts = ["Title: ", "Definition: ", "Things to Avoid: ", "Prompt: ", "Positive Example 1", "Negative Example 1"]
    positions = [instruction.index(part) for part in parts]
    assert positions == sorted(positions)
    assert (
        "Emphasis" not in instruction and "Suggestion: Ask when." in instruction and "Suggestion: -" not in instruction
    )
    assert (records[0].input, records[0].output) == ("The shop opens at nine.", "When does the shop open?")
    assert records[0].provenance.category == "subtask001_when"


def test_natural_instructions_without_instances_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no list 'Instances'"):
        read("natural_instructions", write_json(tmp_path / "x.json", {"Title": "x"}))


def test_super_natural_instructions_from_a_task_file_and_in_the_hubs_flat_form(tmp_path: Path) -> None:
    task = {
        "Contributors": ["A"],
        "Definition": ["Name the colour that is mentioned."],
        "Positive Examples": [{"input": "red hat", "output": "red", "explanation": "It is red."}],
        "Instances": [{"id": "task9-ab", "input": "a blue door", "output": ["blue"]}],
    }
    records, _ = read("super_natural_instructions", write_json(tmp_path / "task9_colour.json", task))
    assert [(r.id, r.instruction, r.input, r.output) for r in records] == [
        ("super_natural_instructions-task9-ab", "Name the colour that is mentioned.", "a blue door", "blue")
    ]
    flat = {
        "task_name": "task9_colour",
        "id": "task9-cd",
        "definition": "Name the colour.",
        "inputs": "a green cup",
        "targets": "green",
    }
    records, _ = read("super_natural_instructions", write_jsonl(tmp_path / "task9_colour_train.jsonl", [flat]))
    assert (records[0].instruction, records[0].input, records[0].output) == ("Name the colour.", "a green cup", "green")
    assert records[0].id == "super_natural_instructions-task9_colour_train-0"
    assert records[0].provenance.category == "task9_colour"


def test_p3_keeps_the_answer_choices_that_the_prompt_hides_and_leaves_wrong_options_out(tmp_path: Path) -> None:
    def row(text: str, target: str, choices: list[str] | None, **more: Any) -> Row:
        return {
            "inputs": [3, 1],
            "inputs_pretokenized": text,
            "targets": [9, 1],
            "targets_pretokenized": target,
            "answer_choices": choices,
            "is_correct": None,
            **more,
        }

    rows = [
        row("Is it safe or trolley? The _ was empty.", "\ntrolley", ["safe", "trolley"]),
        row("What is the mood of: I love it", "positive", ["negative", "positive"]),
        row("Summarise: It rained all day.", "It rained.", None),
        row("Is it A or B?", "A", ["A", "B"], is_correct=False),
        row("Is it A or B?", "C", ["A", "B"]),
    ]
    path = tmp_path / "train.parquet"
    pq.write_table(pa.Table.from_pylist([dict(item) for item in rows]), path)
    records, rejected = read("p3", path)
    assert [(r.input, r.output) for r in records] == [
        ("", "trolley"),
        ("- negative\n- positive", "positive"),
        ("", "It rained."),
        ("", "C"),
    ]
    assert [item.reason for item in rejected] == ["wrong_answer_option"]
    assert records[0].instruction == "Is it safe or trolley? The _ was empty."


def test_flan_keeps_its_task_as_category(tmp_path: Path) -> None:
    row = {
        "inputs": "Translate to French: cat",
        "targets": "chat",
        "_template_idx": 4,
        "_task_source": "Flan2021",
        "_task_name": "wmt14_translate/fr-en:1.0.0",
        "_template_type": "zs_noopt",
    }
    records, _ = read("flan", write_jsonl(tmp_path / "part.jsonl", [row]))
    assert (records[0].id, records[0].instruction, records[0].output) == ("flan-part-0", row["inputs"], "chat")
    assert records[0].provenance.category == "wmt14_translate/fr-en:1.0.0"


def test_instruct_wild_has_answers_in_its_first_version_only(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Give me a name for a bakery.", "input": "", "output": "Warm Crumb"},
        {"instruction": "Plan a week of dinners.", "instruction_type": "Generation", "special_tag": ""},
    ]
    records, rejected = read("instruct_wild", write_json(tmp_path / "instinwild_en.json", rows))
    assert [record.output for record in records] == ["Warm Crumb"]
    assert [item.reason for item in rejected] == ["no_column_output"]
    assert records[0].licence == "LicenseRef-non-commercial-research"


def test_open_platypus_takes_the_licence_of_each_part(tmp_path: Path) -> None:
    rows = [
        {"input": "", "output": "4", "instruction": "What is 2 + 2?", "data_source": "MATH/PRM-800K"},
        {"input": "", "output": "B", "instruction": "Which gas do plants take in?", "data_source": "scienceqa"},
        {"input": "", "output": "x", "instruction": "Something else?", "data_source": "later-part"},
    ]
    records, _ = read("open_platypus", write_jsonl(tmp_path / "p.jsonl", rows))
    assert [r.licence for r in records] == ["MIT", "CC-BY-NC-SA-4.0", "LicenseRef-by-part"]
    assert [r.lang for r in records] == ["en"] * 3


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("kopen_platypus", {"input": "", "output": "4입니다.", "instruction": "2 더하기 2는 얼마입니까?"}),
        ("koalpaca_v1", {"instruction": "봄에 피는 꽃을 하나 말해 주세요.", "input": "", "output": "개나리입니다."}),
        ("koalpaca_v1_1", {"instruction": "양파는 어디에 보관하나요?", "output": "서늘한 곳이요.", "url": "x"}),
    ],
)
def test_korean_sets_are_read_as_korean(name: str, row: Row, tmp_path: Path) -> None:
    records, _ = read(name, write_jsonl(tmp_path / "rows.jsonl", [row]))
    assert (records[0].lang, records[0].instruction, records[0].output) == ("ko", row["instruction"], row["output"])
    assert records[0].licence == SOURCES[name].licence and records[0].id == f"{name}-0"


def test_sharegpt_ko_gives_whole_conversations_or_their_first_exchange(tmp_path: Path) -> None:
    row = {
        "id": "abc_0",
        "conversations": [
            {"from": "human", "value": "대전의 빵집을 알려 줘"},
            {"from": "gpt", "value": "시장 안에 오래된 가게가 있습니다."},
            {"from": "human", "value": "몇 시에 열어?"},
            {"from": "gpt", "value": "아침 여덟 시에 엽니다."},
        ],
    }
    path = write_json(tmp_path / "ko_dataset_2.json", [row])
    (whole,), _ = read("sharegpt_ko", path)
    assert (whole.lang, len(whole.history), whole.output) == ("ko", 1, "아침 여덟 시에 엽니다.")
    (first,), _ = read("sharegpt_ko", path, turns="first")
    assert (first.history, first.output) == ((), "시장 안에 오래된 가게가 있습니다.")


KORQUAD = {
    "version": "KorQuAD_v1.0_train",
    "data": [
        {
            "title": "남산",
            "paragraphs": [
                {
                    "context": "남산은 서울 가운데에 있는 산이다. 높이는 270미터이다.",
                    "qas": [
                        {"id": "1-0", "question": "남산의 높이는?", "answers": [{"text": "270미터", "answer_start": 24}]},
                        {"id": "1-1", "question": "남산은 어디에 있는가?", "answers": [{"text": "서울 가운데", "answer_start": 4}]},
                    ],
                }
            ],
        }
    ],
}  # fmt: skip


def test_korquad_nested_and_flat_give_the_same_records(tmp_path: Path) -> None:
    nested, _ = read("korquad", write_json(tmp_path / "KorQuAD_v1.0_train.json", KORQUAD))
    assert [record.id for record in nested] == ["korquad-1-0", "korquad-1-1"]
    article = KORQUAD["data"][0]  # type: ignore[index]
    paragraph = article["paragraphs"][0]
    flat = [
        {
            "id": question["id"],
            "title": article["title"],
            "context": paragraph["context"],
            "question": question["question"],
            "answers": {"text": [question["answers"][0]["text"]], "answer_start": [4]},
        }
        for question in paragraph["qas"]
    ]
    again, _ = read("korquad", write_jsonl(tmp_path / "flat.jsonl", flat))
    assert [(r.id, r.instruction, r.input, r.output) for r in again] == [
        (r.id, r.instruction, r.input, r.output) for r in nested
    ]
    for record in nested:
        assert paragraph["context"] in record.input
        assert "270미터" in record.output + record.instruction or "서울 가운데" in record.output + record.instruction
    assert read("korquad", tmp_path / "flat.jsonl", limit=1)[0] == again[:1]


def test_a_question_without_an_answer_is_rejected(tmp_path: Path) -> None:
    row = {"id": "q", "context": "글이다.", "question": "왜?", "answers": [], "is_impossible": True}
    records, rejected = read("korquad", write_jsonl(tmp_path / "x.jsonl", [row]))
    assert records == [] and [item.reason for item in rejected] == ["no_answer"]


def test_ai_hub_knows_summaries_translations_and_labels_by_their_keys(tmp_path: Path) -> None:
    summary = {
        "name": "news",
        "documents": [
            {
                "id": "n1",
                "title": "도서관",
                "text": [[{"index": 0, "sentence": "도서관이 문을 연다."}], [{"index": 1, "sentence": "매일 연다."}]],
                "extractive": [0],
                "abstractive": ["도서관이 매일 문을 연다."],
            }
        ],
    }
    pairs = {"data": [{"sn": "S1", "ko": "안녕하세요.", "en": "Hello.", "source_language": "en"}]}
    paper = {
        "data": [
            {
                "doc_id": "P1",
                "summary_entire": [{"orginal_text": "긴 논문이다.", "summary_text": "논문이다."}],
                "summary_section": [{"orginal_text": "긴 절이다.", "summary_text": "절이다."}],
            }
        ]
    }
    for name, value in (("news", summary), ("pairs", pairs), ("paper", paper)):
        write_json(tmp_path / f"{name}.json", value)
    write_jsonl(tmp_path / "tags.jsonl", [{"doc_id": "T1", "sentence": "정확도가 올랐다.", "tag": "성능/효과"}])
    records, rejected = read("ai_hub", tmp_path)
    assert rejected == []
    assert {r.id: r.provenance.category for r in records} == {
        "ai_hub-n1": "summarization",
        "ai_hub-S1": "translation",
        "ai_hub-P1-entire-1": "summarization",
        "ai_hub-P1-section-1": "summarization",
        "ai_hub-T1": "classification",
    }
    by_id = {record.id: record for record in records}
    assert (by_id["ai_hub-S1"].input, by_id["ai_hub-S1"].output) == ("Hello.", "안녕하세요.")
    assert by_id["ai_hub-n1"].input == "도서관이 문을 연다.\n매일 연다."
    assert by_id["ai_hub-T1"].output == "성능/효과"


def test_kisti_reads_questions_and_rejects_what_it_does_not_know(tmp_path: Path) -> None:
    records, _ = read("kisti", write_json(tmp_path / "qa.json", KORQUAD))
    assert len(records) == 2 and records[0].licence == "LicenseRef-KISTI-terms"
    _, rejected = read("kisti", write_jsonl(tmp_path / "other.jsonl", [{"speech": "음성"}]))
    assert [item.reason for item in rejected] == ["no_known_annotation"]
    with pytest.raises(InputError, match="no list of rows"):
        read("kisti", write_json(tmp_path / "object.json", {"x": 1}))


@pytest.mark.parametrize("name", ["natural_instructions", "instruct_wild", "ai_hub", "kisti"])
def test_a_set_that_is_not_on_the_hub_says_where_it_is_from(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} is not on the Hub - .*--input"):
        list(read_source(name))


@pytest.mark.parametrize("name", ["p3", "flan", "super_natural_instructions"])
def test_a_huge_set_on_the_hub_is_never_read_whole(name: str) -> None:
    with pytest.raises(InputError, match="say how many rows with --limit"):
        list(read_source(name))
