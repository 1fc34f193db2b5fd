"""A rule about text that was decoded by the wrong table, or escaped and never read back."""

from __future__ import annotations

import re

from kollm.quality.view import View

_SURE = re.compile(
    "\ufffd|占쏙옙|ï¿½|ï»¿"  # the replacement character, itself, or read by another table
    "|â€[\u0080-\u009f\u00a6™œ\u009d˜¢“”]|Ã[\u0080-\u00bf]|Â[\u00a0-\u00bf]|Â (?=\\S)"  # UTF-8 punctuation read as cp1252
    "|[êëìí][\u0080-\u00bfŒœŠšŸŽžƒˆ˜–-™]{2}"  # a Hangul syllable of UTF-8 read as cp1252 or Latin-1
)
_SUSPECT = re.compile(
    "[\u00a1-\u00fe]{4,}"  # EUC-KR read as Latin-1
    r"|(?:\\u[0-9A-Fa-f]{4}){2,}|(?:&#\d{4,6};){2,}|(?:%[0-9A-Fa-f]{2}){6,}|(?:\\x[0-9a-fA-F]{2}){2,}"  # never read back
    "|[\u0080-\u009f]{2,}|뷁{2,}"
)
_SIGNS = re.compile("[\u0080-\u00fe\ufffd占뷁□]")
_QUESTION_MARKS = re.compile(r"\?{2,}|(?<=\s)\?(?=\s)")
_BOXES = re.compile("[□\u25a1\ufffc]{2,}")
_LOST = 4


def mojibake(view: View) -> str | None:
    """Characters in the Korean, and not in the English, that only a wrong table of characters makes."""
    for name, text in view.korean.items():
        if not (_SIGNS.search(text) or "\\" in text or "&#" in text or "%" in text or "??" in text):
            continue
        english = view.english.get(name, "")
        if (found := _SURE.search(text)) is not None and found[0] not in english:
            return f"mojibake: {name}"
        if (found := _SUSPECT.search(text)) is not None and not _SUSPECT.search(english):
            return f"mojibake: {name}"
        if "??" in text and _marks(_QUESTION_MARKS, text) - _marks(_QUESTION_MARKS, english) >= _LOST:
            return f"mojibake: {name}"
        if "□" in text and _marks(_BOXES, text) - _marks(_BOXES, english) >= _LOST:
            return f"mojibake: {name}"
    return None


def _marks(pattern: re.Pattern[str], text: str) -> int:
    return sum(map(len, pattern.findall(text)))
