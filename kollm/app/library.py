"""What the folders hold that a person opened: datasets to look at and review, answers to compare."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kollm.core.errors import InputError
from kollm.dataset.folder import MANIFEST

GENERATIONS = "generations.jsonl"


@dataclass(frozen=True, slots=True)
class Place:
    """One thing to work on.

    Attributes:
        name: how pages and links call it; unique.
        path: a dataset folder, or a file of answers.
        notes: the folder beside it that holds what people decide: made when the first decision is.
    """

    name: str
    path: Path
    notes: Path


@dataclass(frozen=True, slots=True)
class Library:
    """Datasets and files of answers by name."""

    datasets: dict[str, Place]
    answers: dict[str, Place]


def open_library(folders: Iterable[Path]) -> Library:
    """Find the datasets and answers in work folders and dataset folders.

    Raises:
        InputError: a folder holds neither.
    """
    datasets: dict[str, Place] = {}
    answers: dict[str, Place] = {}
    for folder in folders:
        found = [path for path in (folder, *_subfolders(folder)) if (path / MANIFEST).is_file()]
        file = folder / GENERATIONS
        if not found and not file.is_file():
            raise InputError(
                f"'{folder}' holds no dataset ({MANIFEST}) and no answers ({GENERATIONS}) - name a dataset folder or a "
                "work folder of kollm."
            )
        for path in found:
            _add(datasets, path.resolve())
        if file.is_file():
            _add(answers, file.resolve())
    return Library(datasets, answers)


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _add(places: dict[str, Place], path: Path) -> None:
    home = path if path.is_dir() else path.parent
    name = base = home.name if path.is_file() or home.name != "dataset" else f"{home.parent.name}-dataset"
    number = 2
    while name in places:
        name, number = f"{base}-{number}", number + 1
    places[name] = Place(name, path, home.parent / f"{home.name}.review")
