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
from kollm.sources.annotated import AI_HUB, KISTI, KORQUAD
from kollm.sources.dolly import DOLLY
from kollm.sources.files import hub_files, local_files
from kollm.sources.instruct_wild import INSTRUCT_WILD
from kollm.sources.koalpaca import KOALPACA_V1, KOALPACA_V1_1
from kollm.sources.natural_instructions import NATURAL_INSTRUCTIONS, SUPER_NATURAL_INSTRUCTIONS
from kollm.sources.open_platypus import KOPEN_PLATYPUS, OPEN_PLATYPUS
from kollm.sources.prompted import FLAN, P3
from kollm.sources.rows import hub_rows, local_rows
from kollm.sources.sample import sample_rows
from kollm.sources.self_instruct import HUMAN_EVAL, SELF_INSTRUCT
from kollm.sources.sharegpt import SHAREGPT
from kollm.sources.sharegpt_ko import SHAREGPT_KO
from kollm.sources.source import Adapted, Place, Rejected, Row, Source, Turns
from kollm.sources.synthetic import SYNTHETIC

__all__ = ["SAMPLE", "SOURCES", "Adapted", "Place", "Rejected", "Row", "Source", "Turns", "find_source", "read_source"]

SAMPLE = "sample"
"""The input that stands for the rows which come with kollm."""

SAMPLE_LICENCE = "Apache-2.0"
"""The bundled rows were written for kollm; only their form is that of the source they stand for."""

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        *(GPT4_LLM, ALPACA, DOLLY, SHAREGPT, SELF_INSTRUCT, HUMAN_EVAL),
        *(NATURAL_INSTRUCTIONS, SUPER_NATURAL_INSTRUCTIONS, P3, FLAN, INSTRUCT_WILD, OPEN_PLATYPUS),
        *(KOALPACA_V1, KOALPACA_V1_1, SHAREGPT_KO, KOPEN_PLATYPUS, KORQUAD, AI_HUB, KISTI, SYNTHETIC),
    )
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


def open_rows(
    source: Source, input: str | Path | None, revision: str | None, limit: int | None = None, seed: int = 0
) -> Opened:
    """The raw rows of an input: a file, a folder of them, a dataset on the Hub, `sample`, or None for the source's own
    place there. Of a huge source they are a seeded sample, of others the first."""
    if input == SAMPLE:
        input = sample_file(source.name, "en")
    if input is not None and (isinstance(input, Path) or Path(input).exists() or Path(input).suffix):
        path = Path(input)
        if revision is not None:
            raise InputError(f"--revision {revision} names a commit on the Hub, but '{path}' is a file - leave it out.")
        if source.huge or path.is_dir():
            listing = local_files(source, path)
            return Opened(sample_rows(listing.files, limit, seed), listing.revision)
        rows = (source.read or local_rows)(path)
        return Opened(rows, file_sha256(path))
    if input is None and not source.hub_id:
        raise InputError(f"{source.name} is not on the Hub - {source.terms}")
    if source.huge:
        if limit is None:
            raise InputError(f"{source.name} is too large to be read whole - say how many rows with --limit.")
        listing = hub_files(source, str(input or source.hub_id), revision or source.revision)
        return Opened(sample_rows(listing.files, limit, seed), listing.revision)
    return hub_rows(source, input, revision)


def read_source(
    name: str,
    input: str | Path | None = None,
    *,
    revision: str | None = None,
    turns: Turns = "conversation",
    limit: int | None = None,
    seed: int = 0,
) -> Iterator[Record | Rejected]:
    """Yield the rows of a source as Records, and those that cannot be used as Rejected.

    Args:
        name: a key of SOURCES.
        input: a path, a Hub id, `sample`, or None for the source's pinned place on the Hub.
        revision: another commit than the pinned one; for the Hub only.
        turns: what becomes of conversations.
        limit: rows of the source to read: the first, or of a huge source a sample over all its files.
        seed: of that sample.

    Raises:
        InputError: unknown source, missing or malformed file, or an id that occurs twice.
    """
    source = find_source(name)
    opened = open_rows(source, input, revision, limit, seed)
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
