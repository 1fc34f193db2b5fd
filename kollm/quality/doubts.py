"""Which rules may say anything about which rows of a batch, told for all of them at once.

A rule is a function on one row. Most rows are told clean by what their texts do not hold (signs.py), by their lengths or by
how much of them is Hangul, and a rule is asked only about the others. A row in doubt may be clean; one without doubt is,
whatever else it holds: tests/quality/test_doubts.py looks for texts that say otherwise.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kollm.quality.completeness import (
    LONG_ENOUGH,
    LONGER,
    LONGEST,
    REPEATED,
    SHORT_AND_OPEN,
    SHORTEST,
    SHORTEST_OF_LONGER,
)
from kollm.quality.estimates import LONGEST as LONGEST_SURE
from kollm.quality.estimates import READ
from kollm.quality.estimates import SHORTEST as SHORTEST_SURE
from kollm.quality.flags import GRAM
from kollm.quality.flags import LONGEST as LONGEST_READ
from kollm.quality.flags import SHORTEST as SHORTEST_REPEATED
from kollm.quality.language import ENGLISH_WORDS, LEAST_HANGUL, OTHER_LETTER
from kollm.quality.refusals import CONVERSATIONS
from kollm.quality.shingles import TOGETHER, fold_letters, windows
from kollm.quality.signs import BEYOND, END, Look, Mask, Sign, Signs, signs
from kollm.quality.view import View

Rule = Callable[[View], object]

_PARTS = np.isin(np.arange(256), list(b".,:/"))
"""Signs that join digits to one number."""
_RUN = 8
"""Letters of the runs by which a text is told to repeat nothing; fewer than flags.GRAM."""
_SLOTS = 4
"""Places for such a run, for each letter of its text."""
_ALL = "".join(map(chr, range(0x10000)))


def _of(pattern: str) -> str:
    """The characters that a pattern finds."""
    return "".join(re.findall(pattern, _ALL))


def _any_case(words: str) -> list[Sign]:
    """Words of two letters, in upper or lower case, and what patterns take for these."""
    alike = {"i": "ıİ", "s": "ſ", "k": "K"}
    return [tuple(letter + letter.upper() + alike.get(letter, "") for letter in word) for word in words.split()]


@functools.cache
def _signs() -> Signs:
    letter, like_letter, high = _of("[A-Za-z]"), _of("[A-Za-zıİſK]"), _of("[\x80-\xfe]")
    space, digit, stop = _of(r"\s"), _of(r"\d") + BEYOND, ".!?\n" + END
    return Signs(
        {
            "line break": [("\n",)],
            "mask": signs("< { ⟦ @@ __ [[ &l d= PL [U [C [L [M [P [T"),
            "mojibake": [
                *signs("\ufffd 占쏙 ï¿ ï» ?? □ 뷁뷁 \\u \\x &#"),
                *[("âÃÂêëìí", _of("[\x80-\xff€ŒœŠšŸŽžƒˆ˜–-™ ]")), (high, high), ("%", _of("[0-9A-Fa-f]"))],
            ],
            "model's talk": [
                *signs("번역 정책 지침 처리 못했 말씀 텍스 인공 모델 챗 지식 학습 죄송 미안 유감"),
                *[(" ", "없"), (like_letter, like_letter)],
            ],
            "token": signs("< ["),
            "opening": [*signs("번역"), *_any_case("ns"), ("어로력변" + like_letter + space, ":：")],
            "closing": signs("번역 원역 음역 원문 역주 ot ns et"),
            "word before space": [(letter + "'’-,", " ")],
            "word behind space": [(" ", letter)],
            "hangul": [(_of("[가-힣ㄱ-ㅎㅏ-ㅣ]"),)],
            "latin": [(_of("[A-Za-zÀ-ÖØ-öø-ɏḀ-ỿ]"),)],
            "other letter": [(_of(OTHER_LETTER),)],
            "markup": signs("& <"),
            "digit": [(digit,)],
            "structure": [*signs("` ~~ :/ ww $ @ { %%"), ("\\", "([b"), (_of(r"\D") + BEYOND, "%")],
            "fence": signs("``"),
            "open end": [(_of("[가-힣ㄱ-ㅣ,]") + space, END)],
            "polite": [("요죠", stop)],
            "formal": [("다까오", stop)],
            "so it is": [("다", stop)],
            "humbly": signs("니다"),
            "number and gap": [(digit, " -")],
            "gap and scale": [(" -", "tTmMbB")],
            "number and scale": [(digit, "tTmMbB")],
            "beyond": [(BEYOND,)],
        }
    )


@dataclass(frozen=True)
class _Fields:
    """The Korean fields of a batch, one after the other.

    Attributes:
        views: the rows.
        row: for each field its row.
        names: the fields' names.
        texts: English and Korean of each.
        compared: whether the rules compare the two.
        english, korean: what was seen in them.
    """

    views: Sequence[View]
    row: Sequence[int]
    names: Sequence[str]
    texts: Sequence[tuple[str, str]]
    compared: Mask
    english: Look
    korean: Look

    @functools.cached_property
    def other_numbers(self) -> Mask:
        """Whether the numbers of the Korean are not, one by one, those of the English, or one of these may be scaled by a word."""
        with_digits = np.flatnonzero(self.english.holds("digit"))
        english, korean = (_numbers(look, with_digits) for look in (self.english, self.korean))
        other = np.zeros(len(self.texts), dtype=bool)
        other[with_digits] = [one != another for one, another in zip(english, korean, strict=True)]
        scaled = self.english.count("gap and scale", behind="number and gap") > 0
        return self.english.holds("digit") & (other | scaled | self.english.holds("number and scale"))


def find_doubts(views: Sequence[View]) -> Mapping[str, Mask]:
    """The rows of a batch about which each rule has to be asked, by the rule's name; a rule that is not there, about all."""
    parts = [_find_doubts(views[start : start + TOGETHER]) for start in range(0, len(views), TOGETHER)]
    none = np.zeros(0, dtype=bool)
    return {name: np.concatenate([none, *(part[name] for part in parts)]) for name in ("model_speaks", *_DOUBTS)}


def _find_doubts(views: Sequence[View]) -> dict[str, Mask]:
    fields = _fields(views)
    doubts = {"model_speaks": np.array([view.record.source in CONVERSATIONS for view in views], dtype=bool)}
    row = np.array(fields.row, dtype=np.int64)
    for name, may_speak in _DOUBTS.items():
        found = np.zeros(len(views), dtype=bool)
        found[row[may_speak(fields)]] = True
        doubts[name] = found
    return doubts


def _fields(views: Sequence[View]) -> _Fields:
    row, names, texts, compared = [], [], [], []
    for number, view in enumerate(views):
        for name, text in view.korean.items():
            english = view.english.get(name, "")
            row.append(number)
            names.append(name)
            texts.append((english, text))
            compared.append(bool(english) and not (view.left and english == text))
    looks = (_signs().look([pair[side] for pair in texts]) for side in (0, 1))
    return _Fields(views, row, names, texts, np.array(compared, dtype=bool), *looks)


def _hangul_share(fields: _Fields) -> Mask:
    hangul, latin, other = (fields.korean.count(kind) for kind in ("hangul", "latin", "other letter"))
    return hangul < LEAST_HANGUL * (hangul + latin + other) + 1e-6


def _repeats(fields: _Fields) -> Mask:
    """Whether the Korean holds how the English begins."""
    return np.array([english[:20] in korean for english, korean in fields.texts], dtype=bool)


def _ratio(fields: _Fields, shortest: float, longest: float) -> Mask:
    """Whether the Korean of a long English is of another length than so many characters for one."""
    ratio = fields.korean.lengths / np.maximum(fields.english.lengths, 1)
    outside: Mask = (fields.english.lengths >= LONG_ENOUGH) & ~((shortest <= ratio) & (ratio <= longest))
    return outside


def _length(fields: _Fields) -> Mask:
    longer = fields.english.lengths >= LONGER
    return np.where(longer, _ratio(fields, SHORTEST_OF_LONGER, LONGEST), _ratio(fields, SHORTEST, LONGEST))


def _cut_off(fields: _Fields) -> Mask:
    short = fields.korean.lengths < SHORT_AND_OPEN * fields.english.lengths
    return (fields.english.lengths >= LONG_ENOUGH) & (short | fields.korean.holds("open end", "fence"))


def _doubtful(fields: _Fields) -> Mask:
    cut = (fields.english.lengths > READ) & fields.english.holds("digit")
    return _ratio(fields, SHORTEST_SURE, LONGEST_SURE) | cut | fields.other_numbers


def _repetition(fields: _Fields) -> Mask:
    """Whether so few of a text's runs of letters differ that more than a share of its n-grams may be repeated.

    Each run falls into a slot, and at least as many runs differ as slots are taken. A run begins each n-gram, so that as many
    of these differ, but for the runs that are too near the text's end to begin one, or reach into the next text.
    """
    letters, offsets = fold_letters([korean for _, korean in fields.texts])
    runs, many = windows(letters, _RUN) >> np.uint64(32), np.diff(offsets)
    room = np.repeat((_SLOTS * many).astype(np.uint64), many)[: len(runs)]
    place = np.repeat(_SLOTS * offsets[:-1], many)[: len(runs)]
    taken = np.zeros(_SLOTS * len(letters), dtype=bool)
    taken[place + (runs * room >> np.uint64(32)).view(np.int64)] = True
    different = np.zeros(len(many), dtype=np.int64)
    different[many > 0] = np.add.reduceat(taken, _SLOTS * offsets[:-1][many > 0], dtype=np.int64) if len(taken) else 0
    enough = different - GRAM >= (1 - REPEATED) * (many - GRAM + 1)
    sure = enough & (fields.korean.lengths <= LONGEST_READ) & ~fields.korean.holds("beyond")
    return (fields.korean.lengths >= SHORTEST_REPEATED) & ~sure


def _numbers(look: Look, texts: npt.NDArray[np.int64]) -> list[bytes]:
    """The numbers of these texts as NUMBER finds them, the first digit of each marked."""
    codes = np.minimum(look.codes, 255).astype(np.uint8)  # a byte each, since no sign of a number is beyond
    digit = (codes >= ord("0")) & (codes <= ord("9"))
    part = digit.copy()
    part[1:-1] |= _PARTS.take(codes[1:-1]) & digit[:-2] & digit[2:]
    place = np.flatnonzero(part)
    marked = codes[place]
    marked[~part[place - 1]] |= 0x80
    ends = np.searchsorted(place, look.ends)
    joined, starts = marked.tobytes(), np.concatenate([[0], ends])
    return [joined[start:end] for start, end in zip(starts[texts].tolist(), ends[texts].tolist(), strict=True)]


def _register(fields: _Fields) -> Mask:
    korean = fields.korean
    plain = korean.count("so it is") - korean.count("so it is", behind="humbly")
    counts = (korean.count("polite"), korean.count("formal"), plain)
    return np.array([name == "output" for name in fields.names]) & (sum((many >= 2) * 1 for many in counts) >= 2)


_DOUBTS: Mapping[str, Callable[[_Fields], Mask]] = {
    "broken_placeholder": lambda fields: fields.korean.holds("mask"),
    "line_structure": lambda fields: (
        fields.compared & (fields.korean.holds("line break") | fields.english.holds("line break"))
    ),
    "mojibake": lambda fields: fields.korean.holds("mojibake"),
    "translator_refused": lambda fields: fields.compared & fields.korean.holds("model's talk"),
    "prompt_leak": lambda fields: (
        fields.compared & (fields.korean.holds("token", "opening", "closing") | _repeats(fields))
    ),
    "not_korean": _hangul_share,
    "english_copied": lambda fields: (
        fields.compared & (fields.korean.count("word behind space", behind="word before space") >= ENGLISH_WORDS - 1)
    ),
    "other_script": lambda fields: fields.compared & fields.korean.holds("other letter"),
    "markup_added": lambda fields: fields.compared & fields.korean.holds("markup"),
    "length_ratio": lambda fields: fields.compared & _length(fields),
    "repetition": _repetition,
    "numbers_lost": lambda fields: fields.compared & fields.other_numbers,
    "structure_lost": lambda fields: fields.compared & fields.english.holds("structure"),
    "cut_off": lambda fields: fields.compared & _cut_off(fields),
    "mixed_register": _register,
    "doubtful": lambda fields: fields.compared & _doubtful(fields),
}
"""For each rule the fields for which it may say anything."""
