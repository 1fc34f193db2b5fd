"""Whether opening and closing marks pair up as they did before: tags, LaTeX's braces and environments."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_MARK = re.compile(
    r"<(?P<close>/?)(?P<tag>[A-Za-z_][\w:.-]*)[^<>]*>|\\(?P<side>begin|end)\{(?P<name>[^{}]*)\}|(?P<brace>\\?[{}])"
)
_ALONE = frozenset(
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"]
)
"""HTML's elements that nothing closes."""


class Mark(NamedTuple):
    """One opening or closing mark.

    Attributes:
        name: what it opens or closes, e.g. `b` or `{`.
        opens: True if it opens.
    """

    name: str
    opens: bool


def marks(text: str) -> Iterator[Mark]:
    """The opening and closing marks of a piece of structure, in order."""
    for match in _MARK.finditer(text):
        if tag := match["tag"]:
            if tag.lower() not in _ALONE and not match[0].endswith("/>"):
                yield Mark(f"<{tag.lower()}>", not match["close"])
        elif match["side"]:
            yield Mark(f"\\begin{{{match['name']}}}", match["side"] == "begin")
        else:
            yield Mark(match["brace"].replace("}", "{"), match["brace"][-1] == "{")


def nesting(pieces: Iterable[tuple[int, str]]) -> frozenset[tuple[str, str, str]]:
    """How the marks of numbered pieces of structure stand to each other, whatever text lies between.

    Args:
        pieces: number and text of each piece, in their order in the text.

    Returns:
        Each pair as (its opening, its closing, what it stands in); a mark without partner has the empty text for it.
        Equal sets mean equal nesting.
    """
    found, opened, outside = [], list[tuple[str, str, str]](), ""
    still_open = Counter[str]()
    for number, piece in pieces:
        for place, mark in enumerate(marks(piece)):
            key = f"{number}.{place}"
            if mark.opens:
                opened.append((mark.name, key, opened[-1][1] if opened else outside))
                still_open[mark.name] += 1
                continue
            if not still_open[mark.name]:  # it closes what another line opened: what follows stands outside of that
                outside = key
                found.append(("", key, opened[-1][1] if opened else ""))
                continue
            partner = next(at for at in range(len(opened) - 1, -1, -1) if opened[at][0] == mark.name)
            still_open.subtract(name for name, _, _ in opened[partner:])
            found += [(key_of, "", inside) for _, key_of, inside in opened[partner + 1 :]]
            found.append((opened[partner][1], key, opened[partner][2]))
            del opened[partner:]
    return frozenset([*found, *((key_of, "", inside) for _, key_of, inside in opened)])
