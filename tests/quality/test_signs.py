"""Cheap looks before costly patterns: none hides what its pattern finds."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kollm.quality import leftovers, refusals
from kollm.translate.routing import Rule, _any_of, load_rules
from kollm.translate.structure import STRUCTURES, _possible, _seen, possible_structures

PAIRS = [
    (refusals._SELF, refusals._SELF_SIGNS),
    (refusals._DECLINE, refusals._DECLINE_SIGNS),
    (leftovers._REFUSED, leftovers._REFUSED_SIGNS),
]


@pytest.mark.parametrize(("pattern", "signs"), PAIRS, ids=["speaks", "declines", "refused"])
@given(data=st.data())
@settings(max_examples=200)
def test_a_text_that_the_pattern_finds_has_a_sign(
    pattern: re.Pattern[str], signs: re.Pattern[str], data: st.DataObject
) -> None:
    alphabet = st.characters(codec="utf-8", exclude_characters="ıſK")  # which only look like i, s and k
    text = data.draw(st.from_regex(pattern, alphabet=alphabet))
    assert signs.search(text.casefold())


@given(
    st.lists(st.sampled_from([needle for kind in STRUCTURES for needle in kind.needles] + ["a", ".", " ", "가", "\n"]))
)
def test_the_kinds_of_a_text_are_those_whose_needles_it_holds(pieces: list[str]) -> None:
    text = "".join(pieces)
    held = [kind for kind in STRUCTURES if any(needle in text for needle in kind.needles)]
    assert _possible(text, _seen(text)) == held
    assert [kind.name for kind in possible_structures(text, {"URL"})] == ["URL"] * ("URL" in [k.name for k in held])


PLAIN = {
    "format string": r"(?<![\d%\w])%(?:\([\w ]{1,40}\))?[-+0#]*(?:\d+|\*)?(?:\.\d+)?(?:ll|hh|[hlLzjt])?[A-Za-z]\b|(?<=[^\d%\s])%[A-Za-z]\b|%%",
    "name in code": r"(?<!\w)[A-Za-z][A-Za-z0-9]{0,40}(?:_[A-Za-z0-9]{1,40}){1,8}(?:\(\))?(?![A-Za-z0-9_])|(?<![\w.])[A-Za-z][\w.]{0,60}\(\)",
}
"""Two kinds of structure as one would write them; STRUCTURES has what is sought in half of the time."""


@pytest.mark.parametrize("name", PLAIN)
@given(st.lists(st.sampled_from([*"aB1_%()-+0#*.lh \n가é", "()", "a" * 41, "b" * 61])).map("".join))
@settings(max_examples=300, deadline=None)
def test_a_quick_pattern_finds_what_the_plain_one_does(name: str, text: str) -> None:
    find = next(kind.find for kind in STRUCTURES if kind.name == name)
    assert list(find(text)) == [match.span() for match in re.finditer(PLAIN[name], text)]


@pytest.mark.parametrize("rule", load_rules(), ids=lambda rule: rule.name)
@given(data=st.data())
@settings(max_examples=20)
def test_one_look_for_all_rules_misses_none(rule: Rule, data: st.DataObject) -> None:
    joined = _any_of([item.instruction for item in load_rules()])
    assert joined is not None
    assert joined.search(data.draw(st.from_regex(rule.instruction)))


def test_rules_that_cannot_be_joined_are_looked_for_one_by_one() -> None:
    for patterns in ([], ["(?i)a", "(?i)b"], ["(a)", "b"], ["(?i)a", "b"]):
        assert _any_of([re.compile(pattern) for pattern in patterns]) is None
