"""Rules by hand: each with an answer that meets it and one that does not."""

from __future__ import annotations

import time

import pytest

from kollm.core.errors import InputError
from kollm.judge.rules import check_rules, follows, rule_names, share_followed


@pytest.mark.parametrize(
    ("rule", "meets", "fails"),
    [
        ({"rule": "max_characters", "value": 3}, " 세 자 ", "네 글자다"),
        ({"rule": "min_words", "value": 2}, "두 단어", "하나"),
        ({"rule": "exact_sentences", "value": 2}, "하나다. 둘이다.", "하나다."),
        ({"rule": "exact_paragraphs", "value": 2}, "가\n\n나", "가\n나"),
        ({"rule": "exact_lines", "value": 2}, "가\n나", "가"),
        ({"rule": "min_bullets", "value": 2}, "- 가\n- 나", "가, 나"),
        ({"rule": "exact_bullets", "value": 2}, "1. 가\n2) 나", "- 가"),
        ({"rule": "min_headings", "value": 1}, "## 요약\n글", "요약"),
        ({"rule": "min_bold", "value": 1}, "**강조**", "강조"),
        ({"rule": "includes", "value": ["서울", "부산"]}, "서울과 부산", "서울"),
        ({"rule": "excludes", "value": ["물론"]}, "네", "물론입니다"),
        ({"rule": "starts_with", "value": "안녕"}, "안녕하세요", "여러분 안녕"),
        ({"rule": "ends_with", "value": "끝."}, "이제 끝.", "끝. 아니다"),
        ({"rule": "json"}, '```json\n{"a": 1}\n```', "{a: 1}"),
        ({"rule": "language", "value": "ko"}, "한국어로 적은 answer", "only English"),
        ({"rule": "language", "value": "en"}, "only English", "한국어만"),
        ({"rule": "register", "value": "polite"}, "갑니다. 좋아요!", "간다. 좋다."),
        ({"rule": "register", "value": "plain"}, "간다. 좋다.", "갑니다."),
        ({"rule": "no_comma"}, "쉼표 없이", "쉼표, 있음"),
        ({"rule": "quoted"}, '"말"', "말"),
    ],
)
def test_each_rule(rule: dict[str, object], meets: str, fails: str) -> None:
    check_rules([rule], "here")
    assert follows(meets, rule) and not follows(fails, rule)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"rule": "rhymes"}, "there is no rule 'rhymes'"),
        ({"rule": "max_words", "value": "ten"}, "the value is 'ten' - give a whole number"),
        ({"rule": "max_words", "value": True}, "the value is True"),
        ({"rule": "includes", "value": "word"}, "give a list of words"),
        ({"rule": "language", "value": "fr"}, "use ko or en"),
        ({"rule": "json", "value": 1}, "it takes no value"),
        ({"rule": "json", "colour": 1}, "unknown key 'colour'"),
        ({}, "there is no rule None"),
    ],
)
def test_what_is_no_rule_gets_one_sentence(rule: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_rules([rule], "Task 1")


def test_the_share_of_rules() -> None:
    assert share_followed("가나다", [{"rule": "max_characters", "value": 3}, {"rule": "min_words", "value": 2}]) == 0.5
    assert share_followed("가나다", []) is None


@pytest.mark.parametrize("hostile", ["- ", "**", "# ", "다.", "\n\n", "  ", "1.", "니다"])
def test_hostile_answers_cost_linear_time(hostile: str) -> None:
    values = {"language": "ko", "register": "polite", "includes": ["x"], "excludes": ["x"]}
    rules = [{"rule": name, "value": values.get(name, "x" if name.endswith("with") else 3)} for name in rule_names()]

    def seconds(count: int) -> float:
        start = time.process_time()
        share_followed(hostile * count, rules)
        return time.process_time() - start

    seconds(1000)
    assert seconds(80_000) < 20 * max(seconds(20_000), 0.02)
