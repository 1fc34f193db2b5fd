"""401 translated rows, made for this test: half sound, many of them hard, half wrong in one of eight ways.

`kind` is `good`, `wrong_language`, `refusal`, `answered` (the instruction was carried out), `meta` (the translator's prompt or
talk), `mojibake`, `structure` (placeholders, entities, code), `numbers` or `cut_off`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kollm.core.records import Original, Provenance, Record
from kollm.quality.estimates import estimates
from kollm.quality.filters import FILTERS, drop_reason
from kollm.quality.view import View


class Found(NamedTuple):
    """How the default filters did on one kind, in rows; flagged ones were not dropped."""

    rows: int
    dropped: int
    flagged: int


def make_view(english: tuple[str, str], korean: tuple[str, str]) -> View:
    """A translated row of these instructions and outputs."""
    original = Original(english[0], "", english[1])
    provenance = Provenance(route="translate", engine="made")
    record = Record("x", "alpaca", korean[0], "", korean[1], lang="ko", original=original, provenance=provenance)
    return View(record)


def labelled() -> Iterator[tuple[str, View]]:
    """Kind and row of each labelled row."""
    with Path(__file__).with_suffix(".jsonl").open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            yield row["kind"], make_view(tuple(row["english"]), tuple(row["korean"]))


def figures() -> dict[str, Found]:
    """Counts by kind."""
    found: dict[str, Found] = {}
    for kind, view in labelled():
        before = found.get(kind, Found(0, 0, 0))
        dropped = drop_reason(view, FILTERS["default"]) is not None
        flagged = not dropped and bool(estimates(view))
        found[kind] = Found(before.rows + 1, before.dropped + dropped, before.flagged + flagged)
    return found
