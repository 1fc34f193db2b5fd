"""Text as it comes in: composed Hangul, one kind of line end, and nothing that cannot be seen or printed.

macOS writes Hangul in pieces (NFD), spreadsheets begin files with a byte-order mark, web pages carry zero-width spaces and
soft hyphens, old exports half-width jamo. Equal texts must be equal strings, or duplicates and leaks go unseen.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

DEPTH = 8
"""Levels of lists and objects that are looked into; no form that kollm reads holds text below."""
_ODD = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u1100-\u11ff\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3131-\u3164\ufdd0-\ufdef\ufeff\uffa0-\uffdc\ufff0-\ufffb\ufffe\uffff\U000e0000-\U000e0fff]"
)
"""What may have to change; a text without any of these is only composed."""
_PLAIN = bytes([0x09, 0x0A, *range(0x20, 0x7F)])
"""All of ASCII that is not odd."""
_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_ESCAPES = re.compile("\x1b(?:\\[[0-?]{0,64}[ -/]{0,8}[@-~]|[@-Z\\\\-_])")
"""Colours and cursor movements of terminals (ECMA-48)."""
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f\x80-\x9f\ufdd0-\ufdef\ufff0-\ufffb\ufffe\uffff]")
_WINDOWS = {code: bytes([code]).decode("cp1252", "ignore") for code in range(0x80, 0xA0)}
"""Windows' quotation marks and dashes that were taken for Latin-1, as the HTML standard reads them."""
_MARKS = re.compile("\ufeff")
_SOFT_HYPHENS = re.compile("\xad")
_PICTURE = (
    "\xa9\xae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u24c2\u25a0-\u27bf\u2934\u2935\u2b00-\u2bff\u3030\u303d"
    "\u3297\u3299\U0001f000-\U0001faff"
)
_JOINING = (
    "\u0600-\u08ff\u0900-\u0dff\u0f00-\u109f\u1780-\u18af\u1b00-\u1c4f\ua840-\ua8ff\ua900-\ua9df\uaa00-\uaaff\uabc0-\uabff"
    "\ufb50-\ufdcf\ufe70-\ufefc\U00010a00-\U00010fff\U00011000-\U00011fff"
)
"""Scripts whose letters are joined or parted by zero-width joiners: Arabic, Syriac, those of India, Mongolian ..."""
_JOINERS = re.compile(
    f"(?<=[{_PICTURE}\ufe0f])\u200d(?=[{_PICTURE}])|(?<=[{_JOINING}])[\u200c\u200d](?=[{_JOINING}\\s.,;:!?]|\\Z)"
)
"""A joiner inside an emoji sequence, or one that a script needs."""
_ZERO_WIDTH = re.compile("[\u034f\u17b4\u17b5\u180e\u200b-\u200d\u2060-\u2064\u206a-\u206f]")
_MONGOLIAN = re.compile("(?<=[\u1820-\u18aa])\u180e")
_DIRECTIONS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_TAGS = re.compile("(\U0001f3f4[\U000e0020-\U000e007e]{1,16}\U000e007f)|[\U000e0000-\U000e0fff]+")
"""Tag characters: a flag's, as England's, stay; others are writing that nobody sees."""
_FILLERS = re.compile("[\u3164\uffa0]")
_PART_FILLERS = re.compile("[\u115f\u1160](?![\u1100-\u11ff])(?<![\u1100-\u11ff].)", re.DOTALL)
_INVISIBLE = re.compile(
    "[\\s\u115f\u1160\u2800\u3164\uffa0\u034f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\xad\ufeff]*"
)

_INITIALS, _MEDIALS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ", "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
_FINALS = "ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"
_HALF = {
    **{0xFFA1 + number: chr(0x3131 + number) for number in range(30)},
    **{
        code: "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"[number]
        for number, code in enumerate(
            [*range(0xFFC2, 0xFFC8), *range(0xFFCA, 0xFFD0), *range(0xFFD2, 0xFFD8), *range(0xFFDA, 0xFFDD)]
        )
    },
}
"""Half-width jamo by code, as compatibility jamo."""
_LONE_PARTS = {
    **{0x1100 + number: letter for number, letter in enumerate(_INITIALS)},
    **{0x1161 + number: letter for number, letter in enumerate(_MEDIALS)},
    **{0x11A8 + number: letter for number, letter in enumerate(_FINALS)},
}
_PART = re.compile("[\u1100-\u11ff\ua960-\ua97c\ud7b0-\ud7fb]+")
_HALF_RUN = re.compile("[\uffa1-\uffdc]+")
_JAMO_RUN = re.compile("[ㄱ-ㅎㅏ-ㅣ]+")
_SYLLABLES = re.compile(f"(?:([{_INITIALS}])([{_MEDIALS}])(?:([{_FINALS}])(?![{_MEDIALS}]))?)")
_SPELT = re.compile(f"(?:[{_INITIALS}][{_MEDIALS}](?:[{_FINALS}](?![{_MEDIALS}]))?)+")
_SYLLABLE = re.compile("[가-힣]")
_LETTER = re.compile(r"[^\W\d_]")
_MANY_MARKS = re.compile(
    "[\u0300-\u036f\u0483-\u0487\u0591-\u10ff\u1200-\u1dff\u20d0-\u20ff\u2cef-\u2dff\u302a-\u309a\ua66f-\uabed\ufb1e\ufe20-\ufe2f"
    "\U000101fd-\U0001e94a]{31,}"
)
"""More characters of scripts with marks than text holds without a space; Unicode's stream-safe form allows 30 marks."""


def normalise(text: str) -> str:
    """A text as kollm holds it: NFC, lines ending in `\\n`, no mark, control or zero-width character that shows nothing.

    Joiners stay inside emoji sequences and where a script needs them, marks of direction in texts with Arabic or Hebrew.
    Half-width jamo, and compatibility jamo where all of a text is spelt in them, become syllables; `ㅋㅋㅋ` stays.
    """
    while not is_normal(text):
        before, text = text, _normalised(text)
        if before == text:
            break  # what was composed can bring a filler to the front: twice is enough, and nothing grows
    return text


def compose(text: str) -> str:
    """The text in NFC, in linear time: Python's own way takes quadratic time for thousands of marks over one letter."""
    return unicodedata.normalize("NFC", _MANY_MARKS.sub(_in_canonical_order, text))


def _in_canonical_order(match: re.Match[str]) -> str:
    parts = "".join(unicodedata.normalize("NFD", character) for character in match[0])
    groups = itertools.groupby(parts, key=lambda part: unicodedata.combining(part) > 0)
    return "".join("".join(sorted(group, key=unicodedata.combining) if marks else group) for marks, group in groups)


def is_normal(text: str) -> bool:
    """Whether `normalise` may leave the text as it is, at the cost of one look."""
    if text.isascii():
        return not text.encode().translate(None, _PLAIN) or not _ODD.search(text)
    return not _ODD.search(text) and unicodedata.is_normalized("NFC", text)


def are_normal(texts: Iterable[str]) -> bool:
    """Whether all of these are, at the cost of one look: no line break composes with what stands beside it."""
    return is_normal("\n".join(texts))


def changes(text: str) -> tuple[str, ...]:
    """What `normalise` changes in a text, by kind, for the counts of a card."""
    if is_normal(text):
        return ()
    return tuple(dict.fromkeys(name for name, before, after in _steps(text) if before != after))


def normalise_values(value: Any, changed: set[str] | None = None, depth: int = DEPTH) -> Any:
    """A JSON value with all its texts normalised, names included; `changed` collects what was changed, by kind."""
    if isinstance(value, str):
        kinds = changes(value)
        if changed is not None:
            changed.update(kinds)
        return normalise(value) if kinds else value
    if depth and isinstance(value, dict):
        return {
            normalise_values(name, changed, 0): normalise_values(item, changed, depth - 1)
            for name, item in value.items()
        }
    if depth and isinstance(value, list):
        return [normalise_values(item, changed, depth - 1) for item in value]
    return value


def is_blank(text: str) -> bool:
    """Whether a reader sees nothing: white space, fillers and characters of no width."""
    return text.isspace() or _INVISIBLE.fullmatch(text) is not None


def language_of(text: str) -> str:
    """`ko` where a tenth of the letters are Hangul, else `en`."""
    letters = len(_LETTER.findall(text))
    return "ko" if letters and len(_SYLLABLE.findall(text)) * 10 >= letters else "en"


def _normalised(text: str) -> str:
    return list(_steps(text))[-1][2]


def _steps(text: str) -> Iterator[tuple[str, str, str]]:
    """Each step with the text before and after it."""
    for name, step in (
        ("byte_order_mark_removed", lambda text: _MARKS.sub("", text)),
        ("line_ends_mended", lambda text: _LINE_ENDS.sub("\n", text)),
        ("control_characters_removed", _without_controls),
        ("soft_hyphens_removed", lambda text: _SOFT_HYPHENS.sub("", text)),
        ("zero_width_removed", _without_zero_width),
        (
            "composed_to_nfc",
            lambda text: _PART_FILLERS.sub("", compose(text)),
        ),  # what it stood beside may be a syllable
        ("jamo_composed", lambda text: compose(_with_syllables(_without_parts(text)))),
    ):
        before, text = text, step(text)
        yield name, before, text


def _without_controls(text: str) -> str:
    text = _ESCAPES.sub("", text)
    return _CONTROLS.sub(lambda match: _WINDOWS.get(ord(match[0]), ""), text)


def _without_zero_width(text: str) -> str:
    kept = {match.start() for match in _JOINERS.finditer(text)} | {match.start() for match in _MONGOLIAN.finditer(text)}
    text = _ZERO_WIDTH.sub(lambda match: match[0] if match.start() in kept else "", text)
    if not _RIGHT_TO_LEFT.search(text):
        text = _DIRECTIONS.sub("", text)
    text = _TAGS.sub(lambda match: match[1] or "", text)
    return _PART_FILLERS.sub("", _FILLERS.sub(" ", text))


def _with_syllables(text: str) -> str:
    text = _HALF_RUN.sub(lambda match: _spelt(match[0].translate(_HALF)), text)
    jamo = sum(len(match[0]) for match in _JAMO_RUN.finditer(text))
    if jamo <= 2 * len(_SYLLABLE.findall(text)):
        return text
    return _JAMO_RUN.sub(lambda match: _spelt(match[0]), text)


def _spelt(run: str) -> str:
    """A run of jamo as syllables, where two or more make up all of it."""
    if len(run) < 4 or not _SPELT.fullmatch(run):
        return run
    return _SYLLABLES.sub(_compose, run)


def _compose(match: re.Match[str]) -> str:
    first, middle, last = match.groups()
    final = 0 if last is None else _FINALS.index(last) + 1
    return chr(0xAC00 + (_INITIALS.index(first) * 21 + _MEDIALS.index(middle)) * 28 + final)


def _without_parts(text: str) -> str:
    """Parts of syllables that stand alone as the letters that they are; old Hangul, written in parts, stays."""
    return _PART.sub(lambda match: match[0].translate(_LONE_PARTS) if _is_modern(match[0]) else match[0], text)


def _is_modern(run: str) -> bool:
    return all(ord(part) in _LONE_PARTS for part in run)


def existing_path(path: Path) -> Path:
    """The path, or the one whose names are the same in another form of Unicode, as far as only those are there.

    macOS writes Korean file names in pieces; typed or written in a recipe they are composed.
    """
    if path.exists() or str(path).isascii():
        return path
    found = Path(path.anchor)
    for part in path.parts[1 if path.anchor else 0 :]:
        forms = (part, unicodedata.normalize("NFC", part), unicodedata.normalize("NFD", part))
        found = next((found / form for form in forms if (found / form).exists()), found / part)
    return found
