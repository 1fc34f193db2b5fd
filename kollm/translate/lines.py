"""The lines of a text: what is translated of each, and the frame around it that stays as it is.

Translators join lines: DeepL's next-generation models read a line break as a space, whatever is asked of them. So line
breaks, indentation, list markers, headings, the delimiters of tables and whole blocks of code never travel. They are
the frame; the text of each line, or of each cell of a table, travels by itself and is put back in its place.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from kollm.translate.structure import Span, find_structure

LETTER = re.compile(r"[^\W\d_]")
_MARKER = re.compile(
    r"""[ \t]*+ (?:>[ \t]?)*+ [ \t]*+ (?:\#{1,6}[ \t]++)?
    (?: [-*+•‣▪●○◦·–—][ \t]++ (?:\[[ xX]\][ \t]++)?
      | \(?\d{1,3}(?:\.\d{1,3}){0,3}[.)][ \t]++
      | \(?[A-Za-z]\)[ \t]++ )?""",
    re.VERBOSE,
)
"""Quotation marks of e-mails, a heading, and one list marker: `> ## 1. `, `- [x] `, `a) `."""
_LETTERED = re.compile(r"^[ \t]*+([A-Za-z]{1,4})\.[ \t]", re.MULTILINE)
_LETTERED_MARKER = re.compile(r"[ \t]*+(?:[A-Za-z]|[ivxIVX]{1,4})\.[ \t]++")
_SERIES = ({"a", "b"}, {"A", "B"}, {"i", "ii"}, {"I", "II"})
"""Beginnings of a series: `A. ` alone may be somebody's initial."""
_HANGUL_LETTERED = re.compile(r"[가나다라마바사아자차카타파하][.)][ \t]")
_TABLE_ROW = re.compile(r"[^|\n]*\|[^|\n]*\|")


class Line(NamedTuple):
    """What is translated of one line.

    Attributes:
        start, end: where it stands in the text.
        inside: pieces of structure in it, which stand in the sentence and move with it.
    """

    start: int
    end: int
    inside: tuple[Span, ...]


def translated_lines(text: str, numbers: bool = False) -> list[Line]:
    """What is translated of a text, in order; all between is its frame.

    A line without a word outside of its structure belongs to the frame, and so does white space around a line.

    Args:
        text: any text.
        numbers: whether numbers count as structure too.
    """
    lettered, spans = _is_lettered(text), find_structure(text, numbers)
    if not spans:  # as in most texts
        return _plain_lines(text, lettered)
    lines: list[Line] = []
    inside: list[Span] = []
    position, fresh = 0, True  # fresh: nothing but indentation stands before in this line
    for span in [*spans, Span(len(text), len(text), "block")]:
        if span.kind == "inline":
            inside.append(span)
            continue
        waiting = deque(inside)
        for start, end in _split(text, position, span.start):
            fresh = fresh or start > position
            own = []
            while waiting and waiting[0].start < end:
                own.append(waiting.popleft())
            line = _line(text, start, end, own, fresh, lettered)
            if line is not None:
                lines.append(line)
            fresh = fresh and not text[start:end].strip()
        rest = text[span.start : span.end].rpartition("\n")
        fresh = (fresh or bool(rest[1])) and not rest[2].strip()
        position, inside = span.end, []
    return lines


def line_kinds(text: str) -> list[str]:
    """What each line of a text is, white space around the text left out: its line structure.

    Returns:
        One word a line: `blank`, `heading`, `item` (a list's), `quote`, `table`, `code` or `text`.
    """
    core = text.strip()
    return _kinds(core, deque(item for item in find_structure(core) if item.kind == "block"))


def _kinds(core: str, blocks: deque[Span]) -> list[str]:
    lettered = _is_lettered(core)
    if not blocks:
        lines = core.split("\n")
        if lettered or "|" in core:
            return [_kind(line, lettered) for line in lines]
        return ["text" if line[:2].isalpha() else _kind(line, lettered) for line in lines]  # as most lines
    kinds, position = [], 0
    for line in core.split("\n"):
        end = position + len(line)
        while blocks and blocks[0].end <= position:
            blocks.popleft()
        is_code = bool(blocks) and blocks[0].start < end and "\n" in core[blocks[0].start : blocks[0].end]
        kinds.append("code" if is_code and line.strip() else _kind(line, lettered))
        position = end + 1
    return kinds


def changed_lines(english: str, korean: str) -> str:
    """How the line structure of a translation differs from its English; empty if it does not.

    Compared are blank lines, and of the others headings, list items and the rows of tables; their order too.
    """
    if _kinds(english.strip(), deque()) == _kinds(korean.strip(), deque()):
        return ""  # as for most: what is code makes no difference then
    before, after = line_kinds(english), line_kinds(korean)
    if len(before) != len(after):
        return f"{_count(before)} became {len(after)}"
    for number, (one, other) in enumerate(zip(before, after, strict=True), start=1):
        if one != other and ("blank" in (one, other) or "code" not in (one, other)):
            return f"line {number}: {one} became {other}"
    return ""


def _count(kinds: list[str]) -> str:
    return f"{len(kinds)} line{'s' if len(kinds) != 1 else ''}"


def _kind(line: str, lettered: bool) -> str:
    bare = line.strip()
    if not bare:
        return "blank"
    if "|" in bare and _TABLE_ROW.match(bare):
        return "table"
    if not lettered and bare[:2].isalpha():
        return "text"  # as most: every marker has another sign among its first two
    marker = bare[: _marker_end(bare, 0, len(bare), lettered)].strip()
    if not marker:
        return "item" if _HANGUL_LETTERED.match(bare) else "text"
    return "heading" if "#" in marker else "item" if marker.lstrip("> ") else "quote"


def _is_lettered(text: str) -> bool:
    if "\n" not in text or not ("b." in text or "B." in text or "ii." in text or "II." in text):
        return False  # a series has two lines, and a second label
    labels = {match[1] for match in _LETTERED.finditer(text)}
    return any(beginning <= labels for beginning in _SERIES)


def _marker_end(text: str, start: int, end: int, lettered: bool) -> int:
    if not lettered and text[start : start + 2].isalpha():
        return start  # no marker begins with two letters
    found = _MARKER.match(text, start, end)
    after = found.end() if found else start
    if lettered and (letter := _LETTERED_MARKER.match(text, after, end)):
        return letter.end()
    return after


def _split(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Start and end of each line, of which the first and last may be parts."""
    while (stop := text.find("\n", start, end)) >= 0:
        yield start, stop
        start = stop + 1
    yield start, end


def _plain_lines(text: str, lettered: bool) -> list[Line]:
    """What is translated of a text without structure."""
    lines, start = [], 0
    for part in text.split("\n"):
        end = start + len(part)
        if not lettered and part[:2].isalpha():  # as most: no marker begins with two letters
            lines.append(Line(start, start + len(part.rstrip()), ()))
        elif part:
            first = _marker_end(text, start, end, lettered)
            words = text[first:end].lstrip()
            if words[:1].isalpha() or LETTER.search(words):
                lines.append(Line(end - len(words), end - len(words) + len(words.rstrip()), ()))
        start = end + 1
    return lines


def _line(text: str, start: int, end: int, inside: list[Span], fresh: bool, lettered: bool) -> Line | None:
    if fresh:
        after = _marker_end(text, start, end, lettered)
        if not (inside and any(item.start < after < item.end for item in inside)):
            start = after
    kept = tuple(item for item in inside if item.start >= start)
    first, last = (kept[0].start, kept[-1].end) if kept else (end, start)
    while start < first and text[start].isspace():
        start += 1
    while last < end and start < end and text[end - 1].isspace():
        end -= 1
    position = start
    for item in (*kept, Span(end, end, "inline")):
        if LETTER.search(text, position, item.start):
            return Line(start, end, kept)
        position = item.end
    return None
