"""A task's own checklist: questions on the answer that a judge says yes or no to (TICK, Cook et al. 2024)."""

from __future__ import annotations

import re
from collections.abc import Sequence

_LINE = re.compile(
    r"^[\s>*#_`|-]{0,12}(?:항목|item|질문)?\s{0,3}([0-9]{1,3})\s{0,3}번?[.):：\]|]{0,3}[\s*_`|-]{0,8}(?P<rest>[^\n]{0,2000})$",
    re.IGNORECASE | re.MULTILINE,
)
_ANSWER = re.compile(r"(?<![가-힣A-Za-z])(아니오|아니요|예|네|yes|no|true|false)(?![가-힣A-Za-z])", re.IGNORECASE)
_YES = {"예", "네", "yes", "true"}


def read_answers(text: str, count: int) -> list[bool | None]:
    """The judge's answer to each of `count` questions: what a line like `3. 예` says; None for none, or for both.

    A line may give reasons: then its last word of the kind counts if it ends the line or stands alone, as in `3. ... : 예`.
    """
    found: list[set[bool]] = [set() for _ in range(count)]
    for line in _LINE.finditer(text):
        number = int(line[1])
        if not 1 <= number <= count:
            continue
        words = [match[1].casefold() in _YES for match in _ANSWER.finditer(line["rest"])]
        if words:
            found[number - 1].add(words[0] if len(set(words)) == 1 else _last(line["rest"]))
    return [answers.pop() if len(answers) == 1 else None for answers in found]


def _last(rest: str) -> bool:
    return [match[1].casefold() in _YES for match in _ANSWER.finditer(rest)][-1]


def share(answers: Sequence[bool | None]) -> float | None:
    """The share of yes; None where a question is unanswered or there is none."""
    if not answers or any(answer is None for answer in answers):
        return None
    return sum(map(bool, answers)) / len(answers)
