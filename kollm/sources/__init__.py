"""The data sets that kollm knows how to read: `SOURCES`, and `read_source`, which yields their rows as Records."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from kollm.errors import InputError
from kollm.files import file_sha256
from kollm.records import Record
from kollm.resources import resource_folder
from kollm.sources.alpaca import ALPACA, GPT4_LLM
from kollm.sources.dolly import DOLLY
from kollm.sources.rows import hub_rows, local_rows
from kollm.sources.self_instruct import HUMAN_EVAL, SELF_INSTRUCT
from kollm.sources.sharegpt import SHAREGPT
from kollm.sources.source import Adapted, Place, Rejected, Row, Source, Turns

__all__ = ["SAMPLE", "SOURCES", "Adapted", "Place", "Rejected", "Row", "Source", "Turns", "find_source", "read_source"]

SAMPLE = "sample"
"""The input that stands for the rows which come with kollm."""

SAMPLE_LICENCE = "Apache-2.0"
"""The bundled rows were written for kollm; only their form is that of the source they stand for."""

SOURCES: dict[str, Source] = {
    source.name: source for source in (GPT4_LLM, ALPACA, DOLLY, SHAREGPT, SELF_INSTRUCT, HUMAN_EVAL)
}


class Opened(NamedTuple):
    """The rows of one input, and what pins them."""

    rows: Iterable[Row]
    revision: str


def find_source(name: str) -> Source:
    """The source of that name.

    Raises:
        InputError: there is none.
    """
    if name not in SOURCES:
        raise InputError(f"There is no source '{name}' - use one of {', '.join(SOURCES)}.")
    return SOURCES[name]


def sample_file(name: str, language: str) -> Path:
    """The bundled rows of a source in `en` or `ko`.

    Raises:
        InputError: the sample has no rows of that source.
    """
    path = resource_folder("sample") / f"{name}.{language}.jsonl"
    if not path.is_file():
        raise InputError(f"The bundled sample has no rows of '{name}' - name a file with --input.")
    return path


def open_rows(source: Source, input: str | Path | None, revision: str | None) -> Opened:
    """The raw rows of an input: a file, a dataset on the Hub, `sample`, or None for the source's own place there."""
    if input == SAMPLE:
        input = sample_file(source.name, "en")
    if input is not None and (isinstance(input, Path) or Path(input).exists() or Path(input).suffix):
        path = Path(input)
        if revision is not None:
            raise InputError(f"--revision {revision} names a commit on the Hub, but '{path}' is a file - leave it out.")
        rows = local_rows(path)
        return Opened(rows, file_sha256(path))
    return hub_rows(source, input, revision)


def read_source(
    name: str,
    input: str | Path | None = None,
    *,
    revision: str | None = None,
    turns: Turns = "conversation",
    limit: int | None = None,
) -> Iterator[Record | Rejected]:
    """Yield the rows of a source as Records, and those that cannot be used as Rejected.

    Args:
        name: a key of SOURCES.
        input: a path, a Hub id, `sample`, or None for the source's pinned place on the Hub.
        revision: another commit than the pinned one; for the Hub only.
        turns: what becomes of conversations.
        limit: rows of the source to read.

    Raises:
        InputError: unknown source, missing or malformed file, or an id that occurs twice.
    """
    source = find_source(name)
    opened = open_rows(source, input, revision)
    seen: set[str] = set()
    licence = SAMPLE_LICENCE if input == SAMPLE else source.licence
    for index, row in enumerate(itertools.islice(opened.rows, limit)):
        place = Place(name, licence, source.lang, opened.revision, index, turns)
        adapted = source.adapt(row, place)
        for record in (*adapted.records, *(rejected.record for rejected in adapted.rejected)):
            if record.id in seen:
                raise InputError(
                    f"{name}, row {index + 1}: the id '{record.id}' occurs twice - give each row an id of its own."
                )
            seen.add(record.id)
        yield from adapted.records
        yield from adapted.rejected
