"""A dataset folder: one parquet folder a config, `manifest.json`, and the card whose YAML the Hub's viewer reads.

The folder is written beside its place and renamed into it at the end, so that it is whole or absent. The same records
give the same bytes: no times, no random names, a fixed order of shards.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import pyarrow as pa
import pyarrow.parquet as pq

from kollm.core.errors import InputError
from kollm.core.files import file_sha256, whole_file, write_atomic
from kollm.core.hashing import content_id
from kollm.core.lock import output_lock
from kollm.core.ownership import Replacement, own_files, require_own, restore, write_sealed
from kollm.core.parquet import AGAIN, open_parquet, parquet_batches
from kollm.core.reading import foreign_errors
from kollm.core.records import Record
from kollm.core.results import read_manifest_file
from kollm.core.text import is_normal, normalise
from kollm.core.version import __version__
from kollm.dataset.tables import SCHEMA, check_batch, check_schema, to_records
from kollm.services.repository import locate

CARD = "README.md"
MANIFEST = "manifest.json"
REJECTED = "rejected"
PREFERENCES = "preferences"
"""Config of the preferences, whose schema is another (`kollm.dataset.preferences`); its rows are no Records."""
SHARD_ROWS = 200_000
GROUP_ROWS = 5_000
"""Rows of a parquet row group: small enough that a reader of one page of the Hub's viewer loads little."""


class Part(NamedTuple):
    """One split of one config."""

    config: str
    split: str


class DatasetWriter:
    """Writes a dataset folder under a temporary name beside `folder`; `publish` moves it into place.

    Use as a context manager: left without `publish`, nothing remains; after a kill, the next writer removes the rest.

    Raises:
        InputError: the place cannot be written, or holds anything but an earlier dataset, as kollm wrote it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        with output_lock(self.folder):
            self._replaced = require_place(self.folder)
            self._place = Replacement(self.folder)
        self.work = self._place.work
        self._parts: dict[Part, _PartWriter] = {}

    @property
    def rows(self) -> dict[Part, int]:
        """Rows written so far."""
        return {part: writer.rows for part, writer in self._parts.items()}

    def write(self, part: Part, table: pa.Table) -> None:
        """Append the rows of a table that has the part's schema."""
        if table.num_rows == 0:
            return  # `load_dataset` fails on a parquet file without rows
        if part not in self._parts:
            self._parts[part] = _PartWriter(self.work / part.config, part.split, table.schema)
        self._parts[part].write(table)

    def take(self, folder: Path) -> None:
        """Move the configs that were written elsewhere on the same disk into this dataset."""
        for config in sorted(folder.iterdir()):
            config.rename(self.work / config.name)

    def publish(self, manifest: Mapping[str, Any], card: str, known: Mapping[str, str] | None = None) -> Path:
        """Close the files, add the card and the manifest with the checksums, and move the folder into its place.

        Args:
            manifest: what the manifest says beside them.
            card: the card.
            known: checksums of files, where they are known already.
        """
        for part in self._parts.values():
            part.close()
        names = sorted(path.relative_to(self.work).as_posix() for path in self.work.rglob("*.parquet"))
        checksums = {name: (known or {}).get(name) or file_sha256(self.work / name) for name in names}
        write_atomic(self.work / CARD, card)
        about = {"kollm": __version__, **manifest, "files": checksums, "card": file_sha256(self.work / CARD)}
        write_sealed(self.work / MANIFEST, about)
        return self._place.publish(self._replaced)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for part in self._parts.values():
            with contextlib.suppress(OSError, pa.ArrowInvalid):  # a full disk is told by what met it first
                part.close()
        self._place.__exit__(kind, value, trace)


class _PartWriter:
    """The shards of one split: full row groups whatever the size of the tables that come in."""

    def __init__(self, folder: Path, split: str, schema: pa.Schema) -> None:
        folder.mkdir(exist_ok=True)
        self._folder, self._split, self._schema = folder, split, schema
        self._waiting: list[pa.Table] = []
        self._file: pq.ParquetWriter | None = None
        self._shards = 0
        self._in_shard = 0
        self.rows = 0

    def write(self, table: pa.Table) -> None:
        self.rows += table.num_rows
        self._waiting.append(table)
        if sum(item.num_rows for item in self._waiting) >= GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        self._flush(all=True)
        if self._file is not None:
            self._file.close()
            self._file = None

    def _flush(self, all: bool = False) -> None:
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting)
        end = table.num_rows if all else table.num_rows // GROUP_ROWS * GROUP_ROWS
        for start in range(0, end, GROUP_ROWS):
            self._write_group(table.slice(start, min(GROUP_ROWS, end - start)))
        self._waiting = [table.slice(end)] if end < table.num_rows else []

    def _write_group(self, table: pa.Table) -> None:
        if self._file is not None and self._in_shard >= SHARD_ROWS:
            self._file.close()
            self._file = None
        if self._file is None:
            path = self._folder / part_file(self._split, self._shards)
            self._file = pq.ParquetWriter(path, self._schema, compression="zstd")
            self._shards += 1
            self._in_shard = 0
        self._file.write_table(table.combine_chunks(), row_group_size=GROUP_ROWS)
        self._in_shard += table.num_rows


def part_file(split: str, number: int) -> str:
    """The name of one of the files of a split."""
    return f"{split}-{number:05d}.parquet"


def write_part(path: Path, tables: Iterable[pa.Table], schema: pa.Schema, sync: bool = True) -> None:
    """Write one of the files of a split, whole or not at all: full row groups whatever the size of the tables."""
    with whole_file(path, sync) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        waiting: list[pa.Table] = []
        for table in tables:
            waiting.append(table)
            while sum(item.num_rows for item in waiting) >= GROUP_ROWS:
                whole = pa.concat_tables(waiting)
                writer.write_table(whole.slice(0, GROUP_ROWS).combine_chunks(), row_group_size=GROUP_ROWS)
                waiting = [whole.slice(GROUP_ROWS)] if whole.num_rows > GROUP_ROWS else []
        if waiting:
            writer.write_table(pa.concat_tables(waiting).combine_chunks(), row_group_size=GROUP_ROWS)


def require_place(folder: Path) -> dict[str, str]:
    """What an earlier dataset there consists of, which a new one may replace; empty where there is none.

    Raises:
        InputError: the folder holds anything else.
    """
    restore(folder)
    listed = own_files(folder)
    require_own(folder, listed, "the dataset")
    return listed or {}


def said_place(folder: Path) -> str:
    """What a build would do to a folder, in a sentence; nothing is touched.

    Raises:
        InputError: the place cannot be written, or holds anything but an earlier dataset, as kollm wrote it.
    """
    listed = own_files(folder)
    require_own(folder, listed, "the dataset")
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"The folder '{above}' cannot be written - choose another or change its permissions.")
    return f"The dataset in '{folder}' would be replaced." if listed else f"The dataset would be made in '{folder}'."


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a dataset folder.

    Raises:
        InputError: there is none: the folder is no dataset folder, or a build was cut off; or it is malformed.
    """
    if not (folder / MANIFEST).is_file():
        raise InputError(
            f"'{folder}' is not a dataset folder: it has no {MANIFEST} - build one with: kollm data build."
        )
    return read_manifest_file(folder / MANIFEST)


def read_records(
    folder_or_hub_id: str | Path, config: str | None = None, split: str | None = None, revision: str | None = None
) -> Iterator[Record]:
    """Yield the Records of a dataset folder, or of a dataset that kollm published on the Hub.

    Args:
        folder_or_hub_id: a folder, `ORG/NAME`, or `ORG/NAME@REVISION`.
        config: one config; None for all of them, the rejected rows left out.
        split: `train` or `test`; None for both.
        revision: commit on the Hub.

    Raises:
        InputError: no such folder, config or split, or files that are no parquet or lack a column.
    """
    return _folder_records(locate(folder_or_hub_id, "dataset", revision).folder, config, split)


def training_parts(folder_or_hub_id: str | Path) -> Iterator[tuple[str, Iterator[Record]]]:
    """The training rows of a dataset, config by config.

    Raises:
        InputError: as `read_records`.
    """
    folder = locate(folder_or_hub_id, "dataset").folder
    names = [name for name in read_manifest(folder)["files"] if _wanted(name, None, "train")]
    if not names:
        next(_folder_records(folder, None, "train"))  # says what there is
    for config in dict.fromkeys(name.partition("/")[0] for name in names):
        yield config, _folder_records(folder, config, "train")


def read_any_records(folder_or_hub_id: str | Path, config: str | None = None) -> list[Record]:
    """As `read_records`, but nothing where the dataset has no such config: its rejected rows, say.

    Raises:
        InputError: there is no such dataset.
    """
    folder = locate(folder_or_hub_id, "dataset").folder
    there = any(_wanted(name, config, None) for name in read_manifest(folder)["files"])
    return list(_folder_records(folder, config, None)) if there else []


def dataset_fingerprint(folder_or_hub_id: str | Path) -> str:
    """What identifies a dataset's content, in a folder or on the Hub: its manifest's hash."""
    return content_id(read_manifest(locate(folder_or_hub_id, "dataset").folder))


def _normalised(record: Record) -> Record:
    """The record with its texts normalised: the folder may be another's, or older than kollm's own normalisation."""
    return record if all(map(is_normal, record.texts().values())) else record.map_texts(normalise)


def _folder_records(folder: Path, config: str | None, split: str | None) -> Iterator[Record]:
    for path in parquet_files(folder, config, split):
        yield from read_part(path)


def parquet_files(folder: Path, config: str | None, split: str | None) -> list[Path]:
    """The files of a dataset folder that hold the rows of a config and a split.

    Raises:
        InputError: there are none.
    """
    manifest = read_manifest(folder)
    names = [name for name in manifest["files"] if _wanted(name, config, split)]
    if not names:
        there = ", ".join(sorted({name.rsplit("-", 1)[0] for name in manifest["files"]}))
        if f"{PREFERENCES}/" in there:
            raise InputError(
                f"'{folder}' holds preferences, two answers to each prompt, and no rows with one - train on it by a method that "
                "takes pairs, such as dpo."
            )
        raise InputError(
            f"'{folder}' has no rows of config '{config or 'all'}', split '{split or 'any'}' - it has {there}."
        )
    return [folder / name for name in names]


def read_part(path: Path, groups: Sequence[int] | None = None) -> Iterator[Record]:
    """The Records of a file of a dataset folder.

    Args:
        path: the file.
        groups: its row groups to read; None for all.

    Raises:
        InputError: it is no parquet file, or lacks a column.
    """
    schema = open_parquet(path, path).schema_arrow
    check_schema(schema, path)
    columns = [column for column in SCHEMA.names if column in schema.names]
    for batch in parquet_batches(path, path, 1000, columns, groups):
        check_batch(batch, path)
        with foreign_errors(f"The parquet file '{path}'", AGAIN):  # text that is no UTF-8 is found here alone
            records = to_records(batch)
        yield from map(_normalised, records)


def _wanted(name: str, config: str | None, split: str | None) -> bool:
    its_config, its_file = name.split("/")
    if its_config == PREFERENCES:
        return False
    of_config = its_config != REJECTED if config in (None, "all") else its_config == config
    return of_config and (split is None or its_file.startswith(f"{split}-"))
