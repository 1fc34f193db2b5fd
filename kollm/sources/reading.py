"""The way of a source's rows into Records: open an input, cut it into batches, adapt each row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from kollm.core.errors import InputError
from kollm.core.files import file_sha256
from kollm.core.records import Record
from kollm.core.resources import resource_folder
from kollm.core.text import existing_path
from kollm.services.repository import Reference, parse_reference
from kollm.sources.catalogue import find_source
from kollm.sources.files import hub_batches, hub_files, local_files
from kollm.sources.rows import SUFFIXES, Batch, first_rows, local_batches, row_batches
from kollm.sources.sample import sample_rows
from kollm.sources.source import Place, Rejected, Source, Turns, adapt_row

SAMPLE = "sample"
"""The input that stands for the rows which come with kollm."""
_FIRST = 20
SAMPLE_LICENCE = "Apache-2.0"
"""The bundled rows were written for kollm; only their form is that of the source they stand for."""


class Opened(NamedTuple):
    """One input.

    Attributes:
        batches: its rows.
        place: what holds for all of them; each row's index is still to be put in.
        path: the local file whose rows they are, one after the other; None where they come from elsewhere.
    """

    batches: Iterator[Batch]
    place: Place
    path: Path | None = None


class Read(NamedTuple):
    """A batch of rows as Records, those that cannot be used, and what was mended how often."""

    records: list[Record]
    rejected: list[Rejected]
    notes: Counter[str]


def sample_file(name: str, language: str) -> Path:
    """The bundled rows of a source in `en` or `ko`.

    Raises:
        InputError: the sample has no rows of that source.
    """
    path = resource_folder("sources/sample_rows") / f"{name}.{language}.jsonl"
    if not path.is_file():
        raise InputError(f"The bundled sample has no rows of '{name}' - name a file with --input.")
    return path


def open_source(
    source: Source,
    input: str | Path | None = None,
    *,
    revision: str | None = None,
    turns: Turns = "conversation",
    limit: int | None = None,
    seed: int = 0,
) -> Opened:
    """Open an input: a file, a folder of them, a dataset on the Hub, `sample`, or None for the source's place there.

    Args:
        source: whose rows they are.
        input: where they are.
        revision: another commit than the source's own; for the Hub only.
        turns: what becomes of conversations.
        limit: rows to read: the first, or of a huge source a sample over all its files.
        seed: of that sample.

    Raises:
        InputError: no such file or dataset, or options that do not go together.
        ServiceError: the Hub cannot be reached.
    """
    place = Place(source.name, SAMPLE_LICENCE if input == SAMPLE else source.licence, source.lang, turns=turns)
    if input == SAMPLE:
        input = sample_file(source.name, "en")
    if input is not None and is_local(input):
        if revision is not None:
            raise InputError(
                f"--revision {revision} names a commit on the Hub, but '{input}' is a file - leave it out."
            )
        path = existing_path(Path(input))
        batches, pin = _open_local(source, path, limit, seed)
        plain = path if path.is_file() and source.read is None and not source.huge else None
    else:
        plain = None
        batches, pin = _open_hub(source, None if input is None else str(input), revision, limit, seed)
    return Opened(first_rows(batches, limit), replace(place, revision=pin), plain)


def is_local(input: str | Path) -> bool:
    """Whether an input is a file or folder rather than `ORG/NAME` on the Hub, which may hold a dot too."""
    if isinstance(input, Path) or existing_path(Path(input)).exists():
        return True
    return Path(input).suffix in SUFFIXES or input.count("/") != 1


def _open_local(source: Source, path: Path, limit: int | None, seed: int) -> tuple[Iterator[Batch], str]:
    if source.huge or path.is_dir():
        listing = local_files(source, path)
        return row_batches(sample_rows(listing.files, limit, seed)), listing.revision
    if not path.is_file():
        raise InputError(f"The file '{path}' does not exist - check the path.")
    batches = local_batches(path) if source.read is None else row_batches(source.read(path))
    return batches, file_sha256(path)


def _open_hub(
    source: Source, repository: str | None, revision: str | None, limit: int | None, seed: int
) -> tuple[Iterator[Batch], str]:
    if repository is None and not source.hub_id:
        raise InputError(f"{source.name} is not on the Hub - {source.terms}")
    if source.huge and limit is None:
        raise InputError(f"{source.name} is too large to be read whole - say how many rows with --limit.")
    named = parse_reference(repository) if repository is not None else Reference(source.hub_id)
    if named.revision is not None and revision not in (None, named.revision):
        raise InputError(
            f"'{repository}' names the revision '{named.revision}', and --revision says '{revision}' - give one of them."
        )
    pinned = source.revision if named.repository == source.hub_id else None
    where, commit = named.repository, named.revision or revision or pinned
    if source.huge:
        listing = hub_files(source, where, commit)
        return row_batches(sample_rows(listing.files, limit, seed)), listing.revision
    return hub_batches(source, where, commit)


def adapt_batch(source: Source, place: Place, batch: Batch) -> Read:
    """Make Records of a batch of rows; a row that is no object is rejected like any other that cannot be used.

    Raises:
        InputError: a line of the file is malformed.
    """
    read = Read([], [], Counter())
    for index, row in enumerate(batch.rows(), start=batch.first):
        here = place.at(index)
        adapted = adapt_row(source, row, here) if isinstance(row, dict) else here.reject(row, "not_an_object")
        read.records.extend(adapted.records)
        read.rejected.extend(adapted.rejected)
        if adapted.notes:  # an update costs a microsecond, whatever there is to count
            read.notes.update(adapted.notes)
    return read


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
        InputError: unknown source, or a missing or malformed file.
        ServiceError: the Hub cannot be reached.
    """
    source = find_source(name)
    opened = open_source(source, input, revision=revision, turns=turns, limit=limit, seed=seed)
    kept, all_ids = set[str](), set[str]()
    for batch in opened.batches:
        read = adapt_batch(source, opened.place, batch)
        for record in read.records:
            settled = id_with_place(record.id, record.provenance.index, kept) if record.id in kept else record.id
            kept.add(settled)
            all_ids.add(settled)
            yield record if settled == record.id else replace(record, id=settled)
        for record, reason in read.rejected:
            settled = id_with_place(record.id, record.provenance.index, all_ids) if record.id in all_ids else record.id
            all_ids.add(settled)
            yield Rejected(record if settled == record.id else replace(record, id=settled), reason)


def has_own_ids(name: str, input: str | Path | None = None, revision: str | None = None) -> bool:
    """Whether the rows of an input have ids of their own, told by the first of them.

    Raises:
        InputError, ServiceError: as `read_source`.
    """
    source = find_source(name)
    opened = open_source(source, input, revision=revision, limit=_FIRST)
    first = next(opened.batches, None)
    rows = first.rows()[:_FIRST] if first is not None else []
    return any(isinstance(row, dict) and opened.place.own_id(row) is not None for row in rows)


def id_with_place(name: str, place: int, taken: Set[str]) -> str:
    """An id for a row whose own another row has: with the row's place in its source, `sharegpt-abc-r17`."""
    found = f"{name}-r{place}"
    while found in taken:
        found += "r"
    return found
