"""One row as a reviewer sees it: English beside Korean, with what differs marked, and what each filter says."""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

from kollm.core.records import Record
from kollm.quality.filters import FILTERS, mixed_register
from kollm.quality.review import Hit, find_hits
from kollm.quality.view import View
from kollm.translate.masking import lost_numbers
from kollm.translate.structure import NUMBER, plain, structure_spans

_NAME = re.compile(r"(?<![.!?:]\s)(?<!^)\b[A-Z][a-z]+(?:\s[A-Z][a-z]+)*\b", re.MULTILINE)
_LONGEST = 20_000
"""Characters of a field in which differences are looked for; a longer one is shown without marks."""


class Piece(NamedTuple):
    """A stretch of text and its mark: `structure`, `changed` (structure that the other side lacks), `number`, `name`, or none."""

    text: str
    mark: str = ""


class Field(NamedTuple):
    """A text on both sides. `lines` are the numbers of lines, English and Korean."""

    name: str
    english: list[Piece]
    korean: list[Piece]
    lines: tuple[int, int]
    hits: list[Hit]


class Shown(NamedTuple):
    """A row for the page: its fields, what each filter said (None: nothing), and whether it mixes registers."""

    record: Record
    fields: list[Field]
    filters: list[tuple[str, str | None]]
    mixed: bool


def show_row(record: Record) -> Shown:
    """Lay a record out for a reader."""
    english = record.original.texts() if record.original is not None else {}
    hits = find_hits(record)
    fields = [
        _field(name, english.get(name, ""), text, [hit for hit in hits if hit.field == name])
        for name, text in record.texts().items()
        if text or english.get(name)
    ]
    view = View(record)
    verdicts = [(rule.__name__, rule(view)) for rule in FILTERS["default"].rules]
    return Shown(record, fields, verdicts, mixed_register(view))


def _field(name: str, english: str, korean: str, hits: list[Hit]) -> Field:
    lines = (english.count("\n") + 1 if english else 0, korean.count("\n") + 1 if korean else 0)
    return Field(name, pieces(english, korean), pieces(korean, english), lines, hits)


def pieces(text: str, other: str) -> list[Piece]:
    """The text in stretches: its structure, and the numbers and names that the other side lacks.

    Args:
        text: what is shown.
        other: the same field in the other language; empty if there is none, and then nothing counts as missing.
    """
    if len(text) > _LONGEST or len(other) > _LONGEST:
        return [Piece(text)]
    found: list[Piece] = []
    position = 0
    missing = Counter(lost_numbers(plain(text), other)) if other else Counter()
    for start, end in structure_spans(text):
        found += _words(text[position:start], other, missing)
        piece = text[start:end]
        found.append(Piece(piece, "changed" if other and piece.strip() not in other else "structure"))
        position = end
    return found + _words(text[position:], other, missing)


def _words(text: str, other: str, missing: Counter[str]) -> list[Piece]:
    """Words with the numbers marked that the other side lacks, and the names that it does not spell the same."""
    marks: list[tuple[int, int, str]] = []
    for match in NUMBER.finditer(text):
        if missing[match[0]] > 0:
            missing[match[0]] -= 1
            marks.append((*match.span(), "number"))
    if other:
        marks += [(*match.span(), "name") for match in _NAME.finditer(text) if match[0] not in other]
    found: list[Piece] = []
    position = 0
    for start, end, mark in sorted(marks):
        if start >= position:
            found += [Piece(text[position:start]), Piece(text[start:end], mark)]
            position = end
    return [piece for piece in (*found, Piece(text[position:])) if piece.text]
