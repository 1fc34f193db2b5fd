"""InstructWild: instructions that people shared, more made from them, answered by an OpenAI model; Alpaca's form."""

from __future__ import annotations

from kollm.sources.source import Adapted, Place, Row, Source, adapt_single


def adapt(row: Row, place: Place) -> Adapted:
    """One Record; the instructions of its second version have no answers and are rejected as `no_column_output`."""
    return adapt_single(row, place)


INSTRUCT_WILD = Source(
    name="instruct_wild",
    title="InstructWild",
    licence="LicenseRef-non-commercial-research",
    adapt=adapt,
    hub_id="",
    revision="",
    personal=True,
    terms="For non-commercial research only, says its LICENSE; the answers come from an OpenAI model. Get "
    "instinwild_en.json from the project's page and name it with --input.",
)
