"""Rows that `kollm data synthesize` wrote: Records as JSON Lines, made by a model or by task templates."""

from __future__ import annotations

from dataclasses import replace

from kollm.core.errors import InputError
from kollm.core.records import Record
from kollm.sources.source import Adapted, Place, Row, Source, check


def adapt(row: Row, place: Place) -> Adapted:
    """The Record that the row is, with its own id, language and licence."""
    try:
        record = Record.from_row({key: row[key] for key in row if not key.startswith("kollm_")})
    except InputError:
        return place.reject(row, "no_record")
    provenance = replace(record.provenance, revision=place.revision, index=place.index)
    return check(replace(record, source=place.source, provenance=provenance))


SYNTHETIC = Source(
    name="synthetic",
    title="Rows made by a model or by task templates",
    licence="LicenseRef-model-terms",
    adapt=adapt,
    hub_id="",
    revision="",
    lang="ko",
    terms="The terms of the model that wrote them, or of the data behind the templates, apply. Make rows with `kollm "
    "data synthesize` and name their file with --input.",
)
