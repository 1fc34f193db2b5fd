"""Texts as kollm holds them: composed, printable, with one kind of line end; and Korean file names in either form."""

from __future__ import annotations

import random
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kollm.cli import main
from kollm.core.files import read_jsonl
from kollm.core.text import (
    are_normal,
    changes,
    compose,
    existing_path,
    is_blank,
    is_normal,
    normalise,
    normalise_values,
)

KOREAN = "대한민국에서 가장 높은 산"
NFD = unicodedata.normalize("NFD", KOREAN)
FAMILY = "👨\u200d👩\u200d👧\u200d👦 가족, 🏳️\u200d🌈, 👩🏽\u200d⚕️, 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"


@pytest.mark.parametrize(
    ("text", "expected", "kinds"),
    [
        (NFD, KOREAN, {"composed_to_nfc"}),
        ("\ufeff오늘\r\n맑음\r끝\u2028.", "오늘\n맑음\n끝\n.", {"byte_order_mark_removed", "line_ends_mended"}),
        ("가\u200b나\u2060다\u200d라", "가나다라", {"zero_width_removed"}),
        ("hy\xadphen", "hyphen", {"soft_hyphens_removed"}),
        ("NUL \x00 end\x7f, \x1b[31mred\x1b[0m", "NUL  end, red", {"control_characters_removed"}),
        ("It\x92s \x93good\x94", "It’s “good”", {"control_characters_removed"}),
        (FAMILY, FAMILY, set()),
        ("می\u200cخواهم क्\u200dष", "می\u200cخواهم क्\u200dष", set()),
        ("\u200fשלום\u200e 1", "\u200fשלום\u200e 1", set()),
        ("left\u200e to \u202eright\u202c", "left to right", {"zero_width_removed"}),
        ("hidden\U000e0041\U000e0042", "hidden", {"zero_width_removed"}),
        ("ㅋㅋㅋ 웃겨요 ㅠㅠ ㄱ, ㄴ, ㅏ", "ㅋㅋㅋ 웃겨요 ㅠㅠ ㄱ, ㄴ, ㅏ", set()),
        ("ﾡￂﾤￂ", "가나", {"jamo_composed"}),
        ("ㅇㅏㄴㄴㅕㅇㅎㅏㅅㅔㅇㅛ", "안녕하세요", {"jamo_composed"}),
        ("'ㅎㅏㄴㄱㅡㄹ'을 합치면 한글이 됩니다.", "'ㅎㅏㄴㄱㅡㄹ'을 합치면 한글이 됩니다.", set()),
        ("\u110f\u110f\u110f", "ㅋㅋㅋ", {"jamo_composed"}),
        ("나랏말\u110a\u119e미", "나랏말\u110a\u119e미", set()),
        ("안녕\u3164하세요", "안녕 하세요", {"zero_width_removed"}),
        ("ｆｕｌｌ１２３", "ｆｕｌｌ１２３", set()),
        ("tab\tand\nline", "tab\tand\nline", set()),
        ("<|endoftext|> 은 글입니다", "<|endoftext|> 은 글입니다", set()),
    ],
)  # fmt: skip
def test_normalise(text: str, expected: str, kinds: set[str]) -> None:
    assert normalise(text) == expected
    assert set(changes(text)) == kinds


@given(
    st.text(max_size=40)
    | st.text(st.sampled_from("가ᄀ각ᆨㄱㅏﾡￂ\u200d\u200b👩👧️🏴\U000e0067\U000e007f\r\n\x1b[m\u115f\u3164a"), max_size=20)
)
@settings(max_examples=500)
def test_a_normalised_text_stays(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once and unicodedata.is_normalized("NFC", once)
    assert is_normal(text) <= (once == text)


@given(st.lists(st.text(st.sampled_from("a \t\r\n\x00\x7f가각ㄱe\u0301\u0323\u200d\ufeff😀é"), max_size=3), max_size=4))
def test_one_look_at_many_texts_says_what_a_look_at_each_says(texts: list[str]) -> None:
    assert are_normal(texts) == all(map(is_normal, texts))


@given(st.text(st.characters(max_codepoint=0x7F)))
def test_an_ascii_text_is_normal_where_nothing_is_to_be_changed(text: str) -> None:
    assert is_normal(text) == (normalise(text) == text)


def test_values_of_all_kinds() -> None:
    found: set[str] = set()
    row = {NFD: [{"value": "a\x00"}, 3, None, True]}
    assert normalise_values(row, found) == {KOREAN: [{"value": "a"}, 3, None, True]}
    assert found == {"composed_to_nfc", "control_characters_removed"}


@pytest.mark.parametrize("text", ["", " \n", "\u200b", "\u3164", "\u2800\ufe0f", "\u115f\u1160"])
def test_what_nobody_sees(text: str) -> None:
    assert is_blank(text) and not is_blank(text + "가")


def test_a_korean_file_name_in_either_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / unicodedata.normalize("NFD", "자료")
    folder.mkdir()
    file = folder / "문제.jsonl"
    file.write_text('{"id": 1}\n', encoding="utf-8")
    asked = tmp_path / "자료" / unicodedata.normalize("NFD", "문제.jsonl")
    assert existing_path(asked) == file and list(read_jsonl(asked)) == [{"id": 1}]
    assert existing_path(tmp_path / "자료" / "새 파일") == folder / "새 파일"
    file.write_text('{"instruction": "말해 주세요", "input": "", "output": "네, 말하겠습니다."}\n', encoding="utf-8")
    main(
        ["data", "build", "kullm_v2", f"--input=kullm_v2={asked}", "--translator", "none", "-o", str(tmp_path / "out")]
    )
    assert "1 row" in capsys.readouterr().out


def test_thousands_of_marks_over_one_letter_are_put_in_order_as_unicode_says() -> None:
    marks = [chr(code) for code in range(0x110000) if unicodedata.combining(chr(code))]
    draw = random.Random(3)
    for base in ("a", "é", "가", "\u0f73"):
        text = base + "".join(draw.choices(marks, k=400)) + "끝"
        assert compose(text) == unicodedata.normalize("NFC", text)
