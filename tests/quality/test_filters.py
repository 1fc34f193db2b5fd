"""Each rule by the reason that it gives, and by what it leaves alone."""

from __future__ import annotations

import pytest

from kollm.core.errors import InputError
from kollm.core.records import Original, Provenance, Record
from kollm.quality.filters import (
    FILTERS,
    drop_reason,
    find_filters,
    mixed_register,
    paper_would_drop,
)
from kollm.quality.language import hangul_share, is_mixed
from kollm.quality.view import View

QUESTION = ("배가 언제 떠나는지 알려 주세요.", "Tell me when the ferry leaves.")
ANSWER = (
    "배는 아침 아홉 시에 항구에서 떠나 사십 분쯤 걸려 섬에 닿습니다.",
    "The ferry leaves the harbour at nine in the morning and reaches the island after forty minutes.",
)

ALSO = " Bring warm clothes, since the deck is windy even in June, and buy the ticket for the way back at the harbour."


def view(
    output: str = ANSWER[0],
    english: str = ANSWER[1],
    instruction: str = QUESTION[0],
    english_instruction: str = QUESTION[1],
    source: str = "dolly",
    route: str = "translate",
    **more: str,
) -> View:
    original = Original(english_instruction, more.get("english_input", ""), english)
    provenance = Provenance(route=route)
    return View(Record("x", source, instruction, more.get("input", ""), output, original=original, provenance=provenance))  # fmt: skip


def reason(row: View, name: str = "default") -> str | None:
    return drop_reason(row, FILTERS[name])


def test_a_sound_row_is_kept() -> None:
    assert reason(view()) is None


def test_a_number_in_a_date_of_another_form_is_not_lost() -> None:
    assert (
        reason(
            view(
                "그 배는 2020.5.12에 항구를 떠나 섬에 닿았습니다.", "In 2020 the ferry left the harbour for the island."
            )
        )
        is None
    )


@pytest.mark.parametrize(
    ("output", "english", "expected"),
    [
        (ANSWER[1], ANSWER[1], "not_korean: output"),
        ("배는 아홉 시에 <x id=\"0\"/> 떠납니다. 섬까지 사십 분 걸립니다.", ANSWER[1], "broken_placeholder: output"),
        (ANSWER[0] + " It reaches the island after forty minutes.", ANSWER[1] + " It reaches the island after forty minutes.", "english_copied: output"),
        ("배입니다.", ANSWER[1], "length_ratio: output"),
        ("배는 떠납니다. " * 40, ANSWER[1] + ALSO, "repetition: output"),
        ("1998년에 배 두 척이 있었고, 그 뒤로 더 늘지 않았습니다.", "There were two ships in 1987, and no more were built after that year.", "numbers_lost: output"),
        ("심장은 1분에 약 700번 수축하여 온몸으로 피를 밀어냅니다.", "The heart beats about 70 times in every minute that passes.", "numbers_lost: output"),
    ],
)  # fmt: skip
def test_each_rule_gives_its_reason(output: str, english: str, expected: str) -> None:
    assert reason(view(output, english)) == expected


@pytest.mark.parametrize(
    "row",
    [
        view("`git commit --amend --no-edit` 명령을 쓰세요.", "Use `git commit --amend --no-edit`."),
        view("```python\nfor name in names:\n    print(name)\n```", "```python\nfor name in names:\n    print(name)\n```"),
        view('"the quick brown fox jumps" 구절은 모든 글자를 씁니다.', 'The phrase "the quick brown fox jumps" uses all letters.'),
        view(ANSWER[1], ANSWER[1], instruction="다음 문장을 영어로 옮기세요."),
        view("Toyota, Honda, Hyundai, Volkswagen, Mercedes", "Toyota, Honda, Hyundai, Volkswagen, Mercedes"),
        view("긍정", "Positive"),
        view("300만 명이 삽니다.", "It has 3 million people."),
        view("오후 3시 30분에 만나요.", "Let us meet at 3:30 in the afternoon."),
        view("1,200원을 내고 2개를 샀습니다.", "I paid 1200 won for 2 of them."),
        view(ANSWER[1], ANSWER[1], route="keep"),
        view(input="item,price\nnotebook,3500\neraser,800", english_input="item,price\nnotebook,3500\neraser,800"),
    ],
)  # fmt: skip
def test_what_is_meant_to_be_english_or_short_is_kept(row: View) -> None:
    assert reason(row) is None


def test_english_left_in_earlier_turns_is_found() -> None:
    english = ("How long does the trip to the island take?", "It takes about forty minutes by ferry from the harbour.")
    original = Original(*QUESTION[1:], "", ANSWER[1], (english,))
    record = Record("x", "sharegpt", QUESTION[0], "", ANSWER[0], history=(english,), original=original)
    assert reason(View(record)) == "not_korean: history.0.user"


def test_a_row_that_is_korean_from_the_start_is_checked_by_itself() -> None:
    assert reason(View(Record("x", "kullm_v2", QUESTION[0], "", ANSWER[0], lang="ko"))) is None
    assert reason(View(Record("x", "kullm_v2", QUESTION[0], "", ANSWER[1], lang="ko"))) == "not_korean: output"


def test_the_papers_rules() -> None:
    short, english = view("긍정", "Positive", source="sharegpt"), view(ANSWER[1], ANSWER[1], source="sharegpt")
    assert reason(short, "paper") == "under_10_characters: output"
    assert reason(english, "paper") == "langid_english: output"
    assert reason(view(source="sharegpt"), "paper") is None


def test_the_paper_speaks_of_sharegpt_alone() -> None:
    short = view("긍정", "Positive", source="dolly")
    assert reason(short, "paper") is None
    assert reason(short, "paper-all") == "under_10_characters: output"
    assert paper_would_drop(short)
    assert not paper_would_drop(view())


def test_the_comparison_asks_langid_only_where_it_could_say_english() -> None:
    assert paper_would_drop(view(ANSWER[1], ANSWER[1]))
    mixed = "이 문장은 English words are mixed with Korean words 같은 말이 섞인 한국어 문장입니다."
    assert is_mixed(mixed) and not paper_would_drop(view(mixed, "English."))


def test_register_is_flagged_by_sentence_ends() -> None:
    formal, polite, plain = "배가 떠납니다. 바람이 붑니다.", "배가 떠나요. 바람이 불어요.", "배가 떠난다. 바람이 분다."
    assert mixed_register(view(f"{formal} {polite}"))
    assert mixed_register(view(f"{formal} {plain}"))
    assert not mixed_register(view(formal))
    assert not mixed_register(view(f"{formal} 그렇죠."))


def test_hangul_share() -> None:
    assert hangul_share("한글 abc") == pytest.approx(2 / 5)
    assert hangul_share("123 !?") == 1.0
    assert hangul_share("abc") == 0.0


def test_unknown_filters() -> None:
    with pytest.raises(InputError, match="no filter set 'strict' - use one of default, paper"):
        find_filters("strict")


@pytest.mark.parametrize(
    ("english", "korean", "kept"),
    [
        ("Buy these:\n- two loaves\n- some milk", "이것을 사세요:\n- 빵 두 덩이\n- 우유 조금", True),
        ("Buy these:\n- two loaves\n- some milk", "이것을 사세요: 빵 두 덩이와 우유 조금을 사면 됩니다", False),
        ("The sea is calm\nThe tide is full", "바다는 고요하고 물은 가득합니다", False),
        ("The sea is calm. The tide is full.", "바다는 고요합니다.\n물은 가득합니다.", False),
    ],
)
def test_lines_that_were_joined_or_divided(english: str, korean: str, kept: bool) -> None:
    found = reason(view(korean, english))
    assert found is None if kept else str(found).startswith("line_structure: output, ")


@pytest.mark.parametrize(
    ("english", "korean"),
    [
        ("The first snow whispers;\none dog stops to taste the sky,\nthen pulls me onward.", "첫눈 속삭여\n하늘 맛보던 개가\n나를 이끄네"),
        ("Happy birthday, and thank you for a great year together. From your whole team!", "생신을 축하드리며, 함께한 멋진 한 해에 감사드립니다. 팀원 일동 드림"),
        ("```python\nprint('hello')\n```\nThis prints a greeting to the terminal.", "```python\nprint('hello')\n```\n터미널에 인사말을 출력합니다."),
    ],
)  # fmt: skip
def test_sound_rows_of_the_sample_stay(english: str, korean: str) -> None:
    assert reason(view(korean, english)) is None
