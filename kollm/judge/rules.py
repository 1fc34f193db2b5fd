"""Rules that an answer can be checked for without a model: length, format, language, keywords (IFEval's kind, Zhou et al. 2023).

    {"rule": "max_characters", "value": 200}
    {"rule": "includes", "value": ["서울", "부산"]}

A rubric's axis of the kind `rules` holds some for all tasks, or each task brings its own. The score is the share that is met.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kollm.core.errors import InputError

Rule = Mapping[str, Any]
_SENTENCE_END = re.compile(r"[.!?。！？…]+[\"'”’)\]]*(?=\s|$)")
_BULLET = re.compile(r"(?m)^[ \t]{0,8}(?:[-*+•·]|\d{1,3}[.)])[ \t]+\S")
_HEADING = re.compile(r"(?m)^#{1,6}[ \t]+\S")
_BOLD = re.compile(r"\*\*[^*\n]{1,500}\*\*")
_LETTER = re.compile(r"[^\W\d_]")
_HANGUL = re.compile("[가-힣ㄱ-ㅎㅏ-ㅣ]")
_LATIN = re.compile("[A-Za-z]")
_POLITE = re.compile(r"(?:니다|니까|시오|세요|어요|아요|에요|예요|해요|지요|죠|네요|군요|래요|까요|데요)[.!?~…]*$")
_PLAIN = re.compile(r"(?<!니)(?<!니까)다[.!?…]*$")


def _characters(text: str) -> int:
    return len(text.strip())


def _sentences(text: str) -> int:
    lines = [line for line in text.splitlines() if line.strip()]
    return sum(max(1, len(_SENTENCE_END.findall(line.strip()))) for line in lines)


def _paragraphs(text: str) -> int:
    return sum(bool(part.strip()) for part in re.split(r"\n[ \t]*\n", text))


def _lines(text: str) -> int:
    return sum(bool(line.strip()) for line in text.splitlines())


def _bullets(text: str) -> int:
    return len(_BULLET.findall(text))


COUNTS: dict[str, Callable[[str], int]] = {
    "characters": _characters,
    "words": lambda text: len(text.split()),
    "sentences": _sentences,
    "paragraphs": _paragraphs,
    "lines": _lines,
    "bullets": _bullets,
    "headings": lambda text: len(_HEADING.findall(text)),
    "bold": lambda text: len(_BOLD.findall(text)),
}
"""What can be counted: each makes the rules `min_...`, `max_...` and `exact_...`, whose value is a whole number."""


def _json(text: str, _: Any) -> bool:
    stripped = text.strip()
    if stripped.startswith("```") and stripped.endswith("```") and "\n" in stripped:
        stripped = stripped.split("\n", 1)[1][:-3]
    try:
        json.loads(stripped)
    except (ValueError, RecursionError):
        return False
    return True


def _language(text: str, value: str) -> bool:
    letters = len(_LETTER.findall(text))
    if not letters:
        return False
    share = len((_HANGUL if value == "ko" else _LATIN).findall(text)) / letters
    return share >= 0.5


def _register(text: str, value: str) -> bool:
    """Whether all sentences end politely (해요체, 합쇼체), or all plainly (해라체)."""
    ends = [part.strip() for line in text.splitlines() for part in re.split(r"(?<=[.!?])\s+", line) if part.strip()]
    polite = [_POLITE.search(end) is not None for end in ends]
    plain = [_PLAIN.search(end) is not None and not yes for end, yes in zip(ends, polite, strict=True)]
    return any(polite) and not any(plain) if value == "polite" else any(plain) and not any(polite)


CHECKS: dict[str, Callable[[str, Any], bool]] = {
    "includes": lambda text, words: all(word in text for word in words),
    "excludes": lambda text, words: not any(word in text for word in words),
    "starts_with": lambda text, value: text.lstrip().startswith(value),
    "ends_with": lambda text, value: text.rstrip().endswith(value),
    "json": _json,
    "language": _language,
    "register": _register,
    "no_comma": lambda text, _: "," not in text and "，" not in text,
    "quoted": lambda text, _: len(text.strip()) > 1 and text.strip()[0] in "\"“'" and text.strip()[-1] in "\"”'",
}
"""Rules that are not counts."""
_CHOICES = {"language": ("ko", "en"), "register": ("polite", "plain")}
_WITHOUT_VALUE = ("json", "no_comma", "quoted")


def rule_names() -> list[str]:
    """Names of all rules."""
    return [f"{bound}_{what}" for what in COUNTS for bound in ("min", "max", "exact")] + list(CHECKS)


def check_rules(rules: Sequence[Rule], where: str) -> None:
    """Refuse what is no rule.

    Raises:
        InputError: an unknown rule, an unknown key, or a value of the wrong kind.
    """
    for rule in rules:
        name, value = rule.get("rule"), rule.get("value")
        if name not in rule_names():
            raise InputError(f"{where}: there is no rule {name!r} - use {', '.join(rule_names())}.")
        if unknown := sorted(rule.keys() - {"rule", "value"}):
            raise InputError(f"{where}, rule {name}: unknown key '{unknown[0]}' - a rule has `rule` and `value`.")
        if name in _CHOICES and value not in _CHOICES[name]:
            raise InputError(f"{where}, rule {name}: the value is {value!r} - use {' or '.join(_CHOICES[name])}.")
        if name not in CHECKS and (type(value) is not int or value < 0):
            raise InputError(f"{where}, rule {name}: the value is {value!r} - give a whole number.")
        words = name in ("includes", "excludes")
        if words and not (isinstance(value, list | tuple) and value and all(isinstance(word, str) for word in value)):
            raise InputError(f"{where}, rule {name}: the value is {value!r} - give a list of words.")
        if name in ("starts_with", "ends_with") and not (isinstance(value, str) and value):
            raise InputError(f"{where}, rule {name}: the value is {value!r} - give a text.")
        if name in _WITHOUT_VALUE and value is not None:
            raise InputError(f"{where}, rule {name}: it takes no value, and {value!r} was given - leave it out.")


def follows(text: str, rule: Rule) -> bool:
    """Whether a text meets a rule that `check_rules` let pass."""
    name, value = str(rule["rule"]), rule.get("value")
    if name in CHECKS:
        return CHECKS[name](text, value)
    bound, what = name.split("_", 1)
    count = COUNTS[what](text)
    if bound == "exact":
        return bool(count == value)
    return bool(count >= value if bound == "min" else count <= value)  # type: ignore[operator]


def share_followed(text: str, rules: Sequence[Rule]) -> float | None:
    """The share of rules that a text meets; None where there is no rule."""
    return sum(follows(text, rule) for rule in rules) / len(rules) if rules else None
