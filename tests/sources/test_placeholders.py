"""Rows that say with words that a field is empty, odd text at the door, and what `original` keeps."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from kollm.core.records import Record
from kollm.dataset.folder import read_any_records, read_records
from kollm.dataset.pipeline import SourceInput, build_dataset
from kollm.sources import Rejected, read_source
from kollm.sources.placeholders import is_no_input, is_no_output, runs_on


@pytest.mark.parametrize(
    "text",
    [
        *("noinput", "No input.", "<noinput>", "`<noinput>`", "< noinput >", "NoInput", "no_input", "N/A", "None", "nan"),
        *("null", "-", "(empty)", "No input provided.", "no additional input", "[None]", "입력 없음", "(없음)", "해당 없음"),
    ],
)  # fmt: skip
def test_inputs_that_are_none(text: str) -> None:
    assert is_no_input(text)


@pytest.mark.parametrize(
    "text", ["", "[]", "None of them came.", "no inputs were found in the file", "0", "nano", "- a", "...", "없음표", "{}", '""']
)  # fmt: skip
def test_inputs_that_are_some(text: str) -> None:
    assert not is_no_input(text)


def test_outputs_that_are_none() -> None:
    assert all(map(is_no_output, ["<nooutput>", "<No Output>", "nooutput", "No output.", "nan", "(empty)", "<None>"]))
    assert not any(map(is_no_output, ["None", "N/A", "No", "null", "No answer", "Empty", "No outputs differ."]))
    assert runs_on("It depends.\n###\n12. Instruction: Find the verb.\n12. Input:\nThe dog ran.")
    assert not runs_on("1. Instruction: it is read first.\n2. Input: it is taken.\n3. Output: it is shown.")


def write(path: Path, rows: list[object]) -> Path:
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def row(number: int, **changes: object) -> dict[str, object]:
    return {"instruction": f"Tell me about thing {number}.", "input": "", "output": f"It is thing {number}.", **changes}


def test_what_is_emptied_and_what_is_left_out(tmp_path: Path) -> None:
    file = write(
        tmp_path / "rows.json",
        [
            row(0, input="<noinput>"),
            row(1, output="<nooutput>"),
            row(2, output="\u200b"),
            row(3, output="\u3164"),
            row(4, output="Yes.\n###\n12. Instruction: Find it.\n12. Output:\nran"),
        ],
    )
    report = build_dataset(
        [SourceInput("gpt4_llm", file)], translator="none", filters="none", output=tmp_path / "out", against=()
    )
    assert report.rows == {"gpt4-llm": 1}
    assert report.dropped == {"empty_output": 2, "placeholder_output": 1, "run_on_output": 1}
    assert next(read_records(tmp_path / "out")).input == ""
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["mended"] == {"placeholder_input_emptied": 1, "zero_width_removed": 2}
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "| placeholder_input_emptied | 1 |" in card


def test_original_keeps_what_was_read(tmp_path: Path) -> None:
    question = "대한민국에서 가장 높은 산을 알려 주세요."
    answer = "가장 높은 산은 한라산이며 높이는 1,947미터입니다."
    forms = [
        {"instruction": question, "input": "", "output": answer},
        {"instruction": unicodedata.normalize("NFD", question), "input": "", "output": answer},
        {"instruction": question.replace(" ", "\u200b "), "input": "", "output": answer},
        {"instruction": "다른 질문입니다. 답해 주세요.\r\n둘째 줄", "input": "", "output": "\ufeff다른 답입니다."},
    ]
    report = build_dataset(
        [SourceInput("koalpaca_v1", write(tmp_path / "rows.json", forms))],
        translator="none", output=tmp_path / "out", against=(),
    )  # fmt: skip
    assert report.rows == {"koalpaca-v1": 2} and report.dropped == {"duplicate_exact": 2}
    kept, other = read_records(tmp_path / "out")
    assert kept.original is None and not kept.translated
    assert (other.instruction, other.output) == ("다른 질문입니다. 답해 주세요.\n둘째 줄", "다른 답입니다.")
    assert other.original is not None and not other.translated and other.english() == other
    assert (other.original.instruction, other.original.output) == (forms[3]["instruction"], forms[3]["output"])
    twin = next(item for item in read_any_records(tmp_path / "out", "rejected") if item.id == "koalpaca_v1-1")
    assert twin.instruction == question and twin.original is not None
    assert twin.original.instruction == forms[1]["instruction"]


def test_a_masked_row_keeps_nothing_of_what_was_read(tmp_path: Path) -> None:
    talk = [
        {"from": "human", "value": "Write to me\u200b please."},
        {"from": "gpt", "value": "To kim.minsu@naver.com?"},
    ]
    file = write(tmp_path / "talk.json", [{"id": "a", "conversations": talk}])
    build_dataset(
        [SourceInput("sharegpt", file)], translator="none", filters="none", output=tmp_path / "out", against=()
    )
    (record,) = read_records(tmp_path / "out")
    assert record.original is None and "naver.com" not in json.dumps(record.to_row())


def test_rows_of_the_same_text_have_the_same_id_in_any_form(tmp_path: Path) -> None:
    rows = [row(0, id=unicodedata.normalize("NFD", "가")), row(1)]
    found = list(read_source("gpt4_llm", write(tmp_path / "rows.json", rows)))
    assert [item.id for item in found if isinstance(item, Record)] == ["gpt4_llm-가", "gpt4_llm-1"]
    assert not any(isinstance(item, Rejected) for item in found)
