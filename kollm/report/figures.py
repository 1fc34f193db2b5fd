"""The figures of a report, as SVG whose text is live: it is read out, searched, and drawn with the page's own font.

A plotting library would put a script or outlines of letters into the one file that a report is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from textwrap import wrap
from typing import Any, NamedTuple

from markupsafe import Markup

from kollm.report.svg import element, line, picture, points, text, text_in_both
from kollm.report.words import NO_SCORE, NONE, STEP, Words, axis_words

COLOURS = 8
"""Colours of systems in page.css, .s0 to .s7; a ninth system begins again with the first."""
RADAR_SYSTEMS = 6
PUBLISHED_SHOWN = 4
"""Published rows in their radar: Table 1 of the paper; all of them are in the table and the bars."""
MEASURED = Words("잰 값: 축별 평균", "measured: mean by axis")
PUBLISHED = Words("공개된 값: 축별 평균", "published: mean by axis")
ROW = 22
NAME_WIDTH = 19
LABEL_WIDTH = 14
"""Letters of an axis's English name on one line beside a radar."""


class Shape(NamedTuple):
    """One system in a radar figure: its name, the class of its colour, its means by axis."""

    name: str
    colour: str
    means: Mapping[str, Any]


class Radar(NamedTuple):
    """A radar figure, and for its legend what it shows."""

    words: Words
    picture: Markup
    shapes: list[Shape]


def radars(judging: Mapping[str, Any]) -> list[Radar]:
    """Means on all axes, each from its lowest score (centre) to its highest (rim): measured, and beside it published."""
    axes = [axis for axis in judging["axes"] if axis["low"] is not None]
    measured = [
        Shape(s["system"], _colour(s["place"]), {key: e["mean"] for key, e in s["axes"].items()})
        for s in judging["systems"]
    ]
    published = [
        Shape(row["system"], _colour(COLOURS - PUBLISHED_SHOWN + place), row["scores"])
        for place, row in enumerate(judging["published"][:PUBLISHED_SHOWN])
    ]
    found = []
    for words, rows in ((MEASURED, measured), (PUBLISHED, published)):
        whole = [row for row in rows if all(row.means.get(axis["key"]) is not None for axis in axes)][:RADAR_SYSTEMS]
        if len(axes) >= 3 and whole:
            found.append(Radar(words, _radar(axes, whole, words), whole))
    return found


def _radar(axes: Sequence[Mapping[str, Any]], shapes: Sequence[Shape], title: Words) -> Markup:
    centre_x, centre_y, radius = 180.0, 142.0, 100.0

    def at(index: int, share: float) -> tuple[float, float]:
        angle = 2 * math.pi * index / len(axes) - math.pi / 2
        return centre_x + radius * share * math.cos(angle), centre_y + radius * share * math.sin(angle)

    drawn = [
        element("polygon", points=points(at(i, share) for i in range(len(axes))), class_="grid")
        for share in (0.25, 0.5, 0.75, 1.0)
    ]
    drawn += [line(centre_x, centre_y, *at(i, 1.0), "grid") for i in range(len(axes))]
    for shape in shapes:
        corners = [at(i, _share(shape.means[axis["key"]], axis)) for i, axis in enumerate(axes)]
        drawn.append(element("polygon", points=points(corners), class_=f"area {shape.colour}"))
        drawn += [element("circle", cx=x, cy=y, r=3, class_=f"dot {shape.colour}") for x, y in corners]
    for index, axis in enumerate(axes):
        x, y = at(index, 1.08)
        anchor = "middle" if abs(x - centre_x) < 12 else "start" if x > centre_x else "end"
        y += -12 if y < centre_y - radius else 14 if y > centre_y + radius else 0
        words = axis_words(axis)
        lines = wrap(words.en, LABEL_WIDTH)
        top = y - 14 * (len(lines) - 1)
        drawn.append(text(x, y, words.ko, "label strong ko", anchor))
        drawn += [text(x, top + 14 * row, part, "label strong en", anchor) for row, part in enumerate(lines)]
        drawn.append(text(x, y + 14, f"{axis['low']}–{axis['high']}", "label faint", anchor))
    return picture(360, 284, (f"방사형 그림: {title.ko}", f"Radar: {title.en}"), *drawn)


def bars(judging: Mapping[str, Any], axis: Mapping[str, Any]) -> Markup:
    """One axis: a bar and its interval for each measured system, a hollow mark for each published row."""
    rows: list[tuple[str, float | None, Sequence[float] | None, str]] = [
        (s["system"], s["axes"][axis["key"]]["mean"], s["axes"][axis["key"]]["ci95"], _colour(s["place"]))
        for s in judging["systems"]
    ]
    rows += [
        (row["system"], row["scores"][axis["key"]], None, "published")
        for row in judging["published"]
        if axis["key"] in row["scores"]
    ]
    low, high = _range(axis, [value for _, value, _, _ in rows if value is not None])
    left, width, top = 128.0, 172.0, 8.0

    def x(value: float) -> float:
        return left + width * (value - low) / (high - low)

    drawn: list[Markup] = []
    bottom = top + ROW * len(rows)
    for tick in (low, (low + high) / 2, high):
        drawn.append(line(x(tick), top, x(tick), bottom, "grid"))
        drawn.append(text(x(tick), bottom + 14, f"{tick:g}", "label faint", "middle"))
    for number, (name, mean, ci95, style) in enumerate(rows):
        middle = top + ROW * number + ROW / 2
        drawn.append(text(left - 8, middle + 4, _short(name), "label", "end"))
        if mean is None:
            drawn.append(text_in_both(left + 4, middle + 4, NO_SCORE, "label faint"))
            continue
        drawn.append(
            element("rect", x=left, y=middle - 7, width=max(x(mean) - left, 1), height=14, rx=2, class_=f"bar {style}")
        )
        if ci95 is not None:
            ends = x(ci95[0]), x(ci95[1])
            drawn.append(line(ends[0], middle, ends[1], middle, "whisker"))
            drawn += [line(end, middle - 4, end, middle + 4, "whisker") for end in ends]
        drawn.append(text(left + width + 8, middle + 4, f"{mean:.2f}", "label number"))
    words = axis_words(axis)
    return picture(350, bottom + 22, (f"막대그림: {words.ko}", f"Bars: {words.en}"), *drawn)


def distribution(judging: Mapping[str, Any], axis: Mapping[str, Any]) -> Markup:
    """One axis: for each system the share of answers at each score, and of those without one."""
    systems = judging["systems"]
    scores = sorted({score for s in systems for score, _ in s["axes"][axis["key"]]["distribution"]})
    low, high = _range(axis, scores)
    left, width, top = 128.0, 214.0, 4.0
    drawn: list[Markup] = []
    for number, system in enumerate(systems):
        found, y = system["axes"][axis["key"]], top + ROW * number
        drawn.append(text(left - 8, y + 15, _short(system["system"]), "label", "end"))
        parts: list[tuple[Words, int, str]] = [
            (Words(f"{score:g}", f"{score:g}"), count, f"shade d{_step(score, low, high)}")
            for score, count in found["distribution"]
        ]
        parts.append((NONE, found["n"] - found["n_scored"], "unscored"))
        start = left
        for label, count, style in parts:
            wide = width * count / max(found["n"], 1)
            if count:
                korean, english = (f"{word}: {count} ({count / found['n']:.0%})" for word in label)
                title = element("title", korean, data_ko=korean, data_en=english)
                drawn.append(element("rect", title, x=start, y=y + 3, width=wide, height=ROW - 6, class_=style))
                if wide >= 22 and style != "unscored":
                    drawn.append(text(start + wide / 2, y + 15, label.ko, f"label on {style}", "middle"))
            start += wide
    words = axis_words(axis)
    return picture(350, top + ROW * len(systems) + 4, (f"점수 분포: {words.ko}", f"Scores: {words.en}"), *drawn)


def curve(training: Mapping[str, Any]) -> Markup | None:
    """Training loss by step as a line; held-out loss before, while and after training as dots; None below two points."""
    history, ends = training.get("history") or [], training.get("heldout") or {}
    loss = [(float(h["step"]), float(h["loss"])) for h in history if h.get("loss") is not None]
    heldout = [(float(row["step"]), float(row["loss"])) for row in training.get("evaluations") or ()]
    if loss and ends.get("before") is not None and ends.get("after") is not None:
        # Where the best weights were kept, the loss after training is theirs, and stands in the curve already.
        after = [] if training.get("best_step") else [(loss[-1][0], float(ends["after"]))]
        heldout = [(0.0, float(ends["before"])), *heldout, *after]
    both = [*loss, *heldout]
    if len(both) < 2:
        return None
    (first, last), (low, high) = _span(p[0] for p in both), _span(p[1] for p in both)
    low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)
    left, top, width, height = 40.0, 8.0, 340.0, 170.0

    def at(step: float, value: float) -> tuple[float, float]:
        return left + width * (step - first) / (last - first), top + height * (high - value) / (high - low)

    drawn: list[Markup] = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = left + width * share, top + height * (1 - share)
        drawn.append(line(left, y, left + width, y, "grid"))
        drawn.append(text(left - 6, y + 4, f"{low + share * (high - low):.2f}", "label faint", "end"))
        drawn.append(text(x, top + height + 16, f"{first + share * (last - first):.0f}", "label faint", "middle"))
    drawn.append(text_in_both(left + width / 2, top + height + 32, STEP, "label faint", "middle"))
    drawn.append(element("polyline", points=points(at(*p) for p in loss), class_="curve s0"))
    drawn.append(element("polyline", points=points(at(*p) for p in heldout), class_="curve dashed s1"))
    drawn += [element("circle", cx=at(*p)[0], cy=at(*p)[1], r=4, class_="dot s1") for p in heldout]
    return picture(392, top + height + 40, ("학습 곡선", "Training curve"), *drawn)


def _share(value: float, axis: Mapping[str, Any]) -> float:
    return float((value - axis["low"]) / (axis["high"] - axis["low"]))


def _range(axis: Mapping[str, Any], values: Sequence[float]) -> tuple[float, float]:
    """The axis' own range, else that of the values."""
    if axis["low"] is not None:
        return float(axis["low"]), float(axis["high"])
    return _span(values or (0.0, 1.0))


def _span(values: Iterable[float]) -> tuple[float, float]:
    found = list(values)
    low, high = min(found), max(found)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _step(score: float, low: float, high: float) -> int:
    """One of five shades, .d0 to .d4 in page.css."""
    return round(4 * (score - low) / (high - low))


def _colour(place: int) -> str:
    return f"s{place % COLOURS}"


def _short(name: str) -> str:
    """A name that fits beside a bar: its beginning and end where it is too wide."""
    if _width(name) <= NAME_WIDTH:
        return name
    kept = len(name) // 2
    while _width(name[:kept] + name[-kept:]) > NAME_WIDTH - 2:
        kept -= 1
    return f"{name[:kept]}..{name[-kept:]}"


def _width(name: str) -> int:
    """Width in Latin letters; a Korean one takes two."""
    return sum(2 if sign >= "\u1100" else 1 for sign in name)
