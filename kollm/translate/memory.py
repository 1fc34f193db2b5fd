"""Translations that exist already: the Korean side of parallel rows. Nothing is sent or masked.

Rows are found by their ids where both sides have ids of their own, else by their places.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from kollm.core.records import Record
from kollm.services.budget import Budget, Usage
from kollm.services.ledger import Ledger
from kollm.translate.translator import Limits, Segment, Translation


class MemoryTranslator:
    """Looks each field up in the record of the same id, or place.

    What the memory holds is taken as it is, untranslated text included: `Outcome.untranslated` names such fields.

    Args:
        records: id -> the Korean record; with `by_place`, what `place_of` says -> the record.
        by_place: whether rows are found by their places.
    """

    name = "memory"
    base_url = ""
    model = ""
    kept = False
    books_itself = False
    markup = False
    limits = Limits(batch_texts=1000)

    def __init__(self, records: Mapping[str, Record], by_place: bool = False) -> None:
        self._records, self._by_place = records, by_place
        self.options: Mapping[str, Any] = {}

    def start(self, ledger: Ledger | None, budget: Budget) -> None:
        """Nothing to prepare."""

    def translate(self, batch: Sequence[Segment]) -> list[Translation]:
        """The memory's text of each segment; without a text, and with the reason, where it has none."""
        keys = [segment.place if self._by_place else segment.record for segment in batch]
        rows = {key: self._records[key].texts() for key in set(keys) if key in self._records}
        return [self._look_up(segment.field, rows.get(key)) for key, segment in zip(keys, batch, strict=True)]

    def stop(self) -> None:
        """Nothing to stop."""

    def price(self, text: str) -> tuple[int, float]:
        """Nothing."""
        return 0, 0.0

    def usage(self) -> Usage | None:
        """There is no account."""
        return None

    def _look_up(self, field: str, texts: Mapping[str, str] | None) -> Translation:
        if texts is None:
            return Translation(None, reason=f"memory: no row {'at this place' if self._by_place else 'with this id'}")
        text = texts.get(field, "")
        if not text.strip():
            return Translation(None, reason=f"memory: the row has no {field}")
        return Translation(text)


_PART = re.compile(r"-[tpi]\d+\Z")
"""What sources add to the id of a row that became several records."""


def place_of(record: Record) -> str:
    """Where a record stands: the place of its row in the source, and which part of that row it is."""
    part = _PART.search(record.id)
    return f"{record.provenance.index}{part[0] if part else ''}"
