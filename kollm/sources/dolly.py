"""Dolly: `instruction`, `context`, `response`, `category`, written by Databricks' employees."""

from __future__ import annotations

from kollm.sources.citations import without_citations
from kollm.sources.source import Adapted, Columns, Place, Row, Source, adapt_single

COLUMNS = Columns("instruction", "context", "response")


def adapt(row: Row, place: Place) -> Adapted:
    """One Record: context -> input, response -> output; the category is kept, Wikipedia's citation marks are not."""
    names = [name for name in ("instruction", "context", "response") if isinstance(row.get(name), str)]
    cleaned = without_citations(row[name] for name in names)
    category = row.get("category")
    adapted = adapt_single(
        {**row, **dict(zip(names, cleaned.texts, strict=True))},
        place,
        COLUMNS,
        category=category if isinstance(category, str) else "",
    )
    return adapted._replace(notes=(*adapted.notes, *sorted(cleaned.kinds)))


DOLLY = Source(
    name="dolly",
    title="Databricks Dolly 15k",
    licence="CC-BY-SA-3.0",
    adapt=adapt,
    hub_id="databricks/databricks-dolly-15k",
    hub_files="databricks-dolly-15k.jsonl",
    revision="bdd27f4d94b9c1f951818a7da7fd7aeea5dbff1a",
    terms="Passages in `input` come from Wikipedia.",
)
