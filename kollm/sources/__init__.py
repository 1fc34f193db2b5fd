"""The data sets that kollm knows how to read: `SOURCES`, and `read_source`, which yields their rows as Records."""

from kollm.sources.catalogue import SOURCES, find_source
from kollm.sources.reading import (
    SAMPLE,
    Opened,
    Read,
    adapt_batch,
    has_own_ids,
    id_with_place,
    is_local,
    open_source,
    read_source,
    sample_file,
)
from kollm.sources.rows import Batch
from kollm.sources.source import Adapted, Place, Rejected, Row, Source, Turns

__all__ = [
    "SAMPLE",
    "SOURCES",
    "Adapted",
    "Batch",
    "Opened",
    "Place",
    "Read",
    "Rejected",
    "Row",
    "Source",
    "Turns",
    "adapt_batch",
    "find_source",
    "has_own_ids",
    "id_with_place",
    "is_local",
    "open_source",
    "read_source",
    "sample_file",
]
