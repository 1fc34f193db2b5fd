"""The English side of a translated record: what was translated, and a row of its own for sets that keep both."""

from __future__ import annotations

from dataclasses import replace

from kollm.core.records import Record


def english_record(record: Record) -> Record | None:
    """The record before translation, as a row beside the Korean one: id `...-en`; None where there is no English, or
    where the answer is one that a model gave in Korean."""
    if record.original is None or not record.translated or not record.original.output.strip():
        return None
    return replace(
        record.english(),
        id=f"{record.id}-en",
        lang="en",
        original=None,
        provenance=replace(record.provenance, route="keep", engine="", mode="", attempt=0, characters=0),
    )
