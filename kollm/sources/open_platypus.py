"""Open-Platypus and its Korean translation KOpen-platypus: `instruction`, `input`, `output`, from eleven data sets."""

from __future__ import annotations

from dataclasses import replace

from kollm.sources.source import Adapted, Place, Row, Source, adapt_single

_LICENCES = {
    "MATH/PRM-800K": "MIT",
    "scienceqa": "CC-BY-NC-SA-4.0",
    "scibench": "MIT",
    "reclor": "LicenseRef-non-commercial-research",
    "theoremqa": "MIT",
    "leetcode_ne": "LicenseRef-none-given",
    "airoboros": "LicenseRef-OpenAI-terms",
    "tigerbot-kaggle": "Apache-2.0",
    "ARB": "CC-BY-4.0",
    "guanaco": "Apache-2.0",
}
"""`data_source` -> licence, after the data set's card."""


def adapt(row: Row, place: Place) -> Adapted:
    """One Record under the licence of the part it comes from, where the row names that part."""
    part = row.get("data_source")
    category = part if isinstance(part, str) else ""
    place = replace(place, licence=_LICENCES.get(category, place.licence))
    return adapt_single(row, place, category=category)


OPEN_PLATYPUS = Source(
    name="open_platypus",
    title="Open-Platypus",
    licence="LicenseRef-by-part",
    adapt=adapt,
    hub_id="garage-bAInd/Open-Platypus",
    revision="37141edbdb7826378cce118c46a109b813e1f038",
    hub_files="data/train-*.parquet",
    terms="A collection of eleven sets, some for non-commercial use only; each row has the licence of its part.",
)
KOPEN_PLATYPUS = Source(
    name="kopen_platypus",
    title="KOpen-platypus",
    licence="CC-BY-4.0",
    adapt=adapt,
    hub_id="kyujinpy/KOpen-platypus",
    revision="b5223cf9d9a1ba187dd29ffb39860d6ee1c885b8",
    hub_files="default/train/*.parquet",
    lang="ko",
    terms="The card's CC-BY-4.0 is freer than parts of Open-Platypus, which it translates; rows do not name their part.",
)
