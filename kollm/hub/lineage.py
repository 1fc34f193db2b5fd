"""What a trained folder descends from: its base, its dataset, its run's scores. Read from the run's own files, and
checked against them where a Hub name is given for something that was local."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kollm.core.errors import InputError, StateError
from kollm.core.files import read_text, require_file
from kollm.core.licences import common_licence
from kollm.core.reading import parse_yaml
from kollm.core.results import read_report_file, read_run_file
from kollm.dataset.folder import CARD, MANIFEST, dataset_fingerprint
from kollm.dataset.given import FOLDER
from kollm.services.adapter_base import base_folder
from kollm.services.repository import Reference, pull

TRAINING = "training.json"
METRICS = "metrics.json"
RECIPE = "recipe.yaml"
TOY = "toy.json"
REPORT = "report.json"


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where an adapter or a merged model comes from.

    Attributes:
        base: the base on the Hub; for a toy, where it is or will be published.
        base_folder: the folder of a base that is only here; None for one on the Hub.
        dataset: the dataset it was trained on: a name on the Hub with its commit, or None for a folder.
        dataset_fingerprint: what identifies that dataset's content.
        evaluation: the evaluation set on the Hub with its commit; None where it is a folder.
        licence: as the Hub's cards write it; never freer than the dataset's or the base's.
        licence_parts: what it was made of, for the card: a name and its licence.
        report: the run's report.json; None for one that was not judged.
        translated: whether its rows were put into Korean by a translator.
    """

    base: Reference
    base_folder: Path | None
    dataset: Reference | None
    dataset_fingerprint: str
    evaluation: Reference | None
    licence: str
    licence_parts: Mapping[str, str]
    report: Mapping[str, Any] | None
    translated: bool = True


def find_base(folder: Path, training: Mapping[str, Any]) -> tuple[Reference | None, Path | None]:
    """The base that a trained folder was made from: on the Hub, or a folder of this machine.

    Raises:
        InputError: it was a folder, and that folder is gone.
    """
    location = str(training["location"])
    there = base_folder(folder, location, training)
    if there is not None:
        return None, there
    return Reference(location, training["recipe"]["base"].get("revision")), None


def find_dataset(folder: Path, training: Mapping[str, Any], named: str | None) -> tuple[Reference | None, Path]:
    """The dataset that a folder was trained on, proven by its fingerprint: its Hub name if it has one, and its files.

    Raises:
        StateError: the dataset named is another one.
        InputError: none was named, and none lies beside the folder: `dataset`, or one of those made of rows of one's own.
    """
    reference = None
    location = named or _location(folder, "dataset") or str(_beside(folder, training))
    files = Path(location)
    if not files.is_dir():
        if files.is_absolute():
            raise InputError(
                f"The dataset that '{folder}' was trained on is not at '{location}' - name it with --dataset."
            )
        pulled = pull(location, "dataset")
        reference, files = Reference(pulled.repository, pulled.commit), pulled.folder
    if dataset_fingerprint(files) != training["dataset"]:
        raise StateError(
            f"'{folder}' was trained on another dataset than '{location}' - name the right one with --dataset."
        )
    return reference, files


def _beside(folder: Path, training: Mapping[str, Any]) -> Path:
    """The dataset folder beside a trained one: `kollm run` makes one, `kollm train --dataset FILE` one for each file."""
    usual = folder.resolve().parent / "dataset"
    if not usual.is_dir():
        for manifest in sorted((usual.parent / FOLDER).glob(f"*/{MANIFEST}")):
            with suppress(InputError):  # a broken folder of other rows is no reason not to find these
                if dataset_fingerprint(manifest.parent) == training["dataset"]:
                    return manifest.parent
    return usual


def find_evaluation(folder: Path, named: str | None) -> Reference | None:
    """The evaluation set's name on the Hub, if it has one; proven by its fingerprint where the run's own is at hand.

    Raises:
        StateError: the set named is not the one that was answered.
    """
    location = named or _location(folder, "evaluation")
    if location is None or Path(location).is_dir():
        return None
    pulled = pull(location, "dataset")
    here = _location(folder, "evaluation")
    if here and Path(here).is_dir() and dataset_fingerprint(Path(here)) != dataset_fingerprint(pulled.folder):
        raise StateError(
            f"The answers beside '{folder}' are to another evaluation set than '{location}' - name the right one."
        )
    return Reference(pulled.repository, pulled.commit)


def find_report(folder: Path, named: Path | None, unjudged: bool) -> dict[str, Any] | None:
    """The report with the folder's scores: the one named, else the one of its work folder.

    Raises:
        InputError: there is none, and the folder was not said to be unjudged.
    """
    if unjudged:
        return None
    path = named or folder.resolve().parent / REPORT
    if not path.is_file():
        raise InputError(
            f"There are no scores for '{folder}' (no {path}) - judge it and run `kollm report`, name the file with --report, "
            "or publish it as unjudged with --unjudged."
        )
    return read_report_file(path)


def dataset_licence(files: Path) -> str:
    """The licence in a dataset's card.

    Raises:
        InputError: it has no card, or the card names no licence.
    """
    licence = front_matter(read_text(require_file(files / CARD, "The dataset's card"))).get("license")
    if not licence:
        raise InputError(f"The card of the dataset '{files}' names no licence - write `license:` at its head.")
    return str(licence)


def joined_licence(parts: Mapping[str, str]) -> str:
    """One licence for what is made of several parts, in the Hub's spelling."""
    spelled = {name.lower(): name for name in _SPDX}
    return common_licence(spelled.get(licence.lower(), licence) for licence in parts.values())


_SPDX = (
    "CC0-1.0",
    "MIT",
    "Apache-2.0",
    "CC-BY-3.0",
    "CC-BY-4.0",
    "CC-BY-SA-3.0",
    "CC-BY-SA-4.0",
    "CC-BY-NC-4.0",
    "CC-BY-NC-SA-4.0",
)


def front_matter(card: str) -> dict[str, Any]:
    """The YAML at the head of a card.

    Raises:
        InputError: it is not valid YAML, or no mapping.
    """
    if not card.startswith("---\n"):
        return {}
    values = parse_yaml(card[4:].partition("\n---\n")[0], "The YAML at the head of the card")
    if not isinstance(values, dict):
        raise InputError("The YAML at the head of the card holds no keys and values - mend it.")
    return values


def _location(folder: Path, stage: str) -> str | None:
    """Where the run that made this folder had its dataset or evaluation set: a folder, or a name on the Hub."""
    journal = folder.resolve().parent / "run.json"
    if not journal.is_file():
        return None
    where = (read_run_file(journal)["stages"].get(stage, {}).get("result") or {}).get("location")
    if where is None:
        return None
    inside = folder.resolve().parent / str(where)
    return str(inside) if inside.is_dir() else str(where)
