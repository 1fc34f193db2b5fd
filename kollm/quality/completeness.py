"""Rules about what is missing from a translation: its end, most of its length, the code and slots of the English."""

from __future__ import annotations

import re

from kollm.quality.flags import SHORTEST as SHORTEST_REPEATED
from kollm.quality.flags import repeated_share
from kollm.quality.view import View
from kollm.translate.structure import possible_structures

LONG_ENOUGH = 40
SHORTEST, LONGEST = 0.2, 2.0
"""Korean characters for one of English. Of the fields of the 252 evaluation tasks and their DeepL translation with at
least LONG_ENOUGH characters the extremes are 0.27 and 1.0."""
LONGER, SHORTEST_OF_LONGER = 150, 0.25
"""From so many English characters on chance no longer shortens a translation that much."""
SHORT_AND_OPEN = 0.3
"""Below this share a text that ends without a mark, where the English has one, or has half its sentences, was cut off."""
REPEATED = 0.4
"""As in `flags.repeated_share`: above every sound answer that was looked at."""

_SENTENCE_END = re.compile(r"[.!?…。][\"'”’)\]*_`]*\s*\Z")
_SENTENCES = re.compile(r"[.!?…。](?=[\s\"'”’)]|\Z)")
_ENDS_SOMEHOW = re.compile(r"[^가-힣ㄱ-ㅣ,]\s*\Z")
_VERB_ENDING = re.compile(
    r"(?:다|요|죠|까|오|라|자|네|군|지|니|나|래|걸|게|데|든|냐|랴|마|세|소|어|아|해|줘|봐|돼|야|음|함|임|됨|봄|옴|감|남|님|드림|올림|배상|것|점|때|중|곳|길|기|움|일|법|팁|뿐)\Z"
)
_UNFINISHED = re.compile(
    r"(?:[을를은는의와과]|에서|에게|으로|까지|부터|처럼|보다|면서|지만|으며|하고|이며|이고|하며|되고|되며|거나|려고|도록|므로|니까|아서|어서|해서|하여|이나|하는|있는|없는|되는|위한|대한|같은|및|또는|그리고|,)\Z"
)
_MAY_LOSE = frozenset(
    [
        "inline code",
        "URL",
        "slot",
        "format string",
        "inline formula",
        "display formula",
        "formula in brackets",
        "formula or code environment",
        "e-mail address",
        "fenced code",
    ]
)
_FENCE_NAME = re.compile(r"```[ \t]*[^\n`]*[가-힣]")
_ASCII_WORD = re.compile(r"[A-Za-z_]\w*")
_MOST_LOOKED_UP = 100


def length_ratio(view: View) -> str | None:
    """A long field came back cut off or blown up."""
    for name, english, text in view.compared():
        ratio = len(text) / len(english)
        least = SHORTEST_OF_LONGER if len(english) >= LONGER else SHORTEST
        if len(english) >= LONG_ENOUGH and not least <= ratio <= LONGEST:
            return f"length_ratio: {name}"
    return None


def cut_off(view: View) -> str | None:
    """The English ends its sentence and the Korean stops in the midst of one."""
    for name, english, text in view.compared():
        if len(english) < LONG_ENOUGH or not _SENTENCE_END.search(english[-20:]):
            continue
        end = text.rstrip()[-20:]
        stops = not _ENDS_SOMEHOW.search(end) and not _VERB_ENDING.search(end)
        whole = 0 < english.strip().count("\n") == text.strip().count("\n")  # a poem's lines, all there
        short = not whole and not _SENTENCE_END.search(end) and len(text) < SHORT_AND_OPEN * len(english)
        if stops or short or _UNFINISHED.search(end):
            return f"cut_off: {name}"
        sentences = len(_SENTENCES.findall(english))
        if (
            sentences >= 3
            and len(text) < SHORT_AND_OPEN * len(english)
            and 2 * len(_SENTENCES.findall(text)) <= sentences
        ):
            return f"cut_off: {name}"
        if text.count("```") % 2 > english.count("```") % 2:
            return f"cut_off: {name}"
    return None


def structure_lost(view: View) -> str | None:
    """Code, an address, a formula or a slot of the English is not in the Korean as it was."""
    for name, english, text in view.compared():
        pieces = [
            english[start:end].strip()
            for structure in possible_structures(english, _MAY_LOSE)
            for start, end in structure.find(english)
        ]
        if not pieces:
            continue
        squeezed = "".join(text.split())
        if any(not _is_kept(piece, text, squeezed) for piece in dict.fromkeys(pieces[:_MOST_LOOKED_UP])):
            return f"structure_lost: {name}"
    return None


def repetition(view: View) -> str | None:
    """The Korean goes round in circles where the English, if there is any, does not."""
    for name, text in view.korean.items():
        if len(text) < SHORTEST_REPEATED:
            continue
        words = text.split()
        if len(words) >= 12 and len(set(words)) > 0.6 * len(words) and max(map(len, words)) < 60:
            continue  # different words throughout: the exact measure would say the same, at ten times the cost
        if repeated_share(text) >= REPEATED > repeated_share(view.english.get(name, "")):
            return f"repetition: {name}"
    return None


def _is_kept(piece: str, korean: str, squeezed: str) -> bool:
    """Whether a piece stands in the Korean, spaces aside; of a block of code, whose comments may be translated, most names."""
    if piece in korean or "".join(piece.split()) in squeezed:
        return True
    if "\n" not in piece:
        return False
    names = set(_ASCII_WORD.findall(piece))
    kept = names & set(_ASCII_WORD.findall(korean))
    return not _FENCE_NAME.search(korean) and 2 * len(kept) >= len(names)
