"""Why a translated row is dropped: each rule is a function from a Record to a reason, or None to keep it."""

from __future__ import annotations

import re
from collections.abc import Callable

from kollm.records import Record

Rule = Callable[[Record], str | None]

_HANGUL = re.compile(r"[가-힣ㄱ-ㅎㅏ-ㅣ]")
_LATIN = re.compile(r"[A-Za-z]")
_CODE = re.compile(r"```.*?```|`[^`\n]+`|\$[^$\n]+\$|https?://\S+", re.DOTALL)


def hangul_share(text: str) -> float:
    """Hangul letters as a share of Hangul and Latin letters, code, formulas and URLs left out; 1.0 where none are."""
    prose = _CODE.sub(" ", text)
    hangul, latin = len(_HANGUL.findall(prose)), len(_LATIN.findall(prose))
    return hangul / (hangul + latin) if hangul + latin else 1.0


def too_little_korean(record: Record) -> str | None:
    """The instruction holds more Latin than Korean letters."""
    return "instruction_not_korean" if hangul_share(record.instruction) < 0.5 else None


def too_short(record: Record) -> str | None:
    """The paper's rule (Section 4.9): instruction or output under 10 characters."""
    return "under_10_characters" if min(len(record.instruction), len(record.output)) < 10 else None


FILTERS: dict[str, tuple[Rule, ...]] = {
    "default": (too_little_korean,),
    "paper": (too_short,),
    "paper-all": (too_short,),
    "none": (),
}


def first_reason(record: Record, rules: tuple[Rule, ...]) -> str | None:
    """The reason of the first rule that drops the record, or None."""
    return next((reason for rule in rules if (reason := rule(record)) is not None), None)
