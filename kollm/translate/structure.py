"""Where a text holds structure that translation breaks: code, formulas, addresses, markup, slots, table delimiters.

Translators were seen to translate LaTeX commands and format strings and to drop table delimiters. Each kind is a row of
STRUCTURES: the substrings that make it worth looking (a cheap test that most texts fail) and what finds it. The order
counts: what one kind found is invisible to those below, so that a `$` inside code opens no formula. Hostile text costs
linear time: a pattern is bounded in length or takes a run whole (possessive), and what stands between an opening and a
closing mark is found by `_enclosed`, which looks for each closing mark once.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Container, Iterable, Iterator
from typing import NamedTuple

from kollm.translate.code_lines import code_lines


class Span(NamedTuple):
    """A piece of structure in a text.

    Attributes:
        start, end: where it stands.
        kind: `inline` for what stands in a sentence and moves with it; `table` for the delimiters of a table; `block`
            for what holds a line break or a tab, and stays where it is.
    """

    start: int
    end: int
    kind: str


class Structure(NamedTuple):
    """One kind of structure.

    Attributes:
        name: what it is.
        needles: the text must hold one of these for `find` to be called.
        find: text -> (start, end) of each one.
    """

    name: str
    needles: tuple[str, ...]
    find: Callable[[str], Iterable[tuple[int, int]]]


def _pattern(name: str, needles: str, pattern: str, first: str = "") -> Structure:
    """A structure that a pattern finds; `first` finds something in every text where it does, in a tenth of its time.

    A pattern that begins with a sign is sought ten times as fast as one that begins with a look at what stands before it: "`(?<!``)"
    is "(?<!`)`".
    """
    compiled, ahead = re.compile(pattern, re.VERBOSE | re.MULTILINE), re.compile(first)

    def find(text: str) -> Iterable[tuple[int, int]]:
        return (match.span() for match in compiled.finditer(text)) if ahead.search(text) else ()

    return Structure(name, tuple(needles.split()), find)


class _Pair(NamedTuple):
    """An opening and a closing mark.

    Attributes:
        opening: its pattern.
        closing: the pattern of what closes it; `{name}` stands for the opening's only group.
        least, most: characters between the two.
        one_line: whether a line break between them makes them no pair.
    """

    opening: str
    closing: str
    least: int
    most: int
    one_line: bool = False


class _Ahead:
    """Where a pattern occurs next in a text. It is asked from left to right, so that each part is searched once."""

    def __init__(self, pattern: str, text: str) -> None:
        self._matches = re.compile(pattern).finditer(text)
        self._next = next(self._matches, None)

    def after(self, position: int) -> re.Match[str] | None:
        """The first occurrence that begins at the position or later."""
        while self._next is not None and self._next.start() < position:
            self._next = next(self._matches, None)
        return self._next


def _enclosed(name: str, needles: str, *pairs: _Pair) -> Structure:
    openings = [(pair, re.compile(pair.opening)) for pair in pairs]
    anywhere = re.compile("|".join(f"(?:{pair.opening})" for pair in pairs))

    def find(text: str) -> Iterator[tuple[int, int]]:
        ahead: dict[str, _Ahead] = {}
        end = 0
        for found in anywhere.finditer(text):
            if found.start() < end:
                continue
            pair, opening = next(
                (pair, match) for pair, pattern in openings if (match := pattern.match(text, found.start()))
            )
            closing = pair.closing.format(name=re.escape(opening[1])) if "{name}" in pair.closing else pair.closing
            for pattern in (closing, "\n"):
                if pattern not in ahead:
                    ahead[pattern] = _Ahead(pattern, text)
            close = ahead[closing].after(opening.end() + pair.least)
            if close is None or close.start() - opening.end() > pair.most:
                continue
            line_break = ahead["\n"].after(opening.end()) if pair.one_line else None
            if line_break is not None and line_break.start() < close.start():
                continue
            end = close.end()
            yield found.start(), end

    return Structure(name, tuple(needles.split()), find)


_JSON_START = re.compile(r'\{\s*"|\[\s*[{\[]')
_JSON_FAILURES = 20


def _json_values(text: str) -> Iterator[tuple[int, int]]:
    """JSON objects, and lists of objects or lists; a list of words is text."""
    decoder, position, failures = json.JSONDecoder(), 0, 0
    while failures < _JSON_FAILURES and (match := _JSON_START.search(text, position)):
        try:
            _, end = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            failures += 1
            end = match.start() + 1
        else:
            yield match.start(), end
        position = end


_ENVIRONMENTS = (
    "equation|align|alignat|gather|multline|eqnarray|math|displaymath|array|cases|[bpvV]?matrix|split|aligned"
    "|verbatim|lstlisting|minted|tikzpicture|algorithmic"
)
_NAMING_COMMANDS = (
    "begin|end|addcontentsline|documentclass|usepackage|label|ref|eqref|pageref|cite[pt]?|bibliography|bibliographystyle|input|include"
    "|includegraphics|url|hspace|vspace|setlength|newcommand|renewcommand|geometry|pagestyle|color|textcolor"
)
_TAG_ATTRIBUTES = r"""(?:\s (?:"[^"<]{0,400}" | '[^'<]{0,400}' | [^<>"']){0,400}+ )?+"""

_TABLE = "table delimiter"

STRUCTURES = (
    _pattern(
        "fenced code",
        "``` ~~~",
        r"""^[ \t]*(?P<fence>```+|~~~+) [\s\S]*? (?:^[ \t]*(?P=fence)[`~]*|\Z)
            | (?<=[^\n`~]) (?P<glued>```+|~~~+) [\w+\#.-]{0,20} [ \t]*\n [\s\S]*? (?:^[ \t]*(?P=glued)[`~]*|\Z)
            | ```[^`\n]{1,500}```""",
    ),
    Structure("code lines", ("(", "{", ";", "=", "import ", "SELECT ", "class "), code_lines),
    Structure("JSON", ("{", "["), _json_values),
    _pattern("inline code", "`", r"``(?<!```)(?!`)[^\n]{1,500}?(?<!`)``(?!`) | `(?<!``)[^`\n]{1,500}`(?!`)"),
    _pattern("display formula", "$$", r"\$\$ [^$]{1,5000} \$\$"),
    _enclosed(
        "formula in brackets",
        r"\( \[",
        _Pair(r"\\\(", r"\\\)", 1, 2000, one_line=True),
        _Pair(r"\\\[", r"\\\]", 1, 5000),
    ),
    _enclosed(
        "formula or code environment",
        r"\begin",
        _Pair(rf"\\begin\{{((?:{_ENVIRONMENTS})\*?)\}}", r"\\end\{{{name}\}}", 0, 10_000),
    ),
    # A formula has no space inside its dollars and nothing glued to them; "$5 and $10" is money.
    _pattern("inline formula", "$", r"\$(?<![\\$\w]\$) (?=\S) [^$\n]{1,300} (?<=[^\s\\(]) \$ (?![\w$])"),
    _pattern(
        "URL",
        ":// www.",
        # The punctuation that ends a sentence is no part of the address before it.
        r"""(?:\b[A-Za-z][A-Za-z0-9+.-]{1,20}:// | \bwww\.)
            (?: (?: [.,;:!?')\]]*+ [^\s<>"`{}|\\^.,;:!?')\]]++ )++ | [.,;:!?')\]] )""",
    ),
    _pattern("e-mail address", "@", r"\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,5}\b"),
    _pattern(
        "host name",
        ".co .or .net .edu .go",
        r"""(?<![\w.@-]) (?:[A-Za-z0-9-]{1,63}\.){1,5} (?:com|org|net|edu|gov|(?:co|or|go)\.kr) (?![A-Za-z0-9_-]|\.\w)
            (?:/[^\s<>"`{}|\\^]{0,500}[\w/])?""",
    ),
    _pattern("colour", "#", r"\#(?<![\w&]\#) [0-9A-Fa-f]{6} (?![A-Za-z0-9_])"),
    _pattern(
        "path",
        ":\\ /",
        r"""\b[A-Za-z]:\\[^\s"'<>|]{1,250} | (?<![\w/.:<]) (?:~|\.{1,2})?/(?:[\w.-]{1,80}/){1,20}[\w.-]{0,80}\w/?""",
        first=r":\\|/[\w.-]{1,80}/",
    ),
    _pattern(
        "LaTeX command with a name",
        "\\",
        rf"\\(?:{_NAMING_COMMANDS})\b\*? (?:\[[^\]\n]{{0,200}}\])? (?:\{{[^{{}}\n]{{0,200}}\}}){{0,2}}",
    ),
    # The brace goes with its command; the text inside is translated.
    _pattern("LaTeX command", "\\", r"\\[A-Za-z]{1,40}\*? (?:\[[^\]\n]{0,200}\])? \{? | \\[^A-Za-z\s]"),
    _enclosed(
        "script, style or comment",
        "<",
        _Pair(r"<(script|style)\b", r"</{name}\s*+>", 0, 20_000),
        _Pair("<!--", "-->", 0, 5000),
        _Pair(r"<!\[CDATA\[", r"\]\]>", 0, 5000),
    ),
    _pattern("tag", "<", rf"</?[A-Za-z_][\w:.-]{{0,60}} {_TAG_ATTRIBUTES} /?> | <[!?][A-Za-z][^<>]{{0,400}}>"),
    _pattern("character reference", "&", r"&(?:\#\d{1,7}|\#x[0-9A-Fa-f]{1,6}|[A-Za-z]{2,12});"),
    # Braces right after a LaTeX command are its arguments, whose text is translated.
    _pattern("slot", "{", r"\{\{[^{}\n]{0,80}\}\} | (?<!\ue000) \$?\{[^{}\n]{0,80}\}"),
    _pattern("brace", "{ }", r"[{}]+"),
    _pattern(
        "format string",
        "%",
        r"""%(?<![\d%\w]%) (?:\([\w ]{1,40}\))? [-+0\#]*+ (?:\d++|\*)?+ (?:\.\d++)?+ (?:ll|hh|[hlLzjt])? [A-Za-z]\b
            | %(?<=[^\d%\s]%) [A-Za-z]\b | %%""",
    ),
    # After LaTeX and slots, whose braces belong to the command or the slot.
    _pattern(
        "name in code",
        "_ ()",
        r"""\b(?:[A-Za-z][A-Za-z0-9]{0,40}+ (?:_[A-Za-z0-9]{1,40}){1,8} (?:\(\))? (?![A-Za-z0-9_])
            | (?<!\.) [A-Za-z][\w.]{0,60}\(\))""",
    ),
    # `end.Start` of a sentence has no such ending; file names of scripts have.
    _pattern(
        "dotted product",
        ".js .NET",
        r"(?<![\w.]) (?:(?:[A-Za-z][A-Za-z0-9-]{0,30}\.){1,3} js | (?:ASP|ADO|VB|ML)\.NET) (?!\w|\.\w)",
    ),
    _pattern(
        "power",
        "^",
        r"(?:[A-Za-z0-9]{1,12} | [)\]]) \^ (?:\([^()\n]{1,30}\) | -?[A-Za-z0-9]{1,10} (?![A-Za-z0-9_]))",
    ),
    _pattern("variable", "$", r"\$[A-Za-z_]\w{0,60}"),
    # Delimiters with the line break between two rows and the line under the head; the cells stay text.
    _pattern(
        _TABLE,
        "|",
        r"(?<![ ]) (?:^[ ]*+(?::-++:?|-{2,}+:?))? [ ]*+ \| (?: [ ]*\| | [ ]*\n[ ]*\| | [ ]* (?: :-+:? | -{2,}:? | -: ) (?=[ ]*[|\n]) )* [ ]*",
    ),
)
FORBIDDEN = re.compile("[\x00-\x09\x0b-\x1f\ud800-\udfff\ufffe\uffff]+")
"""What XML forbids or changes: \r is read back as \n; tabs, which are allowed, are collapsed by translators."""
EXPONENT = re.compile(r"[0-9](?<![\w.,][0-9])[0-9]{0,19}(?:\.[0-9]{1,20})?[eE][+-]?[0-9]{1,3}(?!\w|[.,][0-9])")
"""`1e6`, `2.5E-3`. No row of STRUCTURES, whose needles would be twenty; a digit is sought first, which is four times as fast."""
_MAYBE_EXPONENT = re.compile("[0-9][eE]")
NUMBER = re.compile(r"[0-9][0-9]*(?:[.,:/][0-9]+)*")
"""A pattern that begins with a class of characters is sought twice as fast as one that begins with a run of them."""

_SIGNS = frozenset(sign for kind in STRUCTURES for needle in kind.needles for sign in re.findall(r"[^\w\s.]|_", needle))
"""What needles consist of beside letters, dots and spaces."""
_CONTROLS = bytes([*range(0x0A), *range(0x0B, 0x20), 0xED, 0xEF])
"""Bytes of UTF-8 of which every character in FORBIDDEN holds one; of the last two, half of the Hangul syllables do too."""
_DIGIT, _CONTROL = 0x30, 0x00
_ALIKE = bytes.maketrans(b"123456789" + _CONTROLS, b"0" * 9 + b"\0" * len(_CONTROLS))
_NOT_SOUGHT = bytes({*range(256)} - {*map(ord, _SIGNS)} - {*b"0123456789"} - {*_CONTROLS})
_ENDINGS = [needle[1:] for kind in STRUCTURES for needle in kind.needles if needle.startswith(".")]
_DOTTED = re.compile(rf"\.(?:{'|'.join(_ENDINGS)}|(?<=www\.))")
"""Where the needles with a dot are."""
_NOTHING_TO_READ = re.compile(r"[ \n]*|[ \n]*[$+-]?[0-9][0-9.,:/%]*[ \n]*")
_NOTHING_IN_LINE = re.compile(r"[ ]*|[ ]*[$+-]?[0-9][0-9.,:/%]*[ ]*")
_BREAK = re.compile("[\n\t]")
_BLANK = "\ue000"
"""Stands for what was found; a private-use character, which no pattern looks for."""


def structure_spans(text: str, numbers: bool = False) -> list[tuple[int, int]]:
    """The parts of a text that hold structure: sorted, apart, and one where only whitespace stands between two.

    Args:
        text: any text.
        numbers: whether numbers count as structure too.
    """
    return _merge(text, [(start, end) for start, end, _ in _found(text, numbers)])


def find_structure(text: str, numbers: bool = False) -> list[Span]:
    """The pieces of structure in a text: sorted, apart, and one where only spaces or a number stand between two of a kind."""
    found = _found(text, numbers)
    if not found:
        return []  # as in most texts
    spans: list[Span] = []
    for start, end, name in sorted(found):
        kind = "block" if _BREAK.search(text, start, end) else "inline"
        kind = "table" if name == _TABLE else kind
        last = spans[-1] if spans else None
        if last is not None and start < last.end:
            both = max(last.end, end)
            kind = "block" if _BREAK.search(text, last.start, both) else last.kind
            spans[-1] = Span(last.start, both, kind)
        elif last is not None and last.kind == kind == "inline" and _NOTHING_IN_LINE.fullmatch(text, last.end, start):
            spans[-1] = Span(last.start, end, kind)
        else:
            spans.append(Span(start, end, kind))
    return spans


def _found(text: str, numbers: bool) -> list[tuple[int, int, str]]:
    """Start, end and kind of each structure, not yet in order."""
    spans: list[tuple[int, int, str]] = []
    rest, seen = text, _seen(text)
    for name, needles, find in _possible(text, seen):
        if rest is not text and not _holds(rest, needles):
            continue
        found = [(start, end) for start, end in find(rest) if end > start]
        if found:
            spans += [(start, end, name) for start, end in found]
            rest = _blank(rest, found)
    # What a text may hold besides, told by what is much faster than the pattern itself.
    if _DIGIT in seen and _MAYBE_EXPONENT.search(text):
        spans += [(*match.span(), "exponent") for match in EXPONENT.finditer(rest)]
    if _CONTROL in seen and not text.replace("\n", " ").isprintable():
        spans += [(*match.span(), "forbidden in XML") for match in FORBIDDEN.finditer(rest)]
    if numbers:
        spans += [(*match.span(), "number") for match in NUMBER.finditer(rest)]
    return spans


def possible_structures(text: str, names: Container[str]) -> list[Structure]:
    """The kinds of structure of which a text holds a needle, of these names."""
    return [kind for kind in _possible(text, _seen(text)) if kind.name in names]


def _seen(text: str) -> frozenset[int]:
    """Codes of the signs that a text holds, _DIGIT for any digit, _CONTROL for what may be forbidden: one look for all."""
    return frozenset(text.encode("utf-8", "surrogatepass").translate(_ALIKE, _NOT_SOUGHT))


def _possible(text: str, seen: frozenset[int]) -> list[Structure]:
    dotted = "." in text and _DOTTED.search(text) is not None
    return [kind for kind, needles in _kinds_with(seen, dotted) if not needles or _holds(text, needles)]


@functools.lru_cache(maxsize=10_000)
def _kinds_with(seen: frozenset[int], dotted: bool) -> tuple[tuple[Structure, tuple[str, ...]], ...]:
    """The kinds of which a text may hold a needle, each with the needles to look for; none where it surely holds one."""
    signs, found = {chr(code) for code in seen}, []
    for kind in STRUCTURES:
        if signs.isdisjoint(kind.needles):
            needles = tuple(needle for needle in kind.needles if _may_hold(needle, signs, dotted))
            if needles:
                found.append((kind, needles))
        else:
            found.append((kind, ()))
    return tuple(found)


def _may_hold(needle: str, signs: set[str], dotted: bool) -> bool:
    """Whether a text with these signs may hold a needle; one with a dot where _DOTTED found something."""
    return signs.issuperset(_SIGNS.intersection(needle)) and (dotted or "." not in needle)


def _holds(text: str, needles: tuple[str, ...]) -> bool:
    for needle in needles:  # noqa: SIM110 - `any` would take three times as long
        if needle in text:
            return True
    return False


def plain(text: str) -> str:
    """The text with each structure replaced by one space: what is left to read and to translate."""
    spans = structure_spans(text)
    if not spans:
        return text
    starts = [0, *(end for _, end in spans)]
    ends = [*(start for start, _ in spans), len(text)]
    return " ".join(text[start:end] for start, end in zip(starts, ends, strict=True))


def _blank(text: str, spans: Iterable[tuple[int, int]]) -> str:
    parts, position = [], 0
    for start, end in spans:
        parts += [text[position:start], _BLANK * (end - start)]
        position = end
    return "".join([*parts, text[position:]])


def _merge(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Make one of neighbours: between them is only whitespace, or numbers as in the cells of a table."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and _NOTHING_TO_READ.fullmatch(text, merged[-1][1], max(start, merged[-1][1])):
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged
