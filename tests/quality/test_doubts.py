"""No rule says anything about a row that is told clean beforehand."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kollm.core.records import Original, Provenance, Record
from kollm.quality import completeness, filters, language, leftovers, mojibake, numbers, refusals
from kollm.quality.doubts import _DOUBTS, find_doubts
from kollm.quality.estimates import FLAGGED, doubtful
from kollm.quality.filters import FILTERS, drop_reason, drop_reasons, mixed_register
from kollm.quality.flags import repeated_share
from kollm.quality.signs import END, Signs, signs
from kollm.quality.view import View
from kollm.translate.structure import NUMBER, STRUCTURES
from tests.quality.labelled.translations import labelled

RULES: dict[str, Callable[[View], object]] = {rule.__name__: rule for rule in FILTERS["default"].rules}
RULES |= {"mixed_register": mixed_register, "doubtful": lambda view: doubtful(view).score >= FLAGGED}
PATTERNS: dict[str, list[re.Pattern[str]]] = {
    "model_speaks": [refusals._SELF, refusals._DECLINE],
    "broken_placeholder": [leftovers._MASKS],
    "mojibake": [mojibake._SURE, mojibake._SUSPECT, mojibake._QUESTION_MARKS, mojibake._BOXES],
    "translator_refused": [leftovers._REFUSED, refusals._SELF, refusals._DECLINE],
    "prompt_leak": [leftovers._TOKENS, leftovers._OPENING, leftovers._CLOSING],
    "not_korean": [language._WORDS, language._OTHER, language._LATIN],
    "english_copied": [language._WORDS],
    "other_script": [language._OTHER],
    "markup_added": [leftovers._ENTITY, leftovers._TAG],
    "numbers_lost": [numbers._ENGLISH_SCALED, numbers._KOREAN_SCALED, NUMBER],
    "doubtful": [numbers._ENGLISH_SCALED, numbers._KOREAN_SCALED, NUMBER],
    "cut_off": [completeness._UNFINISHED, completeness._VERB_ENDING],
    "mixed_register": list(filters._STYLES.values()),
}
WORDS = [
    *("The ship", " leaves", " at", " nine", ". ", "3", "5.5", "1,000", " million", " ", "\n", "- ", "# ", "| a | b |\n", "?"),
    *("배가", "정말 " * 40, " 아홉", " 시에", " 떠납니다", "떠난다", "떠나요", ".", ",", "3백만", "はい", "é", "`x = 1`", "$x$", "50%", "%d", "```"),
    *("https://example.com/a", "{name}", "\\begin{math}", "a@b.cd"),
    *(needle for kind in STRUCTURES for needle in kind.needles),
]  # fmt: skip
LONG = "A long and plain sentence that says little else."


def made(english: str, korean: str, name: str = "output", source: str = "dolly") -> View:
    """A translated row with these texts in one field."""
    texts = {name: (english, korean), **({"instruction": ("A question?", "질문인가요?")} if name == "output" else {})}
    asked, answer = (texts.get(field, ("An answer.", "답변입니다.")) for field in ("instruction", "output"))
    original = Original(asked[0], "", answer[0])
    provenance = Provenance(route="translate", engine="made")
    return View(Record("x", source, asked[1], "", answer[1], lang="ko", original=original, provenance=provenance))


CLEAN = made("The ship leaves at nine.", "배가 아홉 시에 떠납니다.")


@functools.cache
def texts_for(name: str) -> st.SearchStrategy[str]:
    """Texts with what a rule looks for; making a strategy takes longer than an example."""
    found = [st.from_regex(pattern) for pattern in PATTERNS.get(name, ())]
    mixed = st.lists(st.one_of(st.sampled_from(WORDS), *found), max_size=8).map("".join)
    return st.one_of(mixed, mixed.map(lambda written: LONG + written), mixed.map(lambda written: written + LONG))


@pytest.mark.parametrize("name", RULES)
@given(data=st.data())
@settings(max_examples=50)
def test_a_row_without_doubt_is_clean(name: str, data: st.DataObject) -> None:
    text = texts_for(name)
    field, source = (
        data.draw(st.sampled_from(["instruction", "output"])),
        data.draw(st.sampled_from(["dolly", "sharegpt"])),
    )
    view = made(data.draw(text), data.draw(text), field, source)
    doubted = find_doubts([CLEAN, view, CLEAN])[name]
    if RULES[name](view):
        assert doubted[1]


REPEATING = st.builds(
    lambda said, times, again, whole: (said * times + again) * whole,
    st.text(st.sampled_from("abc가나다라 ,_😀𝐀"), min_size=1, max_size=40),
    st.integers(1, 12),
    st.text(st.sampled_from("abcdefgh가나다라마바사 \n"), max_size=60),
    st.sampled_from([1, 1, 2, 3]),
)


@given(texts=st.lists(REPEATING, min_size=3, max_size=3))
@settings(max_examples=300)
def test_a_text_without_doubt_repeats_itself_less_than_the_rule_allows(texts: list[str]) -> None:
    views = [made("The ship leaves at nine.", text) for text in texts]
    doubted = find_doubts(views)["repetition"]
    for view, doubt in zip(views, doubted, strict=True):
        many_repeated = any(repeated_share(text) >= completeness.REPEATED for text in view.korean.values())
        assert doubt or not many_repeated


def test_a_text_is_not_doubted_for_its_length_alone() -> None:
    prose = " ".join(f"배가 {number}번 항구를 떠나 섬으로 {number * 7} 킬로미터를 갑니다." for number in range(40))
    long = "".join(map(chr, range(0xAC00, 0xAC00 + 11_000))) + "가" * 11_000
    views = [made("The ship leaves.", text) for text in (prose, "가나다 " * 40, long, long[::-1])]
    assert find_doubts(views)["repetition"].tolist() == [False, True, True, True]


def test_none_of_the_labelled_rows_is_dropped_without_doubt() -> None:
    views = [view for _, view in labelled()]
    doubts = find_doubts(views)
    assert drop_reasons(views, FILTERS["default"], doubts) == [drop_reason(view, FILTERS["default"]) for view in views]
    for name, rule in RULES.items():
        assert all(doubted for view, doubted in zip(views, doubts[name], strict=True) if rule(view)), name
        assert doubts[name].mean() < 1, "it spares no row"


def test_every_doubt_is_about_a_rule() -> None:
    assert {*_DOUBTS} <= {*RULES}
    assert find_doubts([]).keys() == find_doubts([CLEAN]).keys()


def test_a_filter_set_for_some_sources_leaves_the_others_alone() -> None:
    views = [made("Yes.", "네.", source=source) for source in ("dolly", "sharegpt")]
    assert drop_reasons(views, FILTERS["paper"], find_doubts(views)) == [None, "under_10_characters: instruction"]
    assert drop_reasons(views, FILTERS["none"], {}) == [None, None]


SIGNS = Signs({"two": signs("ab 가나"), "one": [("x",)], "end": [(".", END)], "class": [("0123", "가나")]})


@given(st.lists(st.text(st.sampled_from("abx가나.01😀\ud800")), max_size=6))
def test_signs_are_those_of_each_text_alone(texts: list[str]) -> None:
    look = SIGNS.look(texts)
    for number, text in enumerate(texts):
        held = {name for name in ("two", "one", "end", "class") if look.holds(name)[number]}
        patterns = {"two": "ab|가나", "one": "x", "end": r"\.\Z", "class": "[0-3][가나]"}
        assert held == {name for name, pattern in patterns.items() if re.search(pattern, text)}
        for name, pattern in patterns.items():
            assert look.count(name)[number] == len(re.findall(f"(?={pattern})", text))
        assert look.lengths[number] == len(text)
