"""A rule about numbers that a translation lost or changed.

Korean writes many of them otherwise, rightly: `3 million` is 300만, `3 pm` is 15시, `two days` is 이틀, `50%` is 절반. So a
number counts as there if it stands in words too, and as changed only if another one came in its place.
"""

from __future__ import annotations

import re

from kollm.quality.view import View
from kollm.translate.masking import lost_numbers
from kollm.translate.structure import NUMBER, plain

_DIGITS = re.compile(r"\d+")
_MOST_PARTS = 4
_MOST_COMPARED = 200
"""Lost numbers of one field that are looked for in words."""
_ONES = ("", "일", "이", "삼", "사", "오", "육", "칠", "팔", "구")
_NATIVE_ONES = ("", "하나|한", "둘|두", "셋|세|석|서", "넷|네|넉|너", "다섯", "여섯", "일곱", "여덟", "아홉")
_NATIVE_TENS = ("", "열", "스물|스무", "서른", "마흔", "쉰", "예순", "일흔", "여든", "아흔")
_OTHER_WORDS = {
    "1": "절반|첫|매일|매주|매년|하루|혼자", "2": "이틀|양쪽|양측|쌍|절반|반", "3": "사흘", "4": "나흘", "5": "닷새", "6": "엿새",
    "7": "일주일|이레|매일", "10": "열흘", "12": "다스|정오|자정|일 년|1년", "14": "2주|두 주", "15": "보름", "24": "하루|두 다스|온종일",
    "30": "한 달|반", "50": "절반|반", "60": "한 시간|1분|1시간", "100": "백|모두|전부|완전", "1000": "천", "10000": "만",
}  # fmt: skip
_OTHER_UNITS = re.compile(
    r"\b(?:dozens?|scores?|half|quarter|third|[ap]\.?m\.?|feet|foot|inch(?:es)?|miles?|pounds?|ounces?|gallons?|fahrenheit"
    r"|century|centuries)\b|\d+(?:k|m|bn)\b|['\"′″]",
    re.IGNORECASE,
)
"""Where these are, a translator may rightly reckon in other units."""
_NATIVE_COUNTERS = "개|명|살|시|번|권|마리|가지|사람|달|시간|장|병|잔|곳|송이|그루|벌|켤레|쪽|군데|배|날|주|분|차례|채|자루|줄|판|알|컵|숟|쌍|다스|친구|나라|차원|번째|째"
_SINO_COUNTERS = "월|일|년|층|호|세기|분|초|원|점|도|학년|개월|등|위|주|회|차|배|퍼센트|프로|미터|킬로"
_ENGLISH_NUMBERS = {
    word: number
    for number, words in enumerate(
        [
            "zero no",
            "one a an first once single january jan",
            "two second twice double pair couple both february feb",
            "three third triple thrice march mar",
            "four fourth april apr",
            "five fifth may",
            "six sixth june jun",
            "seven seventh july jul",
            "eight eighth august aug",
            "nine ninth september sep sept",
            "ten tenth october oct",
            "eleven eleventh november nov",
            "twelve twelfth december dec",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
            "twenty",
        ]
    )
    for word in words.split()
}
_ENGLISH_WORD = re.compile(r"[A-Za-z]+")
_SCALES = {"": 1.0, "백": 1e2, "천": 1e3, "만": 1e4, "억": 1e8, "조": 1e12}
_SCALES |= {"hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
_ENGLISH_SCALED = re.compile(r"(\d[\d,]{0,15}(?:\.\d{1,6})?)[ -]?(thousand|million|billion|trillion)", re.IGNORECASE)
_KOREAN_SCALED = re.compile(r"(?:\d[\d,]{0,15}(?:\.\d{1,6})?\s?(?:[천백]?[만억조]|[천백])\s?){1,4}")
_KOREAN_PART = re.compile(r"(\d[\d,]*(?:\.\d+)?)\s?([천백]?)([만억조]?)")
_NEAR = 0.02


def numbers_lost(view: View) -> str | None:
    """A number of three digits or more is gone, at least half of the numbers are, or another one stands in its place."""
    for name, english, text in view.compared():
        if not view.digits(name):
            continue
        if _is_rescaled(english, text):
            return f"numbers_changed: {name}"
        lost = numbers_of(view, name)
        if not lost:
            continue
        if any(len(number) >= 3 for number in lost) or 2 * len(lost) > len(view.digits(name)):
            return f"numbers_lost: {name}"
        if _is_changed(english, text, lost):
            return f"numbers_changed: {name}"
    return None


def numbers_of(view: View, name: str) -> list[str]:
    """`missing_numbers` of a field that was translated, looked for once a view."""
    if name not in view.missing_numbers:
        view.missing_numbers[name] = missing_numbers(view.english[name], view.korean[name])
    return view.missing_numbers[name]


def missing_numbers(english: str, korean: str) -> list[str]:
    """Numbers of the English that the Korean has neither in digits, alone or in a longer number, nor in words."""
    lost = lost_numbers(english, korean)
    # Between other digits it is another number; beside dots, as in 2020.5.12, it is the same one.
    inside = _parts_of_numbers(korean) if lost else set()
    lost = [number for number in lost if number not in inside]
    return [number for number in lost[:_MOST_COMPARED] if not _in_words(number, korean)] + lost[_MOST_COMPARED:]


def _is_rescaled(english: str, korean: str) -> bool:
    """Whether `5.5 million` became another number than 550만, where the Korean writes it with digits and 만, 억 or 조."""
    wanted = [_amount(digits) * _SCALES[scale.lower()] for digits, scale in _ENGLISH_SCALED.findall(english)]
    if not wanted:
        return False
    have = [
        sum(
            _amount(digits) * _SCALES[small] * _SCALES[large] for digits, small, large in _KOREAN_PART.findall(match[0])
        )
        for match in _KOREAN_SCALED.finditer(korean)
    ]
    if len(have) < len(wanted):
        return False
    known = set(have)
    return any(
        value not in known and not any(abs(value - other) <= _NEAR * value for other in have[:_MOST_COMPARED])
        for value in wanted[:_MOST_COMPARED]
    )


def _amount(digits: str) -> float:
    return float(digits.replace(",", ""))


def _is_changed(english: str, korean: str, lost: list[str]) -> bool:
    """Whether a number that is lost has another in its place, which neither the English nor its words account for."""
    if _OTHER_UNITS.search(english):
        return False
    known = {number.lstrip("0") for number in _DIGITS.findall(english)}
    said = {str(_ENGLISH_NUMBERS[word]) for word in _ENGLISH_WORD.findall(english.lower()) if word in _ENGLISH_NUMBERS}
    least = 2 if said - {"0", "1"} else 1  # beside numbers in words a digit may be counted otherwise
    if not any(len(number) >= least for number in lost):
        return False
    rest = _KOREAN_SCALED.sub(" ", plain(korean))
    known |= said
    return any(
        len(number) >= least and any(part.lstrip("0") not in known for part in _DIGITS.findall(number))
        for number in NUMBER.findall(rest)
    )


def _in_words(number: str, korean: str) -> bool:
    """Whether a whole number stands in Korean words: 3 as 세, 25 as 스물다섯 or 이십오, 7 as 일주일, 20000 as 2만."""
    if not number.isdigit() or len(number) > 6:
        return False
    value = int(number)
    if (words := _OTHER_WORDS.get(str(value))) is not None and re.search(words, korean):
        return True
    if value >= 10_000 and value % 1000 == 0 and re.search(rf"(?<!\d){value // 10_000}(?:\.\d)?만", korean):
        return True
    if 0 < value < 100:
        tens, ones = divmod(value, 10)
        native = "".join(f"(?:{part})" for part in (_NATIVE_TENS[tens], _NATIVE_ONES[ones]) if part)
        if re.search(rf"(?<![가-힣])(?:{native})\s?(?:{_NATIVE_COUNTERS})", korean):
            return True
    sino = _sino(value) or "영"
    return (
        sino in korean
        if len(sino) >= 3
        else re.search(rf"(?<![가-힣]){sino}\s?(?:{_SINO_COUNTERS})", korean) is not None
    )


def _sino(value: int) -> str:
    """The number in Sino-Korean words: 1908 as 천구백팔."""
    if value >= 10_000:
        high, low = divmod(value, 10_000)
        return ("" if high == 1 else _sino(high)) + "만" + (_sino(low) if low else "")
    parts = []
    for unit, word in ((1000, "천"), (100, "백"), (10, "십")):
        count, value = divmod(value, unit)
        if count:
            parts.append(("" if count == 1 else _ONES[count]) + word)
    return "".join([*parts, _ONES[value]])


def _parts_of_numbers(text: str) -> set[str]:
    """Numbers as parts of longer ones: of 2020.5.12 also 2020, 5, 12, 2020.5 and 5.12; up to _MOST_PARTS numbers each."""
    found = set()
    for number in NUMBER.findall(text):
        parts = re.split(r"([.,:/])", number)
        for start in range(0, len(parts), 2):
            for end in range(start + 1, min(start + 2 * _MOST_PARTS, len(parts) + 1), 2):
                found.add("".join(parts[start:end]))
    return found
