"""Rules about the language of a field: whether it is Korean, and whether a piece of another language was left in it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from kollm.quality.view import View

_HANGUL = re.compile("[가-힣ㄱ-ㅎㅏ-ㅣ]+")
_LATIN = re.compile("[A-Za-zÀ-ÖØ-öø-ɏḀ-ỿ]+")
OTHER_LETTER = (
    "[\u0400-\u052f\u0590-\u05ff\u0600-\u06ff\u0900-\u0dff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u3096\u30a1-\u30ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
)
"""Letters of other scripts: Cyrillic, Hebrew, Arabic, those of India and South-East Asia, kana, Chinese. Greek is left out,
since formulas use it."""
_OTHER = re.compile(f"{OTHER_LETTER}{OTHER_LETTER}*")  # twice as fast as a run alone
_WORDS = re.compile(r"[A-Za-z][A-Za-z'’-]*+(?:,? [A-Za-z][A-Za-z'’-]*+)*+")
"""A whole run of English words, however short: what has been read as part of one is not read again."""
_LATIN_WORD = re.compile("[A-Za-zÀ-ÖØ-öø-ɏḀ-ỿ]+")
ENGLISH_WORDS = 4
_MOST_LOOKED_UP = 100
"""Runs of words of one field that are looked up in the whole English text, which is as long as the field itself."""
_ENGLISH_FUNCTION_WORDS = re.compile(
    r"\b(?:the|of|and|to|an|is|are|was|were|in|on|at|for|with|that|this|it|its|as|by|from|you|your|we|our|they|be|have|has|or)\b",
    re.I,
)
_OTHER_FUNCTION_WORDS = re.compile(
    r"\b(?:el|la|los|las|una|del|que|para|con|por|de|le|les|des|est|une|qui|dans|pour|und|der|die|das|ist|nicht|ein|eine"
    r"|von|mit|il|gli|che|della|per|uma|não|os|của|và|là|không|được|những|một|cho|các|giúp|từ)\b",
    re.I,
)

LEAST_HANGUL = 0.4
FEW_LETTERS = 20
"""Latin letters below which a text says nothing about its language: names, labels, units."""
FEWOTHER_LETTERS = 4
"""The same for letters of other scripts, of which one is often a syllable or a word."""


def not_korean(view: View) -> str | None:
    """Less than LEAST_HANGUL of the letters of a field are Hangul, though nothing asks for another language.

    Lists of names, logs and tables of values have no function words and are left alone, and so is what stands in the
    English as well.
    """
    for name, text in view.korean.items():
        english = view.english.get(name, "")
        if view.left and text == english:
            continue
        if _mostly_hangul(text) or hangul_share(text) >= LEAST_HANGUL or view.wants_another_language:
            continue
        prose = view.prose(name)
        if hangul_share(prose) >= LEAST_HANGUL:
            continue
        if _letters(_OTHER, prose) - _letters(_OTHER, english) >= FEWOTHER_LETTERS:
            return f"not_korean: {name}"
        if _letters(_LATIN, prose) >= FEW_LETTERS and _is_prose_of_latin_letters(prose, english, name):
            return f"not_korean: {name}"
    return None


def other_script(view: View) -> str | None:
    """A word of another script stands in the Korean, outside of brackets and quotations, that the English does not have."""
    for name, english, text in view.compared():
        if not _OTHER.search(text) or view.wants_another_language:
            continue
        runs = (match[0] for match in _OTHER.finditer(view.prose(name)) if len(match[0]) >= 2)
        if any(run not in english for run in itertools.islice(runs, _MOST_LOOKED_UP)):
            return f"other_script: {name}"
    return None


def english_copied(view: View) -> str | None:
    """Four or more English words in a row stand in the Korean as they stood in the English; names are no such words."""
    for name, english, text in view.compared():
        if not any(_english_runs(text)) or view.wants_another_language:
            continue
        if any(run in english for run in itertools.islice(_english_runs(view.prose(name)), _MOST_LOOKED_UP)):
            return f"english_copied: {name}"
    return None


def hangul_share(text: str) -> float:
    """Hangul as a share of the letters of all scripts but Greek; 1.0 where there is none."""
    if text.isascii():
        return 0.0 if _LATIN.search(text) else 1.0
    hangul = _letters(_HANGUL, text)
    others = _letters(_LATIN, text) + _letters(_OTHER, text)
    return hangul / (hangul + others) if hangul + others else 1.0


def is_mixed(text: str) -> bool:
    """Whether a third of the letters or more are not Hangul."""
    return not _mostly_hangul(text) and hangul_share(text) < 2 / 3


def _mostly_hangul(text: str) -> bool:
    """A quick yes for what `hangul_share` would find: a Hangul syllable is three bytes of UTF-8, a Latin letter one."""
    many = len(text.encode("utf-8", "replace")) > 1.9 * len(text)
    return many and _HANGUL.search(text) is not None and _OTHER.search(text) is None


def _letters(script: re.Pattern[str], text: str) -> int:
    return sum(map(len, script.findall(text)))


def _is_prose_of_latin_letters(prose: str, english: str, name: str) -> bool:
    """Whether Latin letters make sentences: function words of English, or of another language and unlike the English."""
    least = 3 if name == "input" else 1
    if len(_ENGLISH_FUNCTION_WORDS.findall(prose)) >= least:
        return True
    known = {word.lower() for word in _LATIN_WORD.findall(english)}
    words = [word.lower() for word in _LATIN_WORD.findall(prose)]
    foreign = sum(word not in known for word in words)
    if 2 * foreign <= len(words):
        return False
    accents = sum(not character.isascii() for word in words for character in word)
    return len(_OTHER_FUNCTION_WORDS.findall(prose)) > least or accents > 0.1 * sum(map(len, words))


def _english_runs(text: str) -> Iterator[str]:
    for match in _WORDS.finditer(text):
        if match[0].count(" ") + 1 < ENGLISH_WORDS:
            continue
        is_prose = sum(word[0].islower() and len(word) > 1 for word in match[0].split()) >= 2
        if is_prose and not text.startswith("(", match.end()):  # `for n in range(10)`
            yield match[0]
