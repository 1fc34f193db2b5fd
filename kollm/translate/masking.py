"""Structure becomes placeholders before translation and comes back afterwards, or the row is refused.

A row goes out as one XML document, a `<t n="0">` a field, in which each piece of structure is a self-closing
`<x id="3"/>`, which is not billed. The answer is read strictly: each placeholder exactly once and in its field.
Whitespace around a field stays behind and is put back; so does a field without a word to translate. Numbers stay in the
text, since Korean particles and counters depend on them, and are compared. `mask` and `unmask` are inverse on every text, lone surrogates,
control characters and raw XML included.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from xml.etree import ElementTree

from kollm.translate.structure import NUMBER, plain, structure_spans

_LETTER = re.compile(r"[^\W\d_]")
TAGS = re.compile(r"<[^<>]*>")
_SCALED = re.compile(r"\s*(?:k\b|thousand|million|billion|trillion|hundred|dozen|[ap]\.?m\b|st\b|nd\b|rd\b|th\b)", re.I)


class Masked(NamedTuple):
    """A text as XML content with placeholders.

    Attributes:
        markup: escaped text with `<x id="N"/>`, N counting up from `first`.
        originals: what the placeholders stand for.
        first: number of the first placeholder.
        words: True if a word is left outside of the structure; without one there is nothing to translate.
    """

    markup: str
    originals: tuple[str, ...]
    first: int = 0
    words: bool = True


def mask(text: str, first: int = 0, numbers: bool = False) -> Masked:
    """Replace structure by placeholders and escape the rest.

    Args:
        text: any text.
        first: number of the first placeholder.
        numbers: whether numbers are masked too.
    """
    parts: list[str] = []
    originals: list[str] = []
    position, words = 0, False
    for start, end in [*structure_spans(text, numbers), (len(text), len(text))]:
        words = words or bool(_LETTER.search(text, position, start))
        parts.append(escape(text[position:start]))
        if start < end:
            parts.append(f'<x id="{first + len(originals)}"/>')
            originals.append(text[start:end])
        position = end
    return Masked("".join(parts), tuple(originals), first, words)


def unmask(masked: Masked) -> str:
    """Put the structure back.

    Raises:
        ValueError: the markup is not well-formed, or a placeholder is lost, doubled or foreign; the message says which.
    """
    element = _parse(f"<t>{masked.markup}</t>")
    return _text_of(element, masked)


class Document(NamedTuple):
    """Several fields as one XML document.

    Attributes:
        text: the XML, as it is sent.
        fields: names of the fields in it, in order; `<t n="0">` is the first.
        masked: each field's masked core.
        edges: whitespace before and after each core.
    """

    text: str
    fields: tuple[str, ...]
    masked: tuple[Masked, ...]
    edges: tuple[tuple[str, str], ...]

    def read(self, answer: str) -> dict[str, str]:
        """The fields of a translated document, unmasked.

        Raises:
            ValueError: the answer does not have exactly these fields, each with exactly its placeholders and numbers.
        """
        root = _parse(answer)
        if root.tag != "d" or (root.text or "").strip() or any((item.tail or "").strip() for item in root):
            raise ValueError("markup: text outside of the fields")
        numbers = [item.get("n") if item.tag == "t" else None for item in root]
        if numbers != [str(number) for number in range(len(self.fields))]:
            raise ValueError(f"markup: {len(self.fields)} fields were sent, {len(numbers)} or others came back")
        texts = {}
        for element, name, masked, (before, after) in zip(root, self.fields, self.masked, self.edges, strict=True):
            try:
                texts[name] = before + _core(element, masked) + after
            except ValueError as error:
                raise ValueError(f"{error} in {name}") from error
        return texts


def _core(element: ElementTree.Element, masked: Masked) -> str:
    core = _text_of(element, masked).strip()
    if not core:
        raise ValueError("empty: nothing came back")
    source = TAGS.sub(" ", masked.markup) if masked.originals else masked.markup
    lost = lost_numbers(source, " ".join(element.itertext()))
    if lost:
        more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
        raise ValueError(f"numbers: lost {', '.join(lost[:5])}{more}")
    return core


def make_document(fields: Mapping[str, str], numbers: bool = False) -> Document | None:
    """Mask fields into one document; those without a word to translate are left out.

    Args:
        fields: name -> text.
        numbers: whether numbers are masked too.

    Returns:
        The document; None if no field has a word to translate.
    """
    names, edges, masked, first = [], [], [], 0
    for name, text in fields.items():
        core = text.strip()
        item = mask(core, first, numbers)
        if item.words:
            start = text.index(core)
            names.append(name)
            edges.append((text[:start], text[start + len(core) :]))
            masked.append(item)
            first += len(item.originals)
    if not names:
        return None
    body = "".join(f'<t n="{number}">{item.markup}</t>' for number, item in enumerate(masked))
    return Document(f"<d>{body}</d>", tuple(names), tuple(masked), tuple(edges))


def visible_length(document: str) -> int:
    """Code points of a document's text without its tags: what a service that does not charge for tags may bill."""
    return len(TAGS.sub("", document))


def translatable(text: str) -> bool:
    """True if a word is left outside of the structure: a text without one is kept as it is, and not sent."""
    return bool(_LETTER.search(text)) and bool(_LETTER.search(plain(text.strip())))


def lost_numbers(source: str, target: str) -> list[str]:
    """Numbers of the source that the translation does not have, as often as they are missing.

    Left out are numbers whose digits a faithful Korean text changes: those with a scale word (`3 million` is 300만)
    and ordinals. Thousands separators do not count.

    Args:
        source: the text; leave structure out where its numbers are not to count.
        target: its translation.
    """
    wanted = _numbers(source, scaled=False)
    if not wanted:
        return []
    have = Counter(_numbers(target, scaled=True))
    lost = []
    for number in wanted:
        if have[number] > 0:
            have[number] -= 1
        else:
            lost.append(number)
    return lost


def _numbers(text: str, scaled: bool) -> list[str]:
    found: list[str] = []
    for match in NUMBER.finditer(text):
        if scaled or not _SCALED.match(text, match.end()):
            # Dates, times and ratios are compared part by part, since their order changes in Korean.
            number = match.group()
            found += [number] if number.isdigit() else re.split(r"[:/]", re.sub(r",(?=\d{3}(?!\d))", "", number))
    return found


def escape(text: str) -> str:
    """The text as XML content."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _parse(markup: str) -> ElementTree.Element:
    if "<!" in markup:
        raise ValueError("markup: a declaration came back")
    try:
        return ElementTree.fromstring(markup)
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"markup: not well-formed ({error})") from error


def _text_of(element: ElementTree.Element, masked: Masked) -> str:
    if not masked.originals and not len(element):
        return element.text or ""
    ids = [str(masked.first + number) for number in range(len(masked.originals))]
    originals = dict(zip(ids, masked.originals, strict=True))
    parts, seen = [element.text or ""], Counter[str]()
    for item in element:
        number = item.get("id", "")
        if item.tag != "x" or number not in originals or len(item) or (item.text or "").strip():
            raise ValueError(f"placeholder: a foreign <{item.tag}> came back")
        seen[number] += 1
        parts += [originals[number], item.tail or ""]
    lost = [originals[number] for number in ids if not seen[number]]
    doubled = [originals[number] for number in ids if seen[number] > 1]
    if lost or doubled:
        raise ValueError(f"placeholder: {'lost' if lost else 'doubled'} {_quote(lost or doubled)}")
    return "".join(parts)


def _quote(items: Sequence[str], limit: int = 3, length: int = 40) -> str:
    shown = [repr(item if len(item) <= length else item[: length - 1] + "…") for item in items[:limit]]
    return ", ".join(shown) + (f" and {len(items) - limit} more" if len(items) > limit else "")
