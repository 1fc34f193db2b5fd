"""Reading which of two answers a judge prefers: what its reply says plainly, never a guess."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Literal

from kollm.core.replies import without_reasoning
from kollm.core.text import compose

Choice = Literal["first", "second", "tie"]
_CHOICES: Mapping[str, Choice] = {
    **{"1": "first", "2": "second"},
    **dict.fromkeys(("무승부", "비김", "동점", "동률", "tie", "draw"), "tie"),
}
_HEAD = r"^[\s*_#>`-]{0,12}(?:최종\s{0,3}|final\s{0,3})?(?:판정|verdict)[\s*_`]{0,6}"
_VALUE = (
    r"[\s*_`\[(\"']{0,8}(?:(?:응답|답변|답|response|answer)\s{0,3})?(?P<choice>1|2|무승부|비김|동점|동률|tie|draw)"
    r"(?:\s{0,2}(?:번째|번))?(?:\s{0,2}(?:응답|답변))?[\s*_`\])\"'.]{0,8}(?P<rest>[^\n]{0,400})$"
)
_ON_LINE = re.compile(rf"{_HEAD}[:=][^\S\n]*(?P<said>[^\n]*)$", re.IGNORECASE | re.MULTILINE)
_ALONE = re.compile(rf"{_HEAD}[:=]?[\s*_`]{{0,6}}$", re.IGNORECASE)
_SAID = re.compile(rf"^{_VALUE}", re.IGNORECASE)
_EXPLAINS = re.compile(r"^\s*(?:$|[(\[—–-]|[,;:]\s|입니다|이다|이\s|가\s|예요|이에요)")
_WAVERS = re.compile(
    r"또는|혹은|둘|모두|비슷|무승부|수정|아니|\bor\b|\bboth\b|\beither\b|^\s*[/,~|]\s*[12]", re.IGNORECASE
)


def read_choice(text: str) -> Choice | None:
    """The choice that a reply states, `판정: 1` and what judges make of that; None for none, or for two different ones."""
    lines = unicodedata.normalize("NFKC", compose(without_reasoning(text))).splitlines()
    found: set[Choice | None] = set()
    for number, line in enumerate(lines):
        if (match := _ON_LINE.match(line)) and match["said"].strip(" *_`"):
            found.add(_said(match["said"]))
        elif _ALONE.match(line):
            below = next((line for line in lines[number + 1 : number + 4] if line.strip()), "")
            if (choice := _said(below)) is not None:
                found.add(choice)
    return found.pop() if len(found) == 1 else None


def _said(text: str) -> Choice | None:
    match = _SAID.match(text)
    if match is None or not _EXPLAINS.match(match["rest"]):
        return None
    choice = _CHOICES[match["choice"].lower()]
    return None if choice != "tie" and _WAVERS.search(match["rest"]) else choice
