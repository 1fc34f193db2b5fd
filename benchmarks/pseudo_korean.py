"""A stand-in for a translator, in a module of its own so that worker processes can import it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from kollm.services.budget import Budget, Usage
from kollm.services.ledger import Ledger
from kollm.translate import Segment, Translation
from kollm.translate.masking import mask, unmask
from kollm.translate.translator import Limits

_MARKUP = re.compile(r"(<[^>]*>|&\w+;)")
_CONSONANTS = "bcdfghjklmnpqrstvwxyz"
_SYLLABLES = {letter: chr(0xAC00 + 441 * number) for number, letter in enumerate(_CONSONANTS)}
_KOREAN = str.maketrans(
    {
        **_SYLLABLES,
        **{letter.upper(): syllable for letter, syllable in _SYLLABLES.items()},
        **dict.fromkeys("aeiouAEIOU"),
    }
)


class PseudoKorean:
    """A translator as fast as Python can be: a syllable for each consonant, none for a vowel; structure stays, masked."""

    name = "pseudo"
    base_url = ""
    model = ""
    kept = False
    books_itself = False
    markup = False
    limits = Limits()
    options: Mapping[str, Any] = {}

    def start(self, ledger: Ledger | None, budget: Budget) -> None:
        pass

    def stop(self) -> None:
        pass

    def translate(self, batch: Sequence[Segment]) -> list[Translation]:
        return [Translation(self._text(segment.text)) for segment in batch]

    def price(self, text: str) -> tuple[int, float]:
        return 0, 0.0

    def usage(self) -> Usage | None:
        return None

    def _text(self, text: str) -> str:
        masked = mask(text)
        parts = _MARKUP.split(masked.markup)
        # A word of vowels alone stays, so that no line comes back empty.
        parts[::2] = [changed if (changed := part.translate(_KOREAN)).strip() else part for part in parts[::2]]
        return unmask(masked, "".join(parts))
