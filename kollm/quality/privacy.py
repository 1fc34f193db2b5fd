"""Personal data in shared conversations: e-mail addresses, phone numbers and Korean resident registration numbers.

They are found by form, before any text leaves for a translation service, and replaced by values that belong to nobody:
an address at example.com (RFC 2606), a number of zeros. The same address stays the same within a row, so that the
conversation still makes sense.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Literal, NamedTuple

from kollm.core.records import Record

Privacy = Literal["mask", "drop", "off"]
"""What becomes of a row with personal data: its values are replaced, the row is rejected, or nothing."""

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,5}[A-Za-z]{2,24}(?![\w-])")
_NOBODY = re.compile(
    r"^git@|@(?:[\w-]+\.)*(?:example\.(?:com|org|net)|[\w-]+\.(?:example|test|invalid)|localhost)$", re.I
)
_REGISTRATION = re.compile(r"(?<![\d-])(\d{2})(\d{2})(\d{2})([- ]?)([1-8])(\d{6})(?![\d-])")
_PHONE = re.compile(
    r"""(?<![\w.+/=-])(?:
        \+\d{1,3}[ .-]?\(?\d{1,4}\)?(?:[ .-]?\d{2,4}){2,3}      # +82 10-1234-5678
      | 01[016789][ .-]?\d{3,4}[ .-]?\d{4}                      # Korean mobile: 010-1234-5678
      | 0(?:2|[3-6]\d|70)[ .-]\d{3,4}[ .-]\d{4}                 # Korean area codes: 02-123-4567
      | \(\d{3}\)[ ]?\d{3}[ .-]\d{4}                            # (212) 555-0123
      | \d{3}[.-]\d{3}[.-]\d{4}                                 # 212-555-0123
    )(?![\w-])""",
    re.VERBOSE,
)
_WEIGHTS = (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)
_HINT = re.compile(r"@|\d[ .)-]?\d{2,4}[ .-]?\d{3,4}")
"""What every one of the forms has: most texts are told clean by this alone."""


class Screened(NamedTuple):
    """A record without personal data, and how many values of each kind were replaced: `email`, `phone`, `rrn`."""

    record: Record
    found: Counter[str]


def screen(record: Record) -> Screened:
    """Replace the personal data in all fields of a record."""
    if not any(_HINT.search(text) for text in record.texts().values()):
        return Screened(record, Counter())
    mask = _Mask()
    changed = record.map_texts(mask.text)
    return Screened(changed if mask.found else record, mask.found)


class _Mask:
    """Replaces values and remembers which it has seen in this row."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()
        self._names: dict[str, str] = {}

    def text(self, text: str) -> str:
        for pattern, replacement in self._rules():
            text = pattern.sub(replacement, text)
        return text

    def _rules(self) -> tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...]:
        # registration numbers first: their digits could be taken for a phone number's
        return ((_EMAIL, self._email), (_REGISTRATION, self._registration), (_PHONE, self._phone))

    def _email(self, match: re.Match[str]) -> str:
        address = match[0]
        if _NOBODY.search(address):
            return address
        self.found["email"] += 1
        return self._names.setdefault(address.lower(), f"person{len(self._names) + 1}@example.com")

    def _registration(self, match: re.Match[str]) -> str:
        if not is_registration_number(match[0]):
            return match[0]
        self.found["rrn"] += 1
        return f"000000{match[4]}0000000"

    def _phone(self, match: re.Match[str]) -> str:
        number = match[0]
        if not 9 <= sum(character.isdigit() for character in number) <= 15:
            return number
        self.found["phone"] += 1
        return re.sub(r"\d", "0", number)


def is_registration_number(text: str) -> bool:
    """Whether 13 digits have the form of a resident registration number.

    The first six are a date; with a hyphen or space before the rest that is enough, since numbers given from October
    2020 on have no check digit; 13 digits in a row must have a valid one.
    """
    match = _REGISTRATION.fullmatch(text)
    if match is None or not (1 <= int(match[2]) <= 12 and 1 <= int(match[3]) <= 31):
        return False
    if match[4]:
        return True
    digits = [int(character) for character in text if character.isdigit()]
    check = (11 - sum(weight * digit for weight, digit in zip(_WEIGHTS, digits, strict=False)) % 11) % 10
    return check == digits[-1]
