"""Hand-checked translation: five detectors, the review file, and corrections that come back on every build."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kollm.core.errors import InputError
from kollm.core.records import Original, Provenance, Record
from kollm.quality.review import CORRECTED, DETECTORS, find_hits, read_review, replay, write_review

CODE = "def area(r):\n    return 3.14 * r * r"

PAIRS = [
    ("code_only", f"```python\n{CODE}\n```", f"```파이썬\n{CODE}\n```"),
    (
        "code_with_text",
        f"Run this:\n```\n{CODE}\n```",
        "이것을 실행하세요:\n```\n정의 영역(r):\n    반환 3.14 * r * r\n```",
    ),
    ("code_with_text", "Call `input()` once.", "`입력()`을 한 번 부르세요."),
    ("decimals", "It weighs 3.75 kilograms.", "무게는 375킬로그램입니다."),
    ("math_symbols", "Solve $x^2 + 1 = 0$ for x.", "x에 대해 x2 + 1 = 0을 푸십시오."),
    ("math_symbols", r"Use \frac{1}{2} here.", "여기서 분수{1}{2}를 쓰세요."),
    ("math_symbols", "Show that a ≤ b.", "a < b임을 보이세요."),
    ("untranslated_or_cut", "Write a short letter to your landlord.", "Write a short letter to your landlord."),
    (
        "untranslated_or_cut",
        "Say it again. Then the committee will look at the report.",
        "다시 말하세요. Then the committee will look at the report.",
    ),
    ("untranslated_or_cut", "The river rose in the night and took the bridge with it. " * 4, "강이 밤에"),
    ("untranslated_or_cut", "Use this.\n```\nx\n```\nThen stop.", "이것을 쓰세요.\n```\nx\n"),
]


@pytest.mark.parametrize(("kind", "english", "korean"), PAIRS)
def test_each_kind_of_error_is_found(kind: str, english: str, korean: str) -> None:
    assert DETECTORS[kind](english, korean) is not None


@pytest.mark.parametrize(
    ("english", "korean"),
    [
        (CODE, CODE),
        (f"Run this:\n```\n{CODE}\n```", f"이것을 실행하세요:\n```\n{CODE}\n```"),
        ("It weighs 3.75 kilograms.", "무게는 3.75킬로그램입니다."),
        ("Solve $x^2 + 1 = 0$ for x.", "$x^2 + 1 = 0$을 x에 대해 푸세요."),
        ("Read the book The Old Man and the Sea.", "책 '노인과 바다(The Old Man and the Sea)'를 읽으세요."),
        ("What is HTML?", "HTML이란 무엇입니까?"),
        ("Good.", "좋아요."),
        ("", ""),
    ],
)
def test_a_good_translation_raises_nothing(english: str, korean: str) -> None:
    assert {kind: hit for kind, detect in DETECTORS.items() if (hit := detect(english, korean))} == {}


def record(number: int, english: str, korean: str, answer: str = "네.") -> Record:
    return Record(
        id=f"alpaca-{number}",
        source="alpaca",
        instruction=korean,
        input="",
        output=answer,
        lang="ko",
        original=Original(english, "", "Yes."),
        provenance=Provenance(engine="deepl"),
    )


RECORDS = [
    record(0, "Is it raining?", "비가 오나요?"),
    record(1, "It costs 2.50 dollars.", "250달러입니다."),
    record(2, "Solve a ≤ b with 1.5.", "Solve it with 15 now."),
]


def edit(path: Path, name: str, **values: object) -> None:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        if row["id"] == name:
            row.update(values)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def test_the_review_file_holds_the_rows_with_hits_worst_first(tmp_path: Path) -> None:
    path = tmp_path / "review.jsonl"
    assert write_review(path, RECORDS) == 2
    items = list(read_review(path).values())
    assert [item.id for item in items] == ["alpaca-2", "alpaca-1"]
    assert {hit.kind for hit in items[0].errors} == {"decimals", "math_symbols", "untranslated_or_cut"}
    assert items[1].english["instruction"] == "It costs 2.50 dollars."
    assert find_hits(replace(RECORDS[1], original=None)) == []


def test_corrections_are_replayed_whatever_the_machine_says_next_time(tmp_path: Path) -> None:
    path = tmp_path / "review.jsonl"
    write_review(path, RECORDS)
    edit(path, "alpaca-1", corrected={"instruction": "2.50달러입니다."})
    edit(path, "alpaca-2", decision="drop")
    corrections = read_review(path)
    again = [RECORDS[0], replace(RECORDS[1], instruction="이 달러 오십입니다."), RECORDS[2]]
    assert again[0].id not in corrections
    corrected, dropped = [replay(item, corrections[item.id]) for item in again[1:]]
    assert dropped.what == "dropped" and corrected.what == "corrected"
    assert (corrected.record.instruction, corrected.record.output) == ("2.50달러입니다.", "네.")
    assert corrected.record.provenance.engine == "deepl" + CORRECTED


def test_a_decision_for_another_english_text_is_stale_and_not_replayed(tmp_path: Path) -> None:
    path = tmp_path / "review.jsonl"
    write_review(path, RECORDS)
    edit(path, "alpaca-1", corrected={"instruction": "2.50달러입니다."})
    changed = record(1, "It costs 9.99 dollars.", "9.99달러입니다.")
    assert replay(changed, read_review(path)[changed.id]) == (changed, "stale")


def test_reviewing_again_keeps_what_was_decided(tmp_path: Path) -> None:
    path = tmp_path / "review.jsonl"
    write_review(path, RECORDS)
    edit(path, "alpaca-1", corrected={"instruction": "2.50달러입니다."})
    edit(path, "alpaca-2", decision="keep")
    assert write_review(path, [RECORDS[0], record(3, "Add 0.1.", "01을 더하세요.")]) == 1
    items = read_review(path)
    assert list(items) == ["alpaca-3", "alpaca-2", "alpaca-1"]
    assert items["alpaca-1"].corrected == {"instruction": "2.50달러입니다."} and items["alpaca-2"].decision == "keep"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"decision": "maybe"}, "row 2: decision 'maybe' - write keep, drop or nothing"),
        ({"corrected": {"outptu": "x"}}, "row 2: corrected has 'outptu' - its fields are instruction, input, output"),
        ({"verdict": "x"}, "row 2: no line of a review file"),
        ({"id": "alpaca-2"}, "row 2: the id 'alpaca-2' occurs twice"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_row(values: dict[str, object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "review.jsonl"
    write_review(path, RECORDS)
    edit(path, "alpaca-1", **values)
    with pytest.raises(InputError, match=message):
        read_review(path)
