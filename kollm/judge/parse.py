"""Reading a judge's reply: a number or None for every axis, never a guess.

How recorded replies of real judges read, and what counts:

- A score stands on a line that begins with its axis's label, after bullets and numbering: `- 자연스러움 (1 - 3): 2`.
- The bracket before the score echoes the range. Where no number follows it, `(n)` and `(n/high)` are the score, and
  `(a-b)` that departs from the axis's range scores a. A bare echo of the range says nothing, unless another bracket of
  the same reply departs from its range, which shows that this judge writes its scores there: then it scores its lower number.
- A rationale may come first: then the score is what the line's last `점수:` says, or a line of its own below (`점수: 3`).
- What stands within `<think>` marks is no part of the reply.
- N/A, a score outside the axis, a span (`2-3`), a bound (`3점 이상`), another scale (`8/10`, `4점 (10점 만점)`), a scale's
  maximum alone (`5점 만점`), a score that is taken back below, and two different scores for one axis are None.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from kollm.core.replies import reasoning_end
from kollm.core.text import compose
from kollm.judge.rubric import Axis, Rubric
from kollm.judge.rubric_file import load_rubric

_TAIL = 200
"""Characters after a word like 점수 in which its score stands."""
REMEMBERED = 1000
"""Characters of a reply that is remembered: of 1,512 recorded replies of KULLM3's judge 319 are different."""
LINES_BELOW = 12
"""Lines below a label in which its score may stand, after a rationale."""
_FULL_WIDTH = {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
_SIGNS = {"½": ".5", "⁄": "/", "∕": "/", "\u3000": " ", "\u00a0": " ", "ː": ":"} | dict.fromkeys("‐‑‒–—―−~∼〜", "-")
_PLAIN = str.maketrans(_FULL_WIDTH | {"～": "-"} | _SIGNS)
_NUMBER = r"[0-9]{1,6}(?:\.[0-9]{1,6})?|\.5"
_DIGIT = re.compile("[0-9]")
_PAIR = re.compile(rf"[\s*_`\"']*+[:=][\s*_`\"']*+(?:{_NUMBER})\s*+점?[\s*_`\"']*+")
_BULLETS = " \t>#*+-•·●▪◦‣■□*_\"'`|{[(<"
_NUMBERING = re.compile(r"(?:[0-9]{1,2}|[A-Za-z가-하])[.)]|[①-⑳]")
_BRACKET = re.compile(r"[\s*_`\"']{0,8}[(\[]([^()\[\]\n]{0,80})[)\]]")
_RANGE = re.compile(rf"\s*({_NUMBER})\s*-\s*({_NUMBER})\s*(?:점)?\s*")
_POINT = re.compile(rf"\s*({_NUMBER})\s*(?:점)?\s*(?:/\s*({_NUMBER})\s*(?:점)?\s*)?")
_TO_SCORE = re.compile(
    r"[\s*_`\"']{0,8}(?:은|는)?[\s*_`\"':=|→>]{0,12}(?:-\s{1,4})?"
    r"(?:(?:score|rating|점수|평점|평가)[\s*_`\"':=|]{0,8})?[*_`\"'(\[<]{0,4}",
    re.IGNORECASE,
)
_SCORE = re.compile(
    rf"(?P<score>[+-]?(?:{_NUMBER}))(?![0-9.]*[0-9])"
    r"(?:\s*점)?(?:[\s*_`\"')\]>]{0,6}(?:/|(?:out )?of\b)\s*(?P<out_of>[0-9]{1,6})(?:\s*점)?)?",
    re.IGNORECASE,
)
_OUT_OF_FIRST = re.compile(
    rf"([0-9]{{1,6}})\s*+점?\s*+(?:(?:만점|척도|스케일)\s*+(?:기준|중|에)?(?:에서|에|으로|로)?\s*+[:,]?|(?:중|에)에?서?)\s*+(?P<score>{_NUMBER})"
)
_MAXIMUM = re.compile(
    r"(?:만점|최대|최고|maximum|max|out of|(?<![A-Za-z])of)\s*+[:은는이]?\s*+([0-9]{1,6})|([0-9]{1,6})\s*+점?\s*+(?:만점|척도|스케일|scale)",
    re.IGNORECASE,
)
_NO_SCORE = re.compile(
    r"[\s*_`\"')\]]{0,6}(?:만점|척도|스케일|이상|이하|미만|초과|내외|or (?:more|less|higher|lower|above|below)\b|\+)",
    re.IGNORECASE,
)
_CORRECTION = r"(?:수정|정정|변경|보정|재평가|재채점|최종|corrected|correction|revised|revision|final|updated?)"
_PREFIX = re.compile(
    rf"{_CORRECTION}(?:된|한)?\s{{0,3}}(?:점수|판정|평가|score|verdict)?\s{{0,3}}[:\-*_]*\s{{0,3}}", re.IGNORECASE
)
_CORRECTED = re.compile(
    rf"(?:{_CORRECTION}|아니|actually|rather)[^0-9\n]{{0,20}}[0-9](?:\.[0-9])?(?:\s*점|[\s)\]*_.]*$)", re.IGNORECASE
)
_SCORE_WORD = re.compile(
    r"(?:점수|평점|score|rating)[\s*_`\"']{0,4}(?:은|는)?[\s*_`\"']{0,4}[:=][\s*_`\"'(\[]{0,6}", re.IGNORECASE
)
_SCORE_LINE = re.compile(
    rf"(?:{_CORRECTION}\s{{0,3}})?(?:점수|평점|score|rating)[\s*_`\"']{{0,4}}[:=][\s*_`\"'(\[]{{0,6}}(?=[0-9])",
    re.IGNORECASE,
)
_CORRECTED_LINE = re.compile(rf"{_CORRECTION}[\s*_`\"']{{0,4}}[:=][\s*_`\"'(\[]{{0,6}}(?=[0-9])", re.IGNORECASE)
_SPAN = re.compile(
    r"\s*+[)\]*_`\"']*+\s*+(?:,(?=[0-9])|-|/|→|->|or\b|to\b|또는|혹은|에서|내지)\s*+[(\[]?\s*+[0-9]", re.IGNORECASE
)
_GLUED = re.compile(r"[A-Za-z0-9%°]|[가-힣]")
_ENDINGS = re.compile(r"점|입니다|이다|이며|이고|이에요|예요|으로|로\b")
_NOT_APPLICABLE = re.compile(
    r"[\s*_`\"':=|(\[-]{0,12}(?:n\s?/\s?a\b|none\b|null\b|해당\s?없음|평가\s?불가|없음)", re.IGNORECASE
)
_BARE_LINE = re.compile(
    rf"[\s*_`\"'(\[-]{{0,8}}(?:점수\s*+[:=]?\s*+|score\s*+[:=]?\s*+)?(?:{_NUMBER})[\s*_`\"')\]]{{0,6}}(?:점|/\s*[0-9]+점?)?[\s.*_`\"')\]]{{0,6}}",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Reading:
    """What one line says about one axis; `from_end` is where its score stands, in characters before the line's end."""

    axis: Axis
    score: float | None = None
    void: bool = False
    bracket: float | None = None
    departs: bool = False
    echoes: bool = False
    from_end: int | None = None


class _Found(NamedTuple):
    """A number right after a label: its value, whether it is no single score, and where it stands."""

    score: float | None
    void: bool = False
    start: int = 0
    end: int = 0


def parse_verdict(text: str, rubric: str | Path | Rubric) -> dict[str, float | None]:
    """Read a judge's reply.

    Args:
        text: the reply as it came.
        rubric: a Rubric, the name of a shipped one, or the path of a rubric file.

    Returns:
        For every axis of the rubric, its score, or None where the reply gives none that is beyond doubt.
    """
    rubric = load_rubric(rubric)
    if not rubric.scored:
        return rubric.none_scores()
    scores = _remembered(text, rubric) if len(text) <= REMEMBERED else _parsed(text, rubric)
    return rubric.none_scores() | scores


@lru_cache(maxsize=4096)
def _remembered(text: str, rubric: Rubric) -> dict[str, float | None]:
    return _parsed(text, rubric)


def _parsed(text: str, rubric: Rubric) -> dict[str, float | None]:
    readings: dict[str, list[_Reading]] = {axis.key: [] for axis in rubric.scored}
    for reading in _readings(text[reasoning_end(text) :], rubric):
        readings[reading.axis.key].append(reading)
    in_brackets = any(_decided_by_bracket(found) for found in readings.values())
    return {axis.key: _decide(axis, readings[axis.key], in_brackets) for axis in rubric.scored}


def score_places(text: str, rubric: Rubric) -> dict[str, int]:
    """Where each axis's score stands in the reply, as an index of characters; axes without one certain score are left out.

    A score in a line of several, or on the line after its label, has no place: judges asked by the form write neither.
    """
    start = reasoning_end(text)
    plain = _plain(text[start:])
    scores = parse_verdict(text, rubric)
    places: dict[str, int] = {}
    if not rubric.scored or len(plain) != len(text) - start:
        return places
    label, by_label = _labels(rubric)
    end = start
    for line in plain.splitlines(keepends=True):
        end += len(line)
        content = line.rstrip("\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029")
        parts = _parts(content, label)
        if len(parts) == 1 and (match := label.match(parts[0])):
            reading = _read(by_label[_fold(match[0])], parts[0][match.end() :], ())
            if reading.from_end is not None and reading.score == scores[reading.axis.key]:
                places[reading.axis.key] = end - (len(line) - len(content)) - reading.from_end
    return places


def _plain(text: str) -> str:
    return compose(text).translate(_PLAIN)


def _decided_by_bracket(found: list[_Reading]) -> bool:
    return any(reading.departs for reading in found) and not any(r.score is not None or r.void for r in found)


def _decide(axis: Axis, found: list[_Reading], in_brackets: bool) -> float | None:
    if any(reading.void for reading in found):
        return None
    scores = {reading.score for reading in found if reading.score is not None}
    if not scores:
        scores = {reading.bracket for reading in found if reading.bracket is not None}
    if not scores and in_brackets and any(reading.echoes for reading in found):
        scores = {float(axis.low)}
    return axis.accept(scores.pop()) if len(scores) == 1 else None


def _readings(text: str, rubric: Rubric) -> Iterator[_Reading]:
    label, by_label = _labels(rubric)
    lines = _plain(text).splitlines()
    labelled = [(number, parts) for number, line in enumerate(lines) if (parts := _parts(line, label))]
    for place, (number, parts) in enumerate(labelled):
        end = labelled[place + 1][0] if place + 1 < len(labelled) else len(lines)
        for part in parts:
            if (match := label.match(part)) is not None:
                yield _read(
                    by_label[_fold(match[0])],
                    part[match.end() :],
                    lines[number + 1 : min(end, number + 1 + LINES_BELOW)],
                )


@lru_cache(maxsize=64)
def _labels(rubric: Rubric) -> tuple[re.Pattern[str], dict[str, Axis]]:
    """One pattern for every label of the rubric, the longest first, and the axis of each."""
    by_label: dict[str, Axis] = {}
    words = []
    for axis in rubric.scored:
        for label in (axis.label, axis.key.replace("_", " "), axis.key, *axis.also):
            by_label.setdefault(_fold(label), axis)
            words.append(r"[\s_]{0,3}".join(map(re.escape, re.split(r"[\s_]+", label))))
    alternatives = "|".join(sorted(set(words), key=len, reverse=True))
    return re.compile(rf"(?:{alternatives})(?![A-Za-z])", re.IGNORECASE), by_label


def _fold(label: str) -> str:
    return re.sub(r"[\s_]+", "", label).casefold()


def _parts(line: str, label: re.Pattern[str]) -> Sequence[str]:
    """The line without bullets and numbering; or its parts, where it is nothing but `label: score` pairs."""
    start = _strip_bullets(line)
    if not label.match(start):
        correction = _PREFIX.match(start)
        start = _strip_bullets(start[correction.end() :]) if correction else ""
        if not label.match(start):
            return ()
    pieces = (
        [_strip_bullets(piece) for piece in re.split(r"[,;|/]", start.rstrip(" \t}]|"))] if len(start) < 2000 else []
    )
    if len(pieces) > 1 and all(_is_pair(piece, label) for piece in pieces):
        return pieces
    return (start,)


def _strip_bullets(line: str) -> str:
    line = line.lstrip(_BULLETS)
    numbering = _NUMBERING.match(line)
    return line[numbering.end() :].lstrip(_BULLETS + ")") if numbering else line


def _is_pair(piece: str, label: re.Pattern[str]) -> bool:
    match = label.match(piece)
    if match is None:
        return False
    _, rest = _brackets(piece[match.end() :])
    return _PAIR.fullmatch(rest) is not None


def _brackets(rest: str) -> tuple[str | None, str]:
    """The text of the first bracket with a digit in it, and what follows the brackets."""
    found = None
    while (match := _BRACKET.match(rest)) is not None and (found is None or not _DIGIT.search(match[1])):
        if _DIGIT.search(match[1]):
            found = match[1]
        rest = rest[match.end() :]
    return found, rest


def _read(axis: Axis, rest: str, following: Sequence[str]) -> _Reading:
    bracket, after = _brackets(rest)
    value, departs, echoes = _read_bracket(axis, bracket)
    if _NOT_APPLICABLE.match(after) or (bracket is not None and _other_scale(axis, bracket)):
        return _Reading(axis, void=True)
    found, from_end = _read_score(axis, after), None
    if found.score is not None:
        from_end = len(after) - found.start
    said = _said_last(axis, after)
    if said is not None:
        if found.score is None and not found.void:
            found, from_end = said, len(after) - said.start
        elif said.score != found.score:
            found = _Found(None, void=True)
    elif found.score is None and not found.void:
        found = _read_below(axis, after, following)
    score, void = found.score, found.void
    if score is not None and value is not None and not echoes and not departs and value not in (score, axis.high):
        void = True  # `(4): 3` gives two scores; `(5): 3` echoes the maximum
    if score is not None and _taken_back(axis, score, after[found.end :] if from_end is not None else "", following):
        void = True
    return _Reading(axis, None if void else score, void, value, departs and value is not None, echoes, from_end)


def _said_last(axis: Axis, after: str) -> _Found | None:
    """What `점수: 3` says at the end of a line that gives a rationale first; void where it says two things."""
    found = None
    for match in _SCORE_WORD.finditer(after):
        number = _SCORE.match(after, match.end())
        if number is None or match.start() == 0:
            continue
        one = _read_score(axis, after[match.end() : match.end() + _TAIL])
        one = one._replace(start=one.start + match.end(), end=one.end + match.end())
        if found is not None and found.score != one.score:
            return _Found(None, void=True)
        found = one
    return found


def _read_below(axis: Axis, after: str, following: Sequence[str]) -> _Found:
    """The score on a line of its own, below the label or below its rationale."""
    found = _Found(None)
    if not after.strip(" \t:=*_`\"'|"):
        line = next((line for line in following[:2] if line.strip()), "")
        if _BARE_LINE.fullmatch(line):
            found = _read_score(axis, f": {line.strip()}")
    for line in following:
        start = _strip_bullets(line)
        if (match := _SCORE_LINE.match(start)) is None:
            continue
        one = _read_score(axis, f": {start[match.end() :]}")
        if found.score is not None and one.score != found.score:
            return _Found(None, void=True)
        found = one
    return found


def _taken_back(axis: Axis, score: float, tail: str, following: Sequence[str]) -> bool:
    """Whether the judge corrects itself, in the rest of the line or in a line below."""
    if _CORRECTED.search(tail[:200]):
        return True
    for line in following:
        start = _strip_bullets(line)
        if (match := _CORRECTED_LINE.match(start)) and _read_score(axis, f": {start[match.end() :]}").score != score:
            return True
    return False


def _other_scale(axis: Axis, text: str) -> bool:
    """Whether a text names a scale that ends elsewhere than the axis."""
    ends = [float(match[1] or match[2]) for match in _MAXIMUM.finditer(text)]
    span = _RANGE.fullmatch(text)
    return any(end != axis.high for end in ends) or (span is not None and float(span[2]) > axis.high)


def _read_bracket(axis: Axis, bracket: str | None) -> tuple[float | None, bool, bool]:
    """What a bracket scores, whether it is a range that departs from the axis's, and whether it echoes that."""
    if bracket is None:
        return None, False, False
    span = _RANGE.fullmatch(bracket)
    if span is not None:
        if (float(span[1]), float(span[2])) == (axis.low, axis.high):
            return None, False, True
        return float(span[1]), True, False
    point = _POINT.fullmatch(bracket)
    if point is None or (point[2] is not None and float(point[2]) != axis.high):
        return None, False, False
    return float(point[1]), False, False


def _read_score(axis: Axis, after: str) -> _Found:
    """The number that stands right after the label and its separators."""
    lead = _TO_SCORE.match(after)
    assert lead is not None
    reversed_order = _OUT_OF_FIRST.match(after, lead.end())  # `5점 만점에 4점`
    match = reversed_order or _SCORE.match(after, lead.end())
    if match is None:
        return _Found(None)
    out_of = match[1] if reversed_order else match["out_of"]
    if out_of is not None and float(out_of) != axis.high:
        return _Found(None, void=True)
    tail = after[match.end() :]
    if _SPAN.match(tail) or _NO_SCORE.match(tail) or _other_scale(axis, tail[:40]):
        return _Found(None, void=True)
    if _GLUED.match(tail) and not _ENDINGS.match(tail):
        return _Found(None)  # `3개의 오류`, `2nd`: a number in prose
    return _Found(float(match["score"]), start=match.start("score"), end=match.end())
