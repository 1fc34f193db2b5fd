"""Wikipedia's marks in copied passages, `1998.[12]`, `1820[a]`, `[citation needed]`, told from indices, `row[12]`, and links."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

_NUMBER = r"\[[1-9]\d{0,2}(?:[,–-] ?[1-9]\d{0,2})*\]"
_LETTER = r"\[(?:[a-z]|(?:note|nb|fn|n)\.? ?\d{1,2})\]"
_ANY = rf"(?:{_NUMBER}(?::\d{{1,4}}(?:[–-]\d{{1,4}})?(?!\d))?|{_LETTER})"
"""A mark, with the page that may follow it: `[12]:55`."""
_END = r"(?=[\s.,;:!?)\"'’”–—]|\Z)(?!\()"
_AFTER_STOP = re.compile(
    rf"(?<=[\w\"'’”)%][.,;:!?])(?P<marks>{_ANY}++)(?:{_END}|(?=[A-Z]))|(?<=[.,!?][\"'’”)])(?P<quoted>{_ANY}++){_END}"
)
_AFTER_WORD = re.compile(
    rf"(?<![\w.\[])(?P<word>[\w'’-]{{2,60}}+)(?P<marks>{_ANY}++){_END}|(?<=[\"'’”)%])(?P<closed>{_ANY}++){_END}"
)
_AFTER_SPACE = re.compile(rf"(?<=[a-z0-9\"'’”)][.!?]) (?P<marks>{_NUMBER}){_END}")
_SPACED = re.compile(rf"(?:^|\s){_NUMBER}\s", re.MULTILINE)
_EDITORIAL = re.compile(
    r"[ ]?\[(?:(?:citation|clarification|page|year|verification|attribution|better source|additional citation\(?s?\)?|non-primary source)"
    r"s? needed|who|when|where|which|why|by whom|according to whom|dubious|dubious [–-] discuss|not in citation given"
    r"|original research|unreliable source|failed verification)\??\](?!\()",
    re.IGNORECASE,
)
_CODE = re.compile(
    r"`|;\n|\w\[0\]|\w\[\d+\]\s*[-+*/]?=(?!=)|\w\[\d*:\d*\]|(?<!\w)[A-Za-z]\[\d+\]|\w*_\w*\[\d+\]|(?-i:[a-z][A-Z])\w*\[\d+\]"
    r"|\b(?:python|javascript|java|c\+\+|arrays?|index(?:es|ed|ing)?|indices|numpy|pandas|dataframe|tuples?|variables?|pseudo-?code|sql"
    r"|programming|matlab|def|import|println|console\.log)\b",
    re.IGNORECASE,
)
_INDEXED = re.compile(r"(?<![\w.\[])([\w'’-]{2,60}+)\[(\d{1,3})\]")
_FIRST_NOTE = re.compile(r"\S\[a\]")


class Cleaned(NamedTuple):
    """Texts of a row without citation marks, and the kinds of marks that were removed."""

    texts: list[str]
    kinds: frozenset[str]


def without_citations(texts: Iterable[str]) -> Cleaned:
    """Take citation marks out of the texts of one row; what may be an index of code, an option or a link stays.

    A number right after a word is a citation only where nothing in the row looks like code and the word has no other
    number elsewhere; a letter only where the row has the note `[a]`.
    """
    given = list(texts)
    whole = "\n".join(given)
    if "[" not in whole:
        return Cleaned(given, frozenset())
    kinds: set[str] = set()
    coded = _CODE.search(whole) is not None or _has_indices(whole)
    noted = _FIRST_NOTE.search(whole) is not None
    return Cleaned([_clean(text, coded, noted, kinds) for text in given], frozenset(kinds))


def _has_indices(text: str) -> bool:
    numbers = defaultdict(set)
    for match in _INDEXED.finditer(text):
        numbers[match[1]].add(match[2])
    return any(len(found) > 1 for found in numbers.values())


def _clean(text: str, coded: bool, noted: bool, kinds: set[str]) -> str:
    if "[" not in text:
        return text

    def removed(match: re.Match[str]) -> str:
        marks = next(group for name, group in match.groupdict().items() if name != "word" and group)
        letters = re.search(r"\[[a-z]\]", marks) is not None
        if letters and not noted:
            return match[0]
        kinds.update(
            {"note_marks_removed"} if letters else set(),
            {"citation_numbers_removed"} if re.search(r"\d", marks) else set(),
        )
        glued = match.string[match.end() : match.end() + 1].isalpha()  # `Sydney.[4]It`: the mark stood for the space
        return match[0].removesuffix(marks).rstrip(" ") + (" " if glued else "")

    before = text
    text = _EDITORIAL.sub("", text)
    if text != before:
        kinds.add("editorial_marks_removed")
    if "`" in text or ";\n" in text:
        return text
    text = _AFTER_STOP.sub(removed, text)
    if not coded:
        text = _AFTER_WORD.sub(removed, text)
    if len(_SPACED.findall(text)) < 2:  # several are the numbers of options
        text = _AFTER_SPACE.sub(removed, text)
    return text
