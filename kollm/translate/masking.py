"""Structure becomes placeholders before translation and comes back afterwards, or the row is refused.

A row goes out as one XML document, a `<t n="0">` a field and in it an `<l n="0">` a line (a field of one line has no
`<l>`), in which each piece of structure is a self-closing `<x id="3"/>`; tags are not billed. Line breaks, list markers,
table delimiters and blocks of code stay behind (see lines.py). The answer is read strictly: each line once and in its
place, each placeholder exactly once, in its line, and nested as it was. Numbers stay in the text, since Korean
particles and counters depend on them, and are compared. `mask` and `unmask` are inverse on every text, lone surrogates,
control characters and raw XML included.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple
from xml.etree import ElementTree

from kollm.translate.lines import LETTER, Line, translated_lines
from kollm.translate.nesting import nesting
from kollm.translate.structure import NUMBER

TAGS = re.compile(r"<[^<>]*>")
_PLACEHOLDER = re.compile(r'<x id="(\d+)"/>')
_UNSCALED = re.compile(
    r"[0-9][0-9]*+(?:[.,:/][0-9]++)*+"
    r"(?!\s*(?:k\b|thousand|million|billion|trillion|hundred|dozen|[ap]\.?m\b|st\b|nd\b|rd\b|th\b))",
    re.IGNORECASE,
)
"""NUMBER where no word follows that scales it or makes it an ordinal or a time of day."""


class MaskedLine(NamedTuple):
    """The text of one line as XML content with placeholders.

    Attributes:
        markup: escaped text with `<x id="N"/>`, N counting up from `first`.
        originals: what the placeholders stand for.
        first: number of the first placeholder.
    """

    markup: str
    originals: tuple[str, ...]
    first: int

    def placeholders(self) -> dict[str, str]:
        """What the placeholders stand for, by id."""
        return {str(self.first + number): text for number, text in enumerate(self.originals)}


class Masked(NamedTuple):
    """A text as lines to translate, and the frame that stays.

    Attributes:
        lines: the lines; none if there is nothing to translate.
        frame: what stands before, between and after them: one piece more than there are lines.
    """

    lines: tuple[MaskedLine, ...]
    frame: tuple[str, ...]

    @property
    def markup(self) -> str:
        """The lines as XML content: a line alone as it is, several each in an element of its own."""
        if len(self.lines) == 1:
            return self.lines[0].markup
        return "".join(f'<l n="{number}">{line.markup}</l>' for number, line in enumerate(self.lines))

    def framed(self, lines: Sequence[str]) -> str:
        """The text with other lines."""
        if len(lines) == 1:  # as most
            before, after = self.frame
            return f"{before}{lines[0]}{after}"
        parts = [self.frame[0]]
        for line, after in zip(lines, self.frame[1:], strict=True):
            parts += [line, after]
        return "".join(parts)


def mask(text: str, first: int = 0, numbers: bool = False) -> Masked:
    """Cut a text into lines, replace their structure by placeholders and escape the rest.

    Args:
        text: any text.
        first: number of the first placeholder.
        numbers: whether numbers are masked too.
    """
    lines, frame, position = [], [], 0
    for line in translated_lines(text, numbers):
        frame.append(text[position : line.start])
        position = line.end
        if not line.inside:  # as in most lines
            lines.append(MaskedLine(escape(text[line.start : position]), (), first))
            continue
        masked = _mask_line(text, line, first)
        lines.append(masked)
        first += len(masked.originals)
    return Masked(tuple(lines), (*frame, text[position:]))


def _mask_line(text: str, line: Line, first: int) -> MaskedLine:
    parts: list[str] = []
    originals: list[str] = []
    position = line.start
    for start, end, _ in line.inside:
        parts += [escape(text[position:start]), f'<x id="{first + len(originals)}"/>']
        originals.append(text[start:end])
        position = end
    return MaskedLine("".join([*parts, escape(text[position : line.end])]), tuple(originals), first)


def unmask(masked: Masked, markup: str) -> str:
    """The text with the lines of `markup`, of the form of `masked.markup`, in place of its own.

    Raises:
        ValueError: the markup is not well-formed, or a line or placeholder is lost, doubled, foreign or out of place;
            the message says which.
    """
    return masked.framed(_read_lines(_parse(f"<t>{markup}</t>"), masked))


class Document(NamedTuple):
    """Several fields as one XML document.

    Attributes:
        text: the XML, as it is sent.
        fields: names of the fields in it, in order; `<t n="0">` is the first.
        masked: each field, masked.
    """

    text: str
    fields: tuple[str, ...]
    masked: tuple[Masked, ...]

    def read(self, answer: str) -> dict[str, str]:
        """The fields of a translated document, unmasked.

        Raises:
            ValueError: the answer does not have exactly these fields, each with exactly its lines, placeholders and numbers.
        """
        root = _parse(answer)
        if root.tag != "d" or (root.text or "").strip() or any((item.tail or "").strip() for item in root):
            raise ValueError("markup: text outside of the fields")
        if not _numbered(root, "t", len(self.fields)):
            raise ValueError(f"markup: {len(self.fields)} fields were sent, {len(root)} or others came back")
        texts = {}
        for element, name, masked in zip(root, self.fields, self.masked, strict=True):
            try:
                texts[name] = masked.framed(_read_lines(element, masked))
                _check_numbers(element, masked)
            except ValueError as error:
                raise ValueError(f"{error} in {name}") from error
        return texts


def make_document(fields: Mapping[str, str], numbers: bool = False) -> Document | None:
    """Mask fields into one document; those without a word to translate are left out.

    Args:
        fields: name -> text.
        numbers: whether numbers are masked too.

    Returns:
        The document; None if no field has a word to translate.
    """
    names, masked, first = [], [], 0
    for name, text in fields.items():
        item = mask(text, first, numbers)
        if item.lines:
            names.append(name)
            masked.append(item)
            first += sum(len(line.originals) for line in item.lines)
    if not names:
        return None
    body = "".join(f'<t n="{number}">{item.markup}</t>' for number, item in enumerate(masked))
    return Document(f"<d>{body}</d>", tuple(names), tuple(masked))


def visible_length(document: str) -> int:
    """Code points of a document's text without its tags: what a service that does not charge for tags may bill."""
    return len(TAGS.sub("", document))


def translatable(text: str) -> bool:
    """True if a word is left outside of the structure: a text without one is kept as it is, and not sent."""
    return bool(LETTER.search(text)) and bool(translated_lines(text))


def lost_numbers(source: str, target: str) -> list[str]:
    """Numbers of the source that the translation does not have, as often as they are missing.

    Left out are numbers whose digits a faithful Korean text changes: those with a scale word (`3 million` is 300만)
    and ordinals. Thousands separators do not count.

    Args:
        source: the text; leave structure out where its numbers are not to count.
        target: its translation.
    """
    if NUMBER.findall(source) == NUMBER.findall(target):
        return []  # as of most texts
    wanted = _numbers(_UNSCALED, source)
    if not wanted:
        return []
    have, lost = Counter(_numbers(NUMBER, target)), []
    for number in wanted:
        if have[number] > 0:
            have[number] -= 1
        else:
            lost.append(number)
    return lost


def _numbers(pattern: re.Pattern[str], text: str) -> list[str]:
    found: list[str] = []
    for number in pattern.findall(text):
        # Dates, times and ratios are compared part by part, since their order changes in Korean.
        found += [number] if number.isdigit() else re.split(r"[:/]", re.sub(r",(?=\d{3}(?!\d))", "", number))
    return found


def escape(text: str) -> str:
    """The text as XML content."""
    for sign, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        if sign in text:  # as in few texts: a third of the time of replacing nothing
            text = text.replace(sign, name)
    return text


def _check_numbers(element: ElementTree.Element, masked: Masked) -> None:
    source = "  ".join([line.markup for line in masked.lines])
    if not NUMBER.search(source):
        return  # as most
    if "<" in source:  # placeholders, whose numbers are not the text's
        source = TAGS.sub(" ", source)
    if lost := lost_numbers(source, " ".join(element.itertext())):
        more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
        raise ValueError(f"numbers: lost {', '.join(lost[:5])}{more}")


def _parse(markup: str) -> ElementTree.Element:
    if "<!" in markup:
        raise ValueError("markup: a declaration came back")
    try:
        return ElementTree.fromstring(markup)
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"markup: not well-formed ({error})") from error


def _numbered(parent: ElementTree.Element, tag: str, count: int) -> bool:
    """Whether an element holds so many of that tag, numbered in order, and nothing else."""
    return [item.get("n") if item.tag == tag else None for item in parent] == [str(number) for number in range(count)]


def _read_lines(element: ElementTree.Element, masked: Masked) -> list[str]:
    elements = [element]
    if len(masked.lines) != 1:
        elements = list(element)
        outside = [element.text, *(item.tail for item in elements)]
        if not _numbered(element, "l", len(masked.lines)) or any((text or "").strip() for text in outside):
            came = sum(item.tag == "l" for item in elements)
            raise ValueError(f"lines: {len(masked.lines)} were sent, {came} or others came back")
    return [_read_line(item, line) for item, line in zip(elements, masked.lines, strict=True)]


def _read_line(element: ElementTree.Element, line: MaskedLine) -> str:
    if not line.originals and not len(element):  # most lines
        return _sound([(element.text or "").strip()])
    originals = line.placeholders()
    parts, order = [element.text or ""], list[tuple[str, str]]()
    for item in element:
        number = item.get("id", "")
        if item.tag != "x" or number not in originals or len(item) or (item.text or "").strip():
            raise ValueError(f"placeholder: a foreign <{item.tag}> came back")
        order.append((number, item.tail or ""))
        parts += [originals[number], item.tail or ""]
    _check_placeholders(order, line)
    parts[0], parts[-1] = parts[0].lstrip(), parts[-1].rstrip() if len(parts) > 1 else parts[0].strip()
    return _sound(parts)


def _sound(parts: Sequence[str]) -> str:
    """A line's text from what stands before, in and between its placeholders, in turn.

    Raises:
        ValueError: it is more than one line, or nothing.
    """
    if any("\n" in text for text in parts[::2]):
        raise ValueError("lines: one line came back as several")
    core = "".join(parts)
    if not core.strip():
        raise ValueError("empty: nothing came back")
    return core


def _check_placeholders(order: Sequence[tuple[str, str]], line: MaskedLine) -> None:
    originals = line.placeholders()
    seen = Counter(number for number, _ in order)
    lost = [text for number, text in originals.items() if not seen[number]]
    doubled = [text for number, text in originals.items() if seen[number] > 1]
    if lost or doubled:
        raise ValueError(f"placeholder: {'lost' if lost else 'doubled'} {_quote(lost or doubled)}")
    if len(order) < 2:
        return
    came = [number for number, _ in order]
    if came != list(originals):
        before = nesting((int(number), text) for number, text in originals.items())
        after = nesting((int(number), originals[number]) for number in came)
        if before != after:
            raise ValueError(f"placeholder: out of order {_quote([originals[number] for number in came])}")
    wrapped = _wrapped(line)
    for (number, text), (following, _) in pairwise(order):
        if (number, following) in wrapped and not text.strip():
            raise ValueError(f"placeholder: nothing left between {_quote([originals[number], originals[following]])}")


def _wrapped(line: MaskedLine) -> set[tuple[str, str]]:
    """Neighbouring placeholders of which the second closes what the first opens, with words between."""
    pieces = _PLACEHOLDER.split(line.markup)  # text, id, text, id, text
    originals, found = line.placeholders(), set()
    for number, text, following in zip(pieces[1::2], pieces[2::2], pieces[3::2], strict=False):
        if LETTER.search(text):
            pair = [(0, originals[number]), (1, originals[following])]
            if any(opening[:1] == "0" and closing[:1] == "1" for opening, closing, _ in nesting(pair)):
                found.add((number, following))
    return found


def _quote(items: Sequence[str], limit: int = 3, length: int = 40) -> str:
    shown = [repr(item if len(item) <= length else item[: length - 1] + "…") for item in items[:limit]]
    return ", ".join(shown) + (f" and {len(items) - limit} more" if len(items) > limit else "")
