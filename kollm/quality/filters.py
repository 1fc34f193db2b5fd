"""Why a translated row is dropped: each rule is a function from a row to a reason, or None to keep it.

`paper` is what the paper did (Section 4.9: ShareGPT alone, by langid and length), `paper-all` the same for every source,
`default` compares the Korean with the English it came from, code, formulas and quotations left out. Its rules stand in
`leftovers`, `mojibake`, `language`, `numbers` and `completeness`; what can only be estimated stands in `estimates` and
drops nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kollm.core.errors import InputError
from kollm.quality.completeness import cut_off, length_ratio, repetition, structure_lost
from kollm.quality.identifier import load_identifier
from kollm.quality.language import english_copied, is_mixed, not_korean, other_script
from kollm.quality.leftovers import broken_placeholder, markup_added, prompt_leak, translator_refused
from kollm.quality.mojibake import mojibake
from kollm.quality.numbers import numbers_lost
from kollm.quality.refusals import CONVERSATIONS, refused_turn
from kollm.quality.signs import Mask
from kollm.quality.view import View
from kollm.translate.lines import changed_lines

Rule = Callable[[View], str | None]


def line_structure(view: View) -> str | None:
    """Lines were joined, divided or lost, or a list, heading or table is none any more."""
    for name, english, text in view.compared():
        if ("\n" in english.strip() or "\n" in text.strip()) and (change := changed_lines(english, text)):
            return f"line_structure: {name}, {change}"
    return None


def model_speaks(view: View) -> str | None:
    """In a shared conversation the model declines, or speaks of itself as one."""
    if view.record.source not in CONVERSATIONS:
        return None
    name, kind = refused_turn(view.korean)
    if not kind:
        name, kind = refused_turn(view.english)
    return f"{kind}: {name}" if kind else None


def under_ten_characters(view: View) -> str | None:
    """The paper's rule: instruction or output of less than 10 characters."""
    for name in ("instruction", "output"):
        if len(view.korean.get(name, "")) < 10:
            return f"under_10_characters: {name}"
    return None


def langid_english(view: View) -> str | None:
    """The paper's rule: langid takes the instruction or the output for English."""
    for name in ("instruction", "output"):
        if load_identifier().classify(view.korean.get(name, ""))[0] == "en":
            return f"langid_english: {name}"
    return None


class FilterSet(NamedTuple):
    """Rules in order, and the sources they are for; None for all."""

    rules: tuple[Rule, ...]
    sources: frozenset[str] | None = None


_PAPER: tuple[Rule, ...] = (under_ten_characters, langid_english)
FILTERS = {
    "default": FilterSet(
        (
            model_speaks,
            broken_placeholder,
            line_structure,
            mojibake,
            translator_refused,
            prompt_leak,
            not_korean,
            english_copied,
            other_script,
            markup_added,
            length_ratio,
            repetition,
            numbers_lost,
            structure_lost,
            cut_off,
        )
    ),
    "paper": FilterSet(_PAPER, frozenset({"sharegpt"})),
    "paper-all": FilterSet(_PAPER),
    "none": FilterSet(()),
}


def find_filters(name: str) -> FilterSet:
    """The filter set of that name.

    Raises:
        InputError: there is none.
    """
    if name not in FILTERS:
        raise InputError(f"There is no filter set '{name}' - use one of {', '.join(FILTERS)}.")
    return FILTERS[name]


def drop_reason(view: View, filters: FilterSet) -> str | None:
    """The reason of the first rule that drops the row, as `rule: field`; None to keep it.

    Raises:
        MissingExtraError: the set asks langid, which is not installed.
    """
    if filters.sources is not None and view.record.source not in filters.sources:
        return None
    for rule in filters.rules:
        if (reason := rule(view)) is not None:
            return reason
    return None


def drop_reasons(views: Sequence[View], filters: FilterSet, doubts: Mapping[str, Mask]) -> list[str | None]:
    """`drop_reason` of a batch of rows, none of which is asked about a rule without doubt.

    Args:
        views: the rows.
        filters: the rules.
        doubts: what `find_doubts` found in these rows.
    """
    reasons: list[str | None] = [None] * len(views)
    if not filters.rules:
        return reasons
    every = np.ones(len(views), dtype=bool)
    doubted = np.column_stack([doubts.get(rule.__name__, every) for rule in filters.rules])
    if filters.sources is not None:
        doubted &= np.array([[view.record.source in filters.sources] for view in views], dtype=bool)
    for row, number in np.argwhere(doubted).tolist():  # row by row, the rules in their order
        if reasons[row] is None:
            reasons[row] = filters.rules[number](views[row])
    return reasons


def paper_would_drop(view: View) -> bool:
    """Whether `paper-all` would drop the row, with langid asked only where a third of the letters are Latin.

    For the comparison that every build prints: langid alone would take longer than the build.
    """
    if under_ten_characters(view) is not None:
        return True
    texts = [view.korean.get(name, "") for name in ("instruction", "output")]
    return any(is_mixed(text) for text in texts) and langid_english(view) is not None


_STYLES = {
    "formal": re.compile(r"(?:니다|니까|십시오|시오)[.!?\n]"),
    "polite": re.compile(r"[요죠][.!?\n]"),
    "plain": re.compile(r"다(?<!니다)[.!?\n]"),
}


def mixed_register(view: View) -> bool:
    """Whether the answer ends sentences in two styles of speech (하십시오체, 해요체, 해라체), two of each at least.

    A flag that is counted, not a reason to drop: a dialogue mixes them rightly.
    """
    answer = view.record.output + "\n"
    return sum(len(style.findall(answer)) >= 2 for style in _STYLES.values()) >= 2
