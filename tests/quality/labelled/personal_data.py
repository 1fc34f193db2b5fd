"""Sentences with personal values in `⟦ ⟧`, and sentences whose numbers only look like one, by kind."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kollm.core.records import Record
from kollm.quality.privacy import screen


class Sentence(NamedTuple):
    """A labelled sentence: the kind that it is about, its text without the marks, and its personal values."""

    kind: str
    text: str
    values: tuple[str, ...]


class Found(NamedTuple):
    """How the screen did on one kind, in counts; `alarms` are sentences without a personal value that it changed."""

    values: int
    masked: int
    clean: int
    alarms: int


def sentences() -> Iterator[Sentence]:
    """The labelled sentences."""
    with Path(__file__).with_suffix(".jsonl").open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            values = tuple(re.findall("⟦(.*?)⟧", row["text"]))
            yield Sentence(row["kind"], re.sub("[⟦⟧]", "", row["text"]), values)


def masked(sentence: Sentence) -> str:
    """The sentence after screening."""
    return screen(Record("x", "own", sentence.text, "", "")).record.instruction


def is_right(sentence: Sentence) -> bool:
    """Whether each value is gone whole, and each character around them, particles included, is as it was."""
    before = re.split("|".join(map(re.escape, sentence.values)), sentence.text) if sentence.values else [sentence.text]
    pattern = r"(?:person\d+@example\.com|[^\d@]*?(?:[0공][^1-9１-９]*)+)".join(map(re.escape, before))
    return re.fullmatch(pattern, masked(sentence)) is not None


def figures() -> dict[str, Found]:
    """Counts by kind."""
    kinds: dict[str, list[Sentence]] = {}
    for sentence in sentences():
        kinds.setdefault(sentence.kind, []).append(sentence)
    return {
        kind: Found(
            sum(len(item.values) for item in items),
            sum(len(item.values) for item in items if item.values and is_right(item)),
            sum(not item.values for item in items),
            sum(not item.values and masked(item) != item.text for item in items),
        )
        for kind, items in kinds.items()
    }
