"""The files of a set that has many: those of a local folder, or those in its repository on the Hub, opened one by one."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import NamedTuple

from kollm.core.errors import InputError
from kollm.core.files import file_sha256
from kollm.core.hashing import content_id
from kollm.services.repository import Reference, hub_errors
from kollm.sources.rows import SUFFIXES, Batch, file_batches, local_rows
from kollm.sources.sample import Files
from kollm.sources.source import Row, Source


class Listing(NamedTuple):
    """The files of a set, and what pins them: `sha256:` of their content, or the commit on the Hub."""

    files: Files
    revision: str


def local_files(source: Source, path: Path) -> Listing:
    """A file, or all files of a folder and its sub-folders that kollm reads.

    Raises:
        InputError: there are none.
    """
    found = sorted(item for item in path.rglob("*") if item.suffix in SUFFIXES) if path.is_dir() else [path]
    if not found:
        raise InputError(f"The folder '{path}' holds no {', '.join(SUFFIXES)} - name the folder of the set's files.")
    names = {item: item.relative_to(path).with_suffix("").as_posix() if item != path else item.stem for item in found}
    read = source.read or local_rows
    digests = {name: file_sha256(item) for item, name in names.items() if item.is_file()}
    revision = next(iter(digests.values()), "") if found == [path] else content_id(digests)
    return Listing({name: partial(read, item) for item, name in names.items()}, revision)


def hub_files(source: Source, repository: str, revision: str | None) -> Listing:
    """The files that the source reads of a repository; each is fetched as far as it is read.

    Raises:
        InputError: no such repository or revision, or no file in it that matches the source's.
        ServiceError: the Hub cannot be reached.
    """
    paths, commit = _hub_paths(source, repository, revision)
    start = len(f"datasets/{repository}@{commit}/")
    return Listing({path[start:].rsplit(".", 1)[0]: partial(_hub_rows, path) for path in paths}, commit)


def _hub_paths(source: Source, repository: str, revision: str | None) -> tuple[list[str], str]:
    with hub_errors("dataset", Reference(repository, revision)):
        from huggingface_hub import HfApi

        info = HfApi(library_name="kollm").dataset_info(repository, revision=revision)
    pattern = source.hub_files or "*.parquet"
    names = sorted(item.rfilename for item in info.siblings or () if fnmatch(item.rfilename, pattern))
    if not names:
        raise InputError(f"The dataset '{repository}' has no files {pattern} - name another revision or a local file.")
    commit = str(info.sha)
    return [f"datasets/{repository}@{commit}/{name}" for name in names], commit


def hub_batches(source: Source, repository: str, revision: str | None) -> tuple[Iterator[Batch], str]:
    """All rows of the files that the source reads of a repository, in the files' order, and the commit they are of.

    Raises:
        InputError, ServiceError: as `hub_files`.
    """
    paths, commit = _hub_paths(source, repository, revision)
    return _stream(paths), commit


def _hub_rows(path: str) -> Iterator[Row]:
    for batch in _stream([path]):
        yield from batch.rows()


def _stream(paths: list[str]) -> Iterator[Batch]:
    first = 0
    for path in paths:
        from huggingface_hub import HfFileSystem

        with hub_errors("dataset", Reference(path)), HfFileSystem().open(path, "rb") as file:
            for batch in file_batches(file, path, first):
                yield batch
                first += len(batch)
