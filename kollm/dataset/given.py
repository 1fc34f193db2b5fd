"""What `--dataset` names: a dataset folder of kollm, one on the Hub, rows of a user's own, or several of them mixed.

A dataset made on the way is kept beside the output and used again while the rows and what is said of them stay the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path, PurePath
from typing import NamedTuple

from kollm.core.counting import counted
from kollm.core.errors import InputError, ServiceError
from kollm.core.hashing import content_id
from kollm.core.progress import say
from kollm.core.records import Record
from kollm.dataset.folder import MANIFEST, dataset_fingerprint, read_manifest, read_records
from kollm.dataset.mixture import FORMAT, MixturePart, mix, parse_given, share_lines
from kollm.dataset.pipeline import build_dataset
from kollm.dataset.settings import SourceInput
from kollm.recipe.schema import GivenDataset, Recipe
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
            from huggingface_hub import HfApi

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
        say(f"{own.where}: {counted(rows, 'row')}, as read before ({folder})")
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


def given_datasets(
    given: Sequence[GivenDataset],
    work: Path,
    options: OwnOptions | None = None,
    seed: int = 0,
    output: Path | None = None,
) -> str:
    """The dataset folder or Hub name to train on, of one dataset or several.

    Args:
        given: what is trained on; one alone, of which all is taken, needs no mixture.
        work: folder beside which datasets that are made are kept.
        options: what the user says of rows of their own.
        seed: of the draw.
        output: folder of the mixture; None to keep it beside the others, by what it is made of.

    Raises:
        InputError: one cannot be used, gives no rows, or `options` say of one what does not hold for several.
        ServiceError: the Hub cannot be reached.
    """
    first = given[0]
    if len(given) == 1 and output is None and not first.amount and not (first.name or first.config):
        return given_dataset(first.dataset, work, options_of(first, options or OwnOptions()))
    _refuse_for_several(options)
    names = [item.name or _part_name(item.dataset) for item in given]
    parts = []
    for item, name in zip(given, names, strict=True):
        said = replace(options_of(item, OwnOptions(licence=options.licence if options else "")), name=name)
        config = None if is_own(item.dataset) else item.config
        parts.append(MixturePart(name, given_dataset(item.dataset, work, said), item.amount, config))
    if output is not None:
        return str(mix(parts, output, seed))
    made_of = [[part.name, dataset_fingerprint(part.dataset), part.config, dict(part.amount)] for part in parts]
    key = content_id({"parts": made_of, "seed": seed, "format": FORMAT})
    folder = work / FOLDER / f"mixture-{key.removeprefix('sha256:')[:12]}"
    if not (folder / MANIFEST).is_file():
        return str(mix(parts, folder, seed))
    say(f"mixture: as it was drawn before ({folder})")
    for line in share_lines(read_manifest(folder)["rows"]):
        say(f"mixture: {line}")
    return str(folder)


class Given(NamedTuple):
    """A recipe with the datasets that were given in place of its own, or the name of the single one that needs no making."""

    recipe: Recipe
    dataset: str | None


def with_datasets(recipe: Recipe, texts: Sequence[str]) -> Given:
    """A recipe whose data are the datasets of `--dataset`.

    Raises:
        InputError: one cannot be read as `DATASET[:KEY=VALUE]`.
    """
    given = [parse_given(text) for text in texts]
    if not given:
        return Given(recipe, None)
    first = given[0]
    if len(given) == 1 and not first.amount and not first.name and not _is_surely_own(first.dataset):
        return Given(recipe, first.dataset)
    data = recipe.data.model_copy(update={"dataset": None, "datasets": tuple(given)})
    return Given(recipe.with_given_data().model_copy(update={"data": data}), None)


def _is_surely_own(name: str) -> bool:
    """As `is_own`; a name on the Hub that cannot be looked up is said by the checks of a run, among all that they find."""
    try:
        return is_own(name)
    except (InputError, ServiceError):
        return False


def given_fingerprint(item: GivenDataset) -> str:
    """What identifies the content of a dataset that is given, whatever becomes of its rows."""
    if not is_own(item.dataset):
        return dataset_fingerprint(item.dataset)
    return read_own(item.dataset, options_of(item, OwnOptions())).revision


def _part_name(dataset: str) -> str:
    """What a mixture calls a dataset that its user gives no name: after its file, folder or repository."""
    last = PurePath(dataset.partition("@")[0]).name
    stem = last.partition(".")[0] if Path(dataset).is_file() else last
    name = re.sub(r"[^0-9a-z]+", "-", stem.lower()).strip("-")[:40]
    if not name or name in ("all", "rejected"):
        raise InputError(f"The dataset '{dataset}' needs a name in a mixture - write {dataset}:name=NAME.")
    return name


def options_of(item: GivenDataset, said: OwnOptions) -> OwnOptions:
    """What is said of rows of one's own: in the recipe, else on the command line."""
    mapping = tuple(f"{field}={column}" for field, column in item.map.items())
    return replace(
        said,
        mapping=mapping or said.mapping,
        config=item.config or said.config,
        split=item.split or said.split,
        licence=item.licence or said.licence,
    )


def _refuse_for_several(options: OwnOptions | None) -> None:
    said = options or OwnOptions()
    for option, is_said in (
        ("--map", said.mapping),
        ("--source-name", said.name != OwnOptions().name),
        ("--hub-config", said.config),
        ("--split", said.split),
    ):
        if is_said:
            raise InputError(
                f"{option} is for one dataset, and a mixture has several parts - say it of each in a recipe's data.datasets, or "
                "build its dataset first (kollm data build own)."
            )


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
