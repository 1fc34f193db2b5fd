"""What `--dataset` names: a dataset folder of kollm, one on the Hub, or rows of a user's own, which become one.

A dataset made on the way is kept beside the output and used again while the rows and what is said of them stay the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from huggingface_hub import HfApi

from kollm.core.errors import InputError, ServiceError
from kollm.core.progress import say
from kollm.core.records import Record, content_id
from kollm.dataset.folder import MANIFEST, read_manifest, read_records
from kollm.dataset.pipeline import build_dataset
from kollm.dataset.settings import SourceInput
from kollm.services.repository import hub_errors, locate, parse_reference
from kollm.sources.own import OwnOptions, OwnRows, read_own
from kollm.sources.own.source import unique

FOLDER = "kollm-datasets"
"""Beside an output: datasets that were made of rows of a user's own."""


def is_own(name: str | Path) -> bool:
    """Whether a name means rows of a user's own rather than a dataset that kollm made.

    Raises:
        InputError, ServiceError: it is a name on the Hub that cannot be looked up.
    """
    path = Path(name)
    if path.is_dir():
        return not (path / MANIFEST).is_file()
    if path.is_file() or str(name) == "-" or str(name).partition("@")[0].count("/") != 1:
        return True
    return not _has_manifest(str(name))


def _has_manifest(name: str) -> bool:
    reference = parse_reference(name)
    try:
        with hub_errors("dataset", reference):
            info = HfApi(library_name="kollm").dataset_info(reference.repository, revision=reference.revision)
    except ServiceError:  # what was downloaded before tells it too
        return (locate(name, "dataset").folder / MANIFEST).is_file()
    return any(item.rfilename == MANIFEST for item in info.siblings or ())


def given_dataset(name: str | Path, work: Path, options: OwnOptions | None = None) -> str:
    """The dataset folder or Hub name to train on; rows of a user's own are made one first.

    Args:
        name: what `--dataset` names.
        work: folder beside which the dataset is kept.
        options: what the user says of rows of their own.

    Raises:
        InputError: there is no such dataset, or no row of it can be used.
        ServiceError: the Hub cannot be reached.
    """
    if not is_own(name):
        _refuse_options(name, options)
        return str(name)
    own = read_own(name, options)
    key = content_id({"rows": own.revision, **asdict(own.options), "form": dict(own.form.columns)})
    folder = work / FOLDER / f"{own.options.name}-{key.removeprefix('sha256:')[:12]}"
    if (folder / MANIFEST).is_file():
        rows = sum(read_manifest(folder)["rows"].values())
        say(f"{own.where}: {rows:,} rows, as they were read before ({folder})")
        return str(folder)
    report = build_dataset(
        [SourceInput(own.options.name, name, own=own)],
        translator="none",
        output=folder,
        filters="none",
        privacy="off",
        near=1.01,
        leaks="keep",
        against=(),
    )
    if not report.rows:
        raise InputError(
            f"None of the rows of '{own.where}' can be used - the reasons are in '{folder}', config rejected."
        )
    return str(folder)


def given_records(name: str | Path, options: OwnOptions | None = None, split: str | None = None) -> Iterator[Record]:
    """The rows that `--dataset` names, without making a folder of them; said in one line.

    Raises:
        InputError: as `given_dataset`.
        ServiceError: the Hub cannot be reached.
    """
    if not is_own(name):
        _refuse_options(name, options)
        yield from read_records(name, split=split)
        return
    own = read_own(name, options)
    yield from _usable(own)


def _usable(own: OwnRows) -> Iterator[Record]:
    records = [row for row in own.records() if isinstance(row, Record)]
    say(own.summary())
    if not records:
        raise InputError(f"None of the rows of '{own.where}' can be used - see the reasons above.")
    yield from unique(records)


def _refuse_options(name: str | Path, options: OwnOptions | None) -> None:
    if options is not None and options.mapping:
        raise InputError(f"--map is for rows of your own, and '{name}' is a dataset that kollm made - leave it out.")
