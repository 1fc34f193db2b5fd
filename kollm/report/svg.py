"""SVG written element by element, every text escaped."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape

Number = float | int


def element(name: str, *children: str, **attributes: str | Number | None) -> Markup:
    """One element. `class_` becomes `class`, other underscores hyphens; numbers are written with one decimal at most."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_value(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def join(children: Iterable[str]) -> Markup:
    return Markup("").join(escape(child) for child in children)


def picture(width: Number, height: Number, label: tuple[str, str], *children: str) -> Markup:
    """A figure that scales with its column and tells screen readers what it shows, in Korean and English."""
    title = element("title", " / ".join(label), data_ko=label[0], data_en=label[1])
    return element("svg", title, *children, viewBox=f"0 0 {_value(width)} {_value(height)}", role="img")


def text(x: Number, y: Number, content: str, class_: str = "label", anchor: str = "start") -> Markup:
    return element("text", content, x=x, y=y, class_=class_, text_anchor=anchor)


def text_in_both(x: Number, y: Number, both: tuple[str, str], class_: str = "label", anchor: str = "start") -> Markup:
    """A text in Korean and in English at one place; the page shows one of them."""
    korean, english = (text(x, y, word, f"{class_} {of}", anchor) for word, of in zip(both, ("ko", "en"), strict=True))
    return korean + english


def line(x1: Number, y1: Number, x2: Number, y2: Number, class_: str) -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def points(pairs: Iterable[tuple[Number, Number]]) -> str:
    """Coordinates as `points` of a polygon or polyline takes them."""
    return " ".join(f"{_value(x)},{_value(y)}" for x, y in pairs)


def _value(value: str | Number) -> str:
    return value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
