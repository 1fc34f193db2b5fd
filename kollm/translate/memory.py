"""Translations that exist already: the Korean side of parallel rows, found by id. Nothing is sent or masked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kollm.core.records import Record
from kollm.services.budget import Budget, Usage
from kollm.services.ledger import Ledger
from kollm.translate.translator import Limits, Segment, Translation


class MemoryTranslator:
    """Looks each field up in the record of the same id.

    What the memory holds is taken as it is, untranslated text included: `Outcome.untranslated` names such fields.

    Args:
        records: id -> the Korean record.
    """

    name = "memory"
    base_url = ""
    model = ""
    kept = False
    books_itself = False
    markup = False
    limits = Limits(batch_texts=1000)

    def __init__(self, records: Mapping[str, Record]) -> None:
        self._records = records
        self.options: Mapping[str, Any] = {}

    def start(self, ledger: Ledger | None, budget: Budget) -> None:
        """Nothing to prepare."""

    def translate(self, batch: Sequence[Segment]) -> list[Translation]:
        """The memory's text of each segment; without a text, and with the reason, where it has none."""
        return [self._look_up(segment) for segment in batch]

    def stop(self) -> None:
        """Nothing to stop."""

    def price(self, text: str) -> tuple[int, float]:
        """Nothing."""
        return 0, 0.0

    def usage(self) -> Usage | None:
        """There is no account."""
        return None

    def _look_up(self, segment: Segment) -> Translation:
        record = self._records.get(segment.record)
        if record is None:
            return Translation(None, reason="memory: no row with this id")
        text = record.texts().get(segment.field, "")
        if not text.strip():
            return Translation(None, reason=f"memory: the row has no {segment.field}")
        return Translation(text)
