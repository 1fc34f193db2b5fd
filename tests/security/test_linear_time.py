"""What reads other people's text takes linear time: eight times the text costs about eight times the processor time."""

from __future__ import annotations

import gc
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from kollm.core.records import Original, Record
from kollm.core.replies import read_json_object
from kollm.core.text import changes, normalise
from kollm.hub.secrets import find_secrets
from kollm.judge.choices import read_choice
from kollm.judge.parse import parse_verdict
from kollm.quality.filters import FILTERS, mixed_register
from kollm.quality.flags import answer_flags
from kollm.quality.privacy import screen
from kollm.quality.refusals import model_talk
from kollm.quality.review import find_hits
from kollm.quality.view import View
from kollm.sources.citations import without_citations
from kollm.sources.html import is_html, to_markdown
from kollm.sources.page_leftovers import without_leftovers
from kollm.translate.lines import changed_lines
from kollm.translate.masking import make_document, mask
from tests.security.hostile import SHAPES

SHORT, LONG = 3_000, 24_000
MOST = 14.0
"""Processor time for eight times the text, as a multiple: linear is 8, quadratic 64."""
NOISE = 0.03
"""Seconds that say nothing on a machine that does other things too."""
TOO_LONG = 5.0

READERS: dict[str, Callable[[str], object]] = {
    "normalise": lambda text: (normalise(text), changes(text)),
    "mask": mask,
    "mask with numbers": lambda text: mask(text, numbers=True),
    "make_document": lambda text: make_document({"instruction": text, "output": text}),
    "filters, both sides": lambda text: _all_rules(text, text),
    "filters, Korean side": lambda text: _all_rules("Some `text` of a sort, with 2.5 in it.", text),
    "filters, English side": lambda text: _all_rules(text, "한국어 문장입니다. 그렇습니다."),
    "register": lambda text: mixed_register(View(_record(text, text))),
    "review, both sides": lambda text: find_hits(_record(text, text)),
    "review, Korean side": lambda text: find_hits(_record("Some `text` of a sort, with 2.5 in it.", text)),
    "review, English side": lambda text: find_hits(_record(text, "한국어 문장입니다. 그렇습니다.")),
    "line structure": lambda text: changed_lines(text, text),
    "flags": lambda text: answer_flags(text, "stop"),
    "privacy": lambda text: screen(_record(text, text)),
    "is_html": lambda text: (is_html(text), is_html(f"<p>{text}"), is_html(f'<div class="markdown">{text}')),
    "to_markdown": to_markdown,
    "judge's replies": lambda text: (
        parse_verdict(text, "kullm2023"),
        parse_verdict(f"전반적인 품질: {text}", "kullm2023"),
        read_choice(text),
        read_json_object(text),
    ),
    "page leftovers": lambda text: (without_leftovers(text), without_leftovers(f"{text}\nCopy code\n{text}")),
    "citations": without_citations,
    "refusals": model_talk,
    "secrets": lambda text: list(find_secrets({"a.txt": text.encode()}, {})),
}


def _record(english: str, korean: str) -> Record:
    return Record("x", "sharegpt", "알려 주세요.", "", korean, original=Original("Tell me.", "", english))


def _all_rules(english: str, korean: str) -> object:
    view = View(_record(english, korean))
    return [rule(view) for rule in FILTERS["default"].rules]


class _TooLong(BaseException):
    """Not caught by the code under test."""


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _seconds(read: Callable[[str], object], text: str) -> float:
    start = time.process_time()
    try:
        with _limit(TOO_LONG):
            read(text)
    except _TooLong:
        return TOO_LONG
    return time.process_time() - start


def _slow_shapes(read: Callable[[str], object]) -> dict[str, tuple[float, float]]:
    """Shapes of text that cost more than their length, with the seconds of both lengths."""
    slow = {}
    for name, shape in SHAPES.items():
        once, long = 0.0, shape(LONG)
        for _ in range(3):  # a neighbour's work can double a time, hardly three times in a row
            many = _seconds(read, long)
            if many > NOISE:
                once = _seconds(read, shape(SHORT))
            if many <= MOST * once + NOISE and many < TOO_LONG:
                break
        else:
            slow[name] = (once, many)
    return slow


@pytest.fixture(autouse=True)
def no_search_for_cycles() -> Iterator[None]:
    """It goes through all that earlier tests left, which takes longer than most of these texts."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a timer of processor time")
@pytest.mark.parametrize("reader", READERS)
def test_long_texts_cost_linear_time(reader: str) -> None:
    assert _slow_shapes(READERS[reader]) == {}


@pytest.mark.skipif(sys.platform == "win32", reason="needs a timer of processor time")
def test_a_careless_reader_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: SHAPES[name] for name in ("long word", "DNA")}
    for name, value in {"SHAPES": few, "TOO_LONG": 0.5}.items():
        monkeypatch.setattr(sys.modules[__name__], name, value)
    careless = re.compile(r"a*b")
    assert set(_slow_shapes(careless.findall)) == {"long word"}


def test_every_shape_has_the_length_that_was_asked_for() -> None:
    assert {name: len(shape(5_000)) for name, shape in SHAPES.items() if len(shape(5_000)) < 4_000} == {}
