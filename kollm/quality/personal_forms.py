"""The forms of personal data: for each kind a pattern, and what must hold beside it (a check digit, a word before it).

Patterns see folded text, in which full-width letters, digits and the many dashes are ASCII. Each is bounded in length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

Kind = Literal[
    "email",
    "phone",
    "resident_number",
    "foreigner_number",
    "passport",
    "driving_licence",
    "business_number",
    "account",
    "card",
]

_FULL_WIDTH = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
_FOLD = str.maketrans(_FULL_WIDTH | {ord(dash): "-" for dash in "‐‑‒–—―−﹣ㅡ"} | {0x3000: " ", 0xA0: " "})
MAY_HOLD = re.compile(r"[@＠]|\d(?:[^\d\n]{0,3}\d){6}|공[일이삼사오육칠팔구]")
"""What every form has: most texts are told clean by this alone."""


class Form(NamedTuple):
    """One form of one kind.

    Attributes:
        kind: what it is.
        pattern: how it looks.
        holds: whether a match of the pattern is one.
    """

    kind: Kind
    pattern: re.Pattern[str]
    holds: Callable[[re.Match[str]], bool]


def fold(text: str) -> str:
    """The text with full-width characters and dashes as ASCII; as many characters as before."""
    return text.translate(_FOLD)


def is_resident_number(text: str) -> bool:
    """Whether a text is the number of a resident or registered foreigner.

    The first six digits are a date; with a hyphen or space before the rest that is enough, since numbers given from
    October 2020 on have no check digit; 13 digits in a row must have a valid one.
    """
    match = _RESIDENT.fullmatch(fold(text))
    return match is not None and _is_resident(match)


def passes_luhn(digits: Sequence[int]) -> bool:
    """Whether the last digit of a card number is the right one (ISO/IEC 7812-1)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = digit * 2 if place % 2 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


def _digits(text: str) -> list[int]:
    return [int(character) for character in text if character.isdecimal()]


def _always(match: re.Match[str]) -> bool:
    return any(_digits(match[0]))  # a number of zeros is nobody's


def _after(words: str, length: int = 30) -> Callable[[re.Match[str]], bool]:
    """Holds where one of the words stands in the same line, at most `length` characters before the value."""
    pattern = re.compile(words, re.IGNORECASE)

    def holds(match: re.Match[str]) -> bool:
        before = match.string[max(0, match.start() - length) : match.start()].rpartition("\n")[2]
        return any(_digits(match[0])) and pattern.search(before) is not None

    return holds


# --- addresses -------------------------------------------------------------------------------------------------------

_EMAIL = re.compile(
    r"(?<![A-Za-z0-9.!#$%&'*+/=?^_`{|}~-])[A-Za-z0-9][A-Za-z0-9._%+'-]{0,63}@(?:[A-Za-z0-9가-힣-]{1,63}\.){1,5}[A-Za-z]{2,24}(?![A-Za-z0-9_(-])"
)
_NOBODY = re.compile(
    r"^git@|@(?:[\w-]+\.)*(?:example\.(?:com|org|net)|[\w-]+\.(?:example|test|invalid)|localhost)$", re.IGNORECASE
)


def _is_somebody(match: re.Match[str]) -> bool:
    return not _NOBODY.search(match[0])


# --- numbers with a date ---------------------------------------------------------------------------------------------

_RESIDENT = re.compile(
    r"(?<![A-Za-z0-9])(?<!\d-)(\d{2})(\d{2})(\d{2})([ ]?-[ ]?|[ ]?)(?:([1-8])(\d{6}|\*{6}))(?![0-9]|-\d|[A-Za-z_])"
)
_RESIDENT_WEIGHTS = (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)
_RESIDENT_WORDS = _after("주민|등록\\s?번호|외국인|거소|resident|registration")


def _is_resident(match: re.Match[str]) -> bool:
    if not (1 <= int(match[2]) <= 12 and 1 <= int(match[3]) <= 31):
        return False
    if match[4] or _RESIDENT_WORDS(match):
        return True
    digits = _digits(match[0])
    if len(digits) != 13:
        return False
    check = (11 - sum(weight * digit for weight, digit in zip(_RESIDENT_WEIGHTS, digits, strict=False)) % 11) % 10
    return check == digits[-1]


# --- cards, licences, businesses, accounts ---------------------------------------------------------------------------

_YEARS = re.compile(r"(?:19|20)\d{2}(?:[- ](?:19|20)\d{2})+")
_CARD = re.compile(
    r"(?<![A-Za-z0-9.])(?<!\d[-,])(?:(?:\d{4}(?:[ ]?-[ ]?|[ ]?)){3}\d{4}|3[47]\d{2}[- ]?\d{6}[- ]?\d{5})(?![A-Za-z0-9_]|[-.]\d)"
)


def _is_card(match: re.Match[str]) -> bool:
    digits = _digits(match[0])
    return digits[0] in (2, 3, 4, 5, 6, 9) and passes_luhn(digits) and not _YEARS.fullmatch(match[0])


_REGIONS = "서울|부산|경기|강원|충북|충남|전북|전남|경북|경남|제주|대구|인천|광주|대전|울산"
_BUSINESS_WEIGHTS = (1, 3, 7, 1, 3, 7, 1, 3, 5)


def _is_business(match: re.Match[str]) -> bool:
    digits = _digits(match[0])
    total = sum(weight * digit for weight, digit in zip(_BUSINESS_WEIGHTS, digits, strict=False)) + digits[8] * 5 // 10
    return any(digits) and ((10 - total % 10) % 10 == digits[9] or _BUSINESS_WORDS(match))


_BUSINESS_WORDS = _after("사업자|등록\\s?번호|business")
_BANK_WORDS = _after("계좌|입금|송금|이체|통장|은행|뱅크|농협|수협|신협|새마을금고|우체국|예금주|account", 25)
_BANK_NAME = _after(r"(?:신한|국민|우리|하나|기업|토스|카카오|케이)[ :]{0,2}$", 8)
_BANK_AFTER = re.compile(
    r"[^\n\d가-힣]{0,4}(?:[가-힣]{2,6}은행|[가-힣]{1,4}뱅크|농협|수협|신협|예금주|\((?:신한|국민|우리|하나|기업|토스|카카오))"
)
_DATE = re.compile(r"(?:19|20)\d{2}[- ](?:0?[1-9]|1[0-2])[- ](?:0?[1-9]|[12]\d|3[01])(?!\d)")


def _is_account(match: re.Match[str]) -> bool:
    value, digits = match[0], _digits(match[0])
    if not 10 <= len(digits) <= 16 or not any(digits) or _DATE.match(value) or _YEARS.fullmatch(value):
        return False
    if _BANK_WORDS(match):
        return True
    named = _BANK_NAME(match) or _BANK_AFTER.match(match.string, match.end()) is not None
    return named and "-" in value and " " not in value


# --- phones ----------------------------------------------------------------------------------------------------------

_GAP = r"(?:[ ]?[-.·/)~][ ]?|[ ]{1,2})"
_PHONE_WORDS = _after("전화|연락|휴대|핸드폰|번호|폰|팩스|tel|phone|mobile|fax|call", 20)


def _is_phone(match: re.Match[str]) -> bool:
    digits = _digits(match[0])
    return 9 <= len(digits) <= 15 and any(digits)


def _form(kind: Kind, pattern: str, holds: Callable[[re.Match[str]], bool] = _always) -> Form:
    """A form whose value touches neither ASCII letters nor other digits; Hangul may touch it."""
    return Form(
        kind, re.compile(rf"(?<![A-Za-z0-9_])(?<!\d[-.])(?:{pattern})(?![A-Za-z0-9_]|[-.]\d)", re.VERBOSE), holds
    )


FORMS = (
    Form("email", _EMAIL, _is_somebody),
    Form("foreigner_number", re.compile(_RESIDENT.pattern.replace("[1-8]", "[5-8]")), _is_resident),
    Form("resident_number", _RESIDENT, _is_resident),
    Form("card", _CARD, _is_card),
    _form("driving_licence", r"(?:1[1-9]|2[0-8])([ ]?-[ ]?|[ ])\d{2}\1\d{6}\1\d{2}"),
    _form("driving_licence", rf"(?:{_REGIONS})[ ]?-?[ ]?\d{{2}}[ ]?-[ ]?\d{{6}}[ ]?-[ ]?\d{{2}}"),
    _form("driving_licence", r"\d{12}", _after("면허|licen[cs]e")),
    _form("passport", r"M(?:\d{8}|\d{3}[A-Z]\d{4})"),
    _form("passport", r"[A-Z]{1,2}(?:\d{7,8}|\d{3}[A-Z]\d{4})", _after("여권|passport", 40)),
    # Mobile phones, with or without gaps; their prefixes belong to nothing else.
    _form("phone", rf"\(?01[016789]\)?{_GAP}?\d{{3,4}}{_GAP}?\d{{4}}", _is_phone),
    _form("phone", rf"(?:\+|00)82{_GAP}?\(?0?\)?(?:1[016789]|2|[3-6][1-5]|70){_GAP}?\d{{3,4}}{_GAP}?\d{{4}}", _is_phone),
    _form("phone", rf"82[ ]?-[ ]?\(?0?\)?(?:1[016789]|2|[3-6][1-5]|70){_GAP}\d{{3,4}}{_GAP}\d{{4}}", _is_phone),
    _form("phone", r"공일[공일육칠팔구](?:[ ]?-?[ ]?[공영일이삼사오육칠팔구]{3,4}){2}", lambda match: True),
    _form("business_number", r"\d{3}[ ]?-[ ]?\d{2}[ ]?-[ ]?\d{5}", _is_business),
    _form("business_number", r"\d{10}", _after("사업자")),
    _form("account", r"\d{2,6}(?:[- ]\d{1,7}){1,4} | \d{10,14}", _is_account),
    # The banks' own forms: Shinhan and K bank, Woori, Hana, Kookmin and the post, Kakao, Industrial Bank.
    _form("account", r"\d{3}-\d{3}-\d{6} | 1002-\d{3}-\d{6} | \d{3}-\d{6}-\d{5} | \d{6}-\d{2}-\d{6} | 3333-\d{2}-\d{7} | \d{3}-\d{6}-\d{2}-\d{3}"),
    # Area codes, the numbers of internet phones and of those that hide another one.
    _form("phone", rf"\(?0(?:2|[3-6][1-5]|70|50\d)\)?{_GAP}\d{{3,4}}{_GAP}\d{{4}}", _is_phone),
    _form("phone", r"0(?:2|[3-6][1-5]|70|50\d)\d{7,8}", _PHONE_WORDS),
    _form("phone", r"(?<![/=+])\+\d{1,3}[ .-]?\(?\d{1,4}\)?(?:[ .-]?\d{2,4}){2,3}", _is_phone),
    _form("phone", r"(?<![/=+.])(?:\(\d{3}\)[ ]?\d{3}[ .-]\d{4} | \d{3}[.-]\d{3}[.-]\d{4})", _is_phone),
)  # fmt: skip
"""In the order in which they are looked for: what one has found is hidden from the next."""
