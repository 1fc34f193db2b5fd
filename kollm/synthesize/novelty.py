"""Is an instruction new? ROUGE-L against every instruction so far, as in Self-Instruct (arXiv 2212.10560), for Korean too.

Korean is compared by syllables, all else by words. Korean words carry particles and endings, so that two instructions
alike share few whole words: over the pairs of KULLM's 252 tasks, 0.7 finds 4 pairs in English by words, 1 in their
Korean by words, and 4 by syllables.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from kollm.core.errors import MissingExtraError

_TOKEN = re.compile(r"[가-힣]|[^\W가-힣]+")
_FIRST = 0xE000
"""Tokens become code points from here on, so that a compiled library can compare instructions as strings."""


class Nearest(NamedTuple):
    """The instruction most like the one asked about, and the ROUGE-L F1 of the two, 0 to 1: twice their longest common
    subsequence of tokens, over the number of tokens of both."""

    text: str
    score: float


def tokens(text: str) -> list[str]:
    """Syllables of Hangul, and words of other letters and digits in lower case; punctuation is nothing."""
    return _TOKEN.findall(text.lower())


class InstructionPool:
    """The instructions so far.

    Raises:
        MissingExtraError: rapidfuzz is not installed.
    """

    def __init__(self) -> None:
        try:
            from rapidfuzz import process
            from rapidfuzz.distance import Indel
        except ImportError as error:
            raise MissingExtraError("rapidfuzz", "translate") from error
        self._extract = process.extractOne
        # Insertions and deletions alone: 1 - (m + n - 2 LCS) / (m + n), which is ROUGE-L's F1.
        self._scorer = Indel.normalized_similarity
        self._codes: dict[str, str] = {}
        self._encoded: list[str] = []
        self._texts: list[str] = []

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, text: str) -> None:
        """Take an instruction in."""
        encoded = self._encode(text)
        if encoded:
            self._encoded.append(encoded)
            self._texts.append(text)

    def nearest(self, text: str, at_least: float) -> Nearest | None:
        """The most similar instruction whose ROUGE-L is at least that, or None."""
        encoded = self._encode(text)
        if not encoded:
            return None
        found = self._extract(encoded, self._encoded, scorer=self._scorer, score_cutoff=at_least)
        return Nearest(self._texts[found[2]], found[1]) if found else None

    def _encode(self, text: str) -> str:
        return "".join(self._codes.setdefault(token, chr(_FIRST + len(self._codes))) for token in tokens(text))
