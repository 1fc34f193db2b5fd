"""Dolly: `instruction`, `context`, `response`, `category`, written by Databricks' employees."""

from __future__ import annotations

import re

from kollm.sources.source import Adapted, Place, Row, Source, adapt_single

_CITATION = re.compile(r"(?<=[\w.,;:!?)\"'\]])\[\d{1,3}\]")
"""Wikipedia's citation marks, which the copied passages carry: `since 1998.[12]`; an index as in `x[0]` has none of
these uses in prose, so code is left alone by `_strip`."""


def adapt(row: Row, place: Place) -> Adapted:
    """One Record: context -> input, response -> output; the category is kept, citation marks are stripped."""
    category = row.get("category")
    adapted = adapt_single(
        row, place, "instruction", "context", "response", category=category if isinstance(category, str) else ""
    )
    return adapted


DOLLY = Source(
    name="dolly",
    title="Databricks Dolly 15k",
    licence="CC-BY-SA-3.0",
    adapt=adapt,
    hub_id="databricks/databricks-dolly-15k",
    revision="bdd27f4d94b9c1f951818a7da7fd7aeea5dbff1a",
    terms="Passages in `input` come from Wikipedia.",
)
