"""The default rules by the reasons that they give, on forms that the labelled rows do not hold."""

from __future__ import annotations

import pytest

from kollm.core.records import Record
from kollm.quality.estimates import estimates
from kollm.quality.filters import FILTERS, drop_reason
from kollm.quality.language import hangul_share
from kollm.quality.numbers import missing_numbers
from kollm.quality.view import View
from tests.quality.labelled.translations import make_view

ASKED = ("Explain how tides work.", "조수가 어떻게 생기는지 설명하세요.")
ENGLISH = (
    "The Moon pulls on the ocean and raises a bulge of water on the near side. Another bulge forms on the far side, so most "
    "coasts see 2 high tides a day, about 12 hours apart."
)
KOREAN = (
    "달이 바다를 끌어당겨 가까운 쪽에 물이 부풀어 오릅니다. 반대쪽에도 부푼 곳이 생기므로 대부분의 해안에서는 하루에 두 번, "
    "약 12시간 간격으로 만조가 나타납니다."
)


def reason(korean: str, english: str = ENGLISH) -> str | None:
    return drop_reason(make_view((ASKED[0], english), (ASKED[1], korean)), FILTERS["default"])


@pytest.mark.parametrize(
    ("korean", "expected"),
    [
        ("죄송합니다, 저는 그 요청을 도와드릴 수 없습니다.", "translator_refused: output"),
        ("I can’t help with that.", "translator_refused: output"),
        (f"아래는 번역된 텍스트입니다:\n\n{KOREAN}", "line_structure: output, 1 line became 3"),
        (f"번역 결과는 다음과 같습니다: {KOREAN}", "prompt_leak: output"),
        (f"<translation>{KOREAN}</translation>", "prompt_leak: output"),
        (f"{KOREAN} (역주: 조수는 밀물과 썰물을 말함)", "prompt_leak: output"),
        (f"{KOREAN}<|endoftext|>", "prompt_leak: output"),
        (f"{KOREAN[:30]}ë°”ë‹¤{KOREAN[30:]}", "mojibake: output"),
        ("¹Ù´Ù´Â ³ÐÀ¸¸ç ¾Æ¸§´ä½À´Ï´Ù.", "mojibake: output"),
        ("\\ub2ec\\uc774 \\ubc14\\ub2e4\\ub97c 끌어당깁니다.", "mojibake: output"),
        ("?? ??? ???? ?? ?? ?? ????.", "mojibake: output"),
        (KOREAN.replace("바다", "바다&rsquo;"), "markup_added: output"),
        (KOREAN.replace("12", "<1>"), "broken_placeholder: output"),
        (f"<div>{KOREAN}</div>", "markup_added: output"),
        ("月球牵引海洋，在近侧形成隆起。远侧也会形成另一个隆起。", "not_korean: output"),
        ("月は海を引っ張り、近い側に水の膨らみを作ります。", "not_korean: output"),
        ("La Luna tira del océano y levanta un abultamiento de agua en el lado cercano.", "not_korean: output"),
        (KOREAN.replace("바다를", "海洋을"), "other_script: output"),
        (KOREAN.replace("12시간", "21시간"), "numbers_changed: output"),
        (KOREAN[:60], "cut_off: output"),
        (KOREAN[:75], "cut_off: output"),
    ],
)
def test_what_translators_do_wrong_has_a_reason(korean: str, expected: str) -> None:
    assert reason(korean) == expected


@pytest.mark.parametrize(
    "korean",
    [
        KOREAN,
        KOREAN.replace("두 번", "2번"),
        KOREAN.replace("12시간", "열두 시간"),
        KOREAN.replace("달이", "달(月)이"),
        f"{KOREAN} 도움이 되셨나요?",
    ],
)
def test_what_a_faithful_translation_may_do_has_none(korean: str) -> None:
    assert reason(korean) is None


@pytest.mark.parametrize(
    ("korean", "english", "expected"),
    [
        ("이 도시에는 55만 명이 삽니다.", "About 5.5 million people live in this city.", "numbers_changed: output"),
        ("이 도시에는 550만 명이 삽니다.", "About 5.5 million people live in this city.", None),
        ("거리는 1억 5천만 킬로미터입니다.", "The distance is 150 million kilometers.", None),
        ("자세한 내용은 웹사이트를 보세요.", "See https://example.org/a for all details.", "structure_lost: output"),
        ("`input ()`을 쓰세요.", "Write `input()` there.", None),
        ("{이름} 님, 안녕하세요.", "Hello {name}, good morning.", "structure_lost: output"),
        ("죄송하지만 지금은 도와드릴 수 없습니다.", "I am sorry, but I cannot help you now.", None),
        ("번역: 루터는 성경을 옮겼다.", "Translation: Luther rendered the Bible.", None),
    ],
)
def test_each_is_compared_with_its_english(korean: str, english: str, expected: str | None) -> None:
    assert reason(korean, english) == expected


def test_answers_in_other_scripts_are_not_korean_without_an_english_to_compare_with() -> None:
    for asked, told in (
        ("请用三句话介绍一下这座城市。", "这座城市历史悠久。它曾是都城。"),
        ("この町の歴史を書いてください。", "この町は古い港町です。"),
        ("Расскажите об этом городе.", "Город основан давно."),
    ):
        row = View(Record("x", "sharegpt_ko", asked, "", told, lang="ko"))
        assert drop_reason(row, FILTERS["default"]) == "not_korean: instruction"
        korean = View(Record("x", "sharegpt_ko", "도시에 대해 알려 주세요.", "", told, lang="ko"))
        assert drop_reason(korean, FILTERS["default"]) == "not_korean: output"


def test_letters_of_all_scripts_count() -> None:
    assert hangul_share("한글 漢字") == pytest.approx(0.5)
    assert hangul_share("한글 кириллица") == pytest.approx(2 / 11)
    assert hangul_share("한글 αβγ") == 1.0


def test_numbers_are_found_in_words() -> None:
    assert missing_numbers("3 apples, 12 months, 25 people, 50%", "사과 세 개, 열두 달, 스물다섯 명, 절반") == []
    assert missing_numbers("7 days and 1908", "일주일과 천구백팔") == []
    assert missing_numbers("10 percent", "열대우림의 일부") == ["10"]


def test_estimates_are_flags_with_scores() -> None:
    told = "달이 바다를 끌어당겨 가까운 쪽에 물이 부풀어 오릅니다."
    (answered,) = estimates(make_view(("What makes the tides?", ENGLISH), (told, KOREAN)))
    assert (answered.kind, answered.field, answered.score) == ("answered", "instruction", 0.95)
    row = make_view(("What makes the tides?", "The Moon."), ("달이 조수를 만듭니다.", "달입니다."))
    assert [(item.kind, item.score) for item in estimates(row)] == [("answered", 0.7)]
    assert estimates(make_view((ASKED[0], ENGLISH), (ASKED[1], KOREAN))) == []
