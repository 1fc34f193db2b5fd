"""Dolly: `instruction`, `context`, `response`, `category`, written by Databricks' employees."""

from __future__ import annotations

import re
from dataclasses import replace

from kollm.sources.source import Adapted, Place, Row, Source, adapt_single, check

_CITATION = re.compile(r"(?<=[.,;!?\"')\]])[ ]?\[\d{1,3}\](?!\()|(?<=[a-z]{2})(?:\[\d{1,3}\])+(?=[\s.,;:!?)]|$)")
"""Wikipedia's citation marks in copied passages, `since 1998.[12]` and `word[3]`; not an index, `x[0]`, nor a link."""


def adapt(row: Row, place: Place) -> Adapted:
    """One Record: context -> input, response -> output; the category is kept, citation marks in prose are stripped."""
    category = row.get("category")
    adapted = adapt_single(
        row, place, "instruction", "context", "response", category=category if isinstance(category, str) else ""
    )
    if not adapted.records:
        return adapted
    record = adapted.records[0]
    clean = replace(record, input=_strip(record.input), output=_strip(record.output))
    if clean == record:
        return adapted
    return check(clean, ("citation_marks_stripped",))


def _strip(text: str) -> str:
    if "[" not in text or "`" in text or ";\n" in text:
        return text
    return _CITATION.sub("", text)


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
