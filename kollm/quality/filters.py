"""Why a translated row is dropped: each rule is a function from a row to a reason, or None to keep it.

`paper` is what the paper did (Section 4.9: ShareGPT alone, by langid and length), `paper-all` the same for every source,
`default` compares the Korean with the English it came from, code, formulas and quotations left out.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from kollm.core.errors import InputError, MissingExtraError
from kollm.core.records import Record
from kollm.quality.flags import repeated_share
from kollm.quality.refusals import refused_turn
from kollm.translate.lines import changed_lines
from kollm.translate.masking import lost_numbers
from kollm.translate.structure import NUMBER, plain

_HANGUL = re.compile("[가-힣ㄱ-ㅎㅏ-ㅣ]+")
_LATIN = re.compile("[A-Za-z]+")
_QUOTED = re.compile(
    r"""\([^()]{0,300}\)|"[^"]{0,300}"|(?<!\w)'[^'\n]{0,300}'|“[^”]{0,300}”|‘[^’]{0,300}’|[「『《][^」』》]{0,300}[」』》]"""
)
_IDENTIFIER = re.compile(r"\b(?:\w+_\w+|[A-Z]{2,}[a-z]?|\w*[a-z][A-Z]\w*)\b")
_WORDS = re.compile(r"[A-Za-z][A-Za-z'’-]*+(?:,? [A-Za-z][A-Za-z'’-]*+)*+")
"""A whole run of English words, however short: what has been read as part of one is not read again."""
_ENGLISH_WORDS = 4
_MOST_LOOKED_UP = 100
"""Runs of words of one field that are looked up in the whole English text, which is as long as the field itself."""
_FUNCTION_WORDS = re.compile(
    r"\b(?:the|of|and|to|an|is|are|was|were|in|on|at|for|with|that|this|it|its|as|by|from|you|your|we|our|they|be|have|has|or)\b",
    re.I,
)
_ASKS_FOR_ENGLISH = re.compile(
    r"영어|영문|영단어|번역|외국어|[가-힣]어로|\b(?:English|translat\w+|language|grammar|spelling|French|Spanish|German)\b",
    re.I,
)
_PLACEHOLDER = re.compile(r'(?:<|&lt;)/?x(?: id\b|/>)|<t n="|\bid="\d+"\s*/>')

CONVERSATIONS = frozenset({"sharegpt", "sharegpt_ko"})
"""Sources whose answers are those of a chat model as people shared them."""
LEAST_HANGUL = 0.4
FEW_LETTERS = 20
"""Letters below which a text says nothing about its language: names, labels, units."""
LONG_ENOUGH = 40
SHORTEST, LONGEST = 0.15, 2.0
"""Korean characters for one of English. Of the fields of the 252 evaluation tasks and their DeepL translation with at
least LONG_ENOUGH characters the extremes are 0.27 and 1.0."""
REPEATED = 0.4
"""As in `flags.repeated_share`: above every sound answer that was looked at."""


class View:
    """A row as the rules see it: its fields beside their English ones, structure and quotations taken out once.

    Args:
        record: the Korean record; its `original`, where it has one, is the English.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self.korean = {name: text for name, text in record.texts().items() if text and not text.isspace()}
        self.english = record.english().texts() if record.translated else {}
        self.left = record.provenance.route == "keep"

    def prose(self, name: str) -> str:
        """A Korean field without code, formulas, URLs, quotations and identifiers."""
        if name not in self._prose:
            self._prose[name] = _prose(self.korean[name])
        return self._prose[name]

    @functools.cached_property
    def _prose(self) -> dict[str, str]:
        return {}

    @functools.cached_property
    def wants_english(self) -> bool:
        """Whether the task is about another language, so that English in it may be what was asked for."""
        texts = (self.record.instruction, self.english.get("instruction", ""))
        return any(_ASKS_FOR_ENGLISH.search(text) for text in texts)

    def compared(self) -> list[tuple[str, str, str]]:
        """Name, English and Korean of each field that was translated; one that routing left as it is is not."""
        return [
            (name, english, text)
            for name, text in self.korean.items()
            if (english := self.english.get(name, "")) and not (self.left and english == text)
        ]


Rule = Callable[[View], str | None]


def broken_placeholder(view: View) -> str | None:
    """A mark that stood for code in the translation is still there."""
    for name, text in view.korean.items():
        if "id" in text and _PLACEHOLDER.search(text) and not _PLACEHOLDER.search(view.english.get(name, "")):
            return f"broken_placeholder: {name}"
    return None


def line_structure(view: View) -> str | None:
    """Lines were joined, divided or lost, or a list, heading or table is none any more."""
    for name, english, text in view.compared():
        if ("\n" in english.strip() or "\n" in text.strip()) and (change := changed_lines(english, text)):
            return f"line_structure: {name}, {change}"
    return None


def model_speaks(view: View) -> str | None:
    """In a shared conversation the model declines, or speaks of itself as one."""
    if view.record.source not in CONVERSATIONS:
        return None
    name, kind = refused_turn(view.record)
    if not kind and view.english:
        name, kind = refused_turn(view.record.english())
    return f"{kind}: {name}" if kind else None


def not_korean(view: View) -> str | None:
    """Less than LEAST_HANGUL of the letters of a field are Hangul, though nothing asks for another language.

    Lists of names, logs and tables of values have no English function words and are left alone.
    """
    for name, text in view.korean.items():
        if view.left and text == view.english.get(name):
            continue
        if _mostly_hangul(text) or hangul_share(text) >= LEAST_HANGUL or view.wants_english:
            continue
        prose = view.prose(name)
        if hangul_share(prose) < LEAST_HANGUL and _letters(prose) >= FEW_LETTERS:
            words = len(_FUNCTION_WORDS.findall(prose))
            if words >= (3 if name == "input" else 1):
                return f"not_korean: {name}"
    return None


def english_copied(view: View) -> str | None:
    """Four or more English words in a row stand in the Korean as they stood in the English; names are no such words."""
    for name, english, text in view.compared():
        if not any(_english_runs(text)) or view.wants_english:
            continue
        if any(run in english for run in itertools.islice(_english_runs(view.prose(name)), _MOST_LOOKED_UP)):
            return f"english_copied: {name}"
    return None


def _english_runs(text: str) -> Iterator[str]:
    for match in _WORDS.finditer(text):
        words = match[0].split()
        if len(words) >= _ENGLISH_WORDS and sum(word[0].islower() for word in words) >= 2:
            yield match[0]


def length_ratio(view: View) -> str | None:
    """A long field came back cut off or blown up."""
    for name, english, text in view.compared():
        if len(english) >= LONG_ENOUGH and not SHORTEST <= len(text) / len(english) <= LONGEST:
            return f"length_ratio: {name}"
    return None


def repetition(view: View) -> str | None:
    """The Korean goes round in circles where the English, if there is any, does not."""
    for name, text in view.korean.items():
        words = text.split()
        if len(words) >= 12 and len(set(words)) > 0.6 * len(words) and max(map(len, words)) < 60:
            continue  # different words throughout: the exact measure would say the same, at ten times the cost
        if repeated_share(text) >= REPEATED > repeated_share(view.english.get(name, "")):
            return f"repetition: {name}"
    return None


def numbers_lost(view: View) -> str | None:
    """At least half of the numbers of a field are gone, or one of three digits or more."""
    for name, english, text in view.compared():
        if not _DIGIT.search(english):
            continue
        # Between other digits it is another number; beside dots, as in 2020.5.12, it is the same one.
        lost = lost_numbers(english, text)
        inside = _parts_of_numbers(text) if lost else set()
        lost = [number for number in lost if number not in inside]
        if not lost:
            continue
        if any(len(number) >= 3 for number in lost) or 2 * len(lost) > len(_DIGIT.findall(english)):
            return f"numbers_lost: {name}"
    return None


_DIGIT = re.compile(r"\d+")
_MOST_PARTS = 4


def _parts_of_numbers(text: str) -> set[str]:
    """Numbers as parts of longer ones: of 2020.5.12 also 2020, 5, 12, 2020.5 and 5.12; up to _MOST_PARTS numbers each."""
    found = set()
    for number in NUMBER.findall(text):
        parts = re.split(r"([.,:/])", number)
        for start in range(0, len(parts), 2):
            for end in range(start + 1, min(start + 2 * _MOST_PARTS, len(parts) + 1), 2):
                found.add("".join(parts[start:end]))
    return found


def under_ten_characters(view: View) -> str | None:
    """The paper's rule: instruction or output of less than 10 characters."""
    for name in ("instruction", "output"):
        if len(view.korean.get(name, "")) < 10:
            return f"under_10_characters: {name}"
    return None


def langid_english(view: View) -> str | None:
    """The paper's rule: langid takes the instruction or the output for English."""
    for name in ("instruction", "output"):
        if _classify(view.korean.get(name, "")) == "en":
            return f"langid_english: {name}"
    return None


class FilterSet(NamedTuple):
    """Rules in order, and the sources they are for; None for all."""

    rules: tuple[Rule, ...]
    sources: frozenset[str] | None = None


_PAPER: tuple[Rule, ...] = (under_ten_characters, langid_english)
FILTERS = {
    "default": FilterSet(
        (
            model_speaks,
            broken_placeholder,
            line_structure,
            not_korean,
            english_copied,
            length_ratio,
            repetition,
            numbers_lost,
        )
    ),
    "paper": FilterSet(_PAPER, frozenset({"sharegpt"})),
    "paper-all": FilterSet(_PAPER),
    "none": FilterSet(()),
}


def find_filters(name: str) -> FilterSet:
    """The filter set of that name.

    Raises:
        InputError: there is none.
    """
    if name not in FILTERS:
        raise InputError(f"There is no filter set '{name}' - use one of {', '.join(FILTERS)}.")
    return FILTERS[name]


def drop_reason(view: View, filters: FilterSet) -> str | None:
    """The reason of the first rule that drops the row, as `rule: field`; None to keep it.

    Raises:
        MissingExtraError: the set asks langid, which is not installed.
    """
    if filters.sources is not None and view.record.source not in filters.sources:
        return None
    return next((reason for rule in filters.rules if (reason := rule(view)) is not None), None)


def paper_would_drop(view: View) -> bool:
    """Whether `paper-all` would drop the row, with langid asked only where a third of the letters are Latin.

    For the comparison that every build prints: langid alone would take longer than the build.
    """
    if under_ten_characters(view) is not None:
        return True
    texts = [view.korean.get(name, "") for name in ("instruction", "output")]
    mixed = any(not _mostly_hangul(text) and hangul_share(text) < 2 / 3 for text in texts)
    return mixed and langid_english(view) is not None


_STYLES = {
    "formal": re.compile(r"(?:니다|니까|십시오|시오)[.!?\n]"),
    "polite": re.compile(r"[요죠][.!?\n]"),
    "plain": re.compile(r"(?<!니)다[.!?\n]"),
}


def mixed_register(view: View) -> bool:
    """Whether the answer ends sentences in two styles of speech (하십시오체, 해요체, 해라체), two of each at least.

    A flag that is counted, not a reason to drop: a dialogue mixes them rightly.
    """
    answer = view.record.output + "\n"
    return sum(len(style.findall(answer)) >= 2 for style in _STYLES.values()) >= 2


def hangul_share(text: str) -> float:
    """Hangul as a share of Hangul and Latin letters; 1.0 where there is neither."""
    if text.isascii():
        return 0.0 if _LATIN.search(text) else 1.0
    hangul = sum(map(len, _HANGUL.findall(text)))
    latin = sum(map(len, _LATIN.findall(text)))
    return hangul / (hangul + latin) if hangul + latin else 1.0


def _mostly_hangul(text: str) -> bool:
    """A quick yes for what `hangul_share` would find: a Hangul syllable is three bytes of UTF-8, a Latin letter one."""
    return len(text.encode("utf-8", "replace")) > 1.9 * len(text) and _HANGUL.search(text) is not None


def _letters(text: str) -> int:
    return sum(map(len, _HANGUL.findall(text))) + sum(map(len, _LATIN.findall(text)))


def _prose(text: str) -> str:
    return _IDENTIFIER.sub(" ", _QUOTED.sub(" ", plain(text)))


def _classify(text: str) -> str:
    return _langid()(text)[0]


@functools.cache
def _langid() -> Callable[[str], tuple[str, float]]:
    try:
        from langid import classify
    except ImportError as error:
        raise MissingExtraError("langid", "translate") from error
    function: Callable[[str], tuple[str, float]] = classify
    return function
