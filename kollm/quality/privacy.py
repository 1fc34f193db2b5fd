"""Personal data by its form: addresses, numbers of phones, residents, passports, licences, businesses, accounts and cards.

It is replaced before any text leaves for a translation service, by values that belong to nobody: an address at
example.com (RFC 2606), a number of zeros. The same address stays the same within a row, so that the conversation still
makes sense. Korean glues particles to numbers, so a value ends where its own letters and digits end, not where a word
does. Forms are in `personal_forms`.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import Literal, NamedTuple

from kollm.core.records import Original, Record
from kollm.core.text import normalise
from kollm.quality.personal_forms import FORMS, MAY_HOLD, fold

Privacy = Literal["auto", "mask", "drop", "off"]
"""What becomes of a row with personal data: its values are replaced, the row is rejected, or nothing. `auto` replaces them
in the sources that are other people's conversations, and does nothing elsewhere."""

Screening = Literal["mask", "drop", "off"]
"""What is done to the rows of one source."""

_TAKEN = "\ue000"
"""Stands for what was found; a private-use character, which no form holds."""


class Screened(NamedTuple):
    """A record without personal data, and how many values of each kind (see `personal_forms`) were replaced."""

    record: Record
    found: Counter[str]


class Value(NamedTuple):
    """A personal value: where it stands in a text, and its kind."""

    start: int
    end: int
    kind: str


def screen(record: Record) -> Screened:
    """Replace the personal data in all fields of a record, and in the original that it keeps."""
    mask = _Mask()
    changed = record.map_texts(mask.text)
    found = mask.found.copy()
    if record.original is not None:
        fields = {name: getattr(record.original, name) for name in Original.__slots__}
        as_read = replace(record, **fields, original=None).map_texts(mask.as_read)
        changed = replace(changed, original=as_read.as_original())
    return Screened(changed if mask.found else record, found)


def find_personal(text: str) -> list[Value]:
    """The personal values of a text, from left to right and apart."""
    if not MAY_HOLD.search(text):
        return []
    rest = fold(text)
    found: list[Value] = []
    for form in FORMS:
        values = [Value(*match.span(), form.kind) for match in form.pattern.finditer(rest) if form.holds(match)]
        if values:
            found += values
            rest = _without(rest, values)
    return sorted(found)


def _without(text: str, values: list[Value]) -> str:
    parts, position = [], 0
    for start, end, _ in values:
        parts += [text[position:start], _TAKEN * (end - start)]
        position = end
    return "".join([*parts, text[position:]])


class _Mask:
    """Replaces values and remembers which addresses it has seen in this row."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()
        self._addresses: dict[str, str] = {}

    def text(self, text: str) -> str:
        parts, position = [], 0
        for start, end, kind in find_personal(text):
            self.found[kind] += 1
            parts += [text[position:start], self._replacement(text[start:end], kind)]
            position = end
        return "".join([*parts, text[position:]]) if parts else text

    def as_read(self, text: str) -> str:
        """As `text`, for texts that were not normalised: a number may hide behind what nobody sees."""
        normal = normalise(text)
        return self.text(normal) if find_personal(normal) else text

    def _replacement(self, value: str, kind: str) -> str:
        if kind == "email":
            return self._addresses.setdefault(fold(value).lower(), f"person{len(self._addresses) + 1}@example.com")
        if not re.search(r"\d", value):
            return re.sub("[가-힣]", "공", value)  # a number that is spelt out
        return re.sub(r"[\d*]", "0", value)
