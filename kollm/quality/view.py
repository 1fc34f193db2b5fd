"""A translated row as the filters see it: each Korean field beside its English, structure and quotations taken out once."""

from __future__ import annotations

import functools
import re

from kollm.core.records import Record
from kollm.core.text import are_normal, normalise
from kollm.translate.structure import plain

_QUOTED = re.compile(
    r"""\([^()]{0,300}\)|"[^"]{0,300}"|'(?<!\w')[^'\n]{0,300}'|“[^”]{0,300}”|‘[^’]{0,300}’|[「『《][^」』》]{0,300}[」』》]"""
)
_DIGITS = re.compile(r"\d\d*")  # twice as fast as \d+
_IDENTIFIER = re.compile(r"\b(?:\w+_\w+|[A-Z]{2,}[a-z]?|\w*[a-z][A-Z]\w*)\b")
_ASKS_FOR_ANOTHER_LANGUAGE = re.compile(
    r"영어|영문|영단어|번역|외국어|한자|[가-힣]어로|[가-힣]어의|(?:중국|일본|러시아|프랑스|스페인|독일|라틴|아랍|베트남)어"
    r"|\b(?:English|translat\w+|language|grammar|spelling|French|Spanish|German|Chinese|Japanese|Russian|Latin|Arabic|Hindi"
    r"|Vietnamese|Italian|Portuguese|Hanja|Kanji)\b",
    re.I,
)


class View:
    """A row as the rules see it: its fields beside their English ones, structure and quotations taken out once.

    Args:
        record: the Korean record; its `original`, where it has one, is the English.

    Attributes:
        missing_numbers: numbers of a field's English that its Korean lacks, by name of the field, for those looked up so far.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self.korean = {name: text for name, text in record.texts().items() if text and not text.isspace()}
        original = record.original if record.translated else None
        # what `record.english()` would give, without a Record around it
        self.english = original.texts() if original else {}
        if not are_normal(self.english.values()):
            self.english = {name: normalise(text) for name, text in self.english.items()}
        self.missing_numbers: dict[str, list[str]] = {}
        self._prose: dict[str, str] = {}
        self._digits: dict[str, list[str]] = {}
        self.left = record.provenance.route == "keep"
        self._compared = [
            (name, english, text)
            for name, text in self.korean.items()
            if (english := self.english.get(name, "")) and not (self.left and english == text)
        ]

    def prose(self, name: str) -> str:
        """A Korean field without code, formulas, URLs, quotations and identifiers."""
        if name not in self._prose:
            self._prose[name] = _IDENTIFIER.sub(" ", _QUOTED.sub(" ", plain(self.korean[name])))
        return self._prose[name]

    def digits(self, name: str) -> list[str]:
        """Runs of digits in a field's English."""
        if name not in self._digits:
            self._digits[name] = _DIGITS.findall(self.english[name])
        return self._digits[name]

    @functools.cached_property
    def wants_another_language(self) -> bool:
        """Whether the task is about a language, so that English or another one in it may be what was asked for."""
        texts = (self.record.instruction, self.english.get("instruction", ""))
        return any(_ASKS_FOR_ANOTHER_LANGUAGE.search(text) for text in texts)

    def compared(self) -> list[tuple[str, str, str]]:
        """Name, English and Korean of each field that was translated; one that routing left as it is is not."""
        return self._compared
