"""What one work folder holds, read leniently: a run that stopped half-way can be reported too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from kollm.core.errors import InputError
from kollm.core.files import read_jsonl
from kollm.core.progress import track
from kollm.core.records import Generation, Verdict, check_shown, text_sha256
from kollm.core.results import read_manifest_file, read_metrics_file, read_run_file, read_training_file
from kollm.judge.pairwise import PairVerdict, read_pairs
from kollm.judge.verdicts import current, read_verdicts
from kollm.quality.flags import Flag, answer_flags

PARTS = (
    "run.json",
    "dataset/manifest.json",
    "adapter/metrics.json",
    "adapter/training.json",
    "generations.jsonl",
    "verdicts.jsonl",
    "pairs.jsonl",
)
READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "run.json": read_run_file,
    "manifest.json": read_manifest_file,
    "metrics.json": read_metrics_file,
    "training.json": read_training_file,
}


@dataclass(slots=True)
class WorkFolder:
    """The files of one run.

    Attributes:
        path: the folder.
        run: run.json, or an empty dict; likewise dataset/`manifest`.json, adapter/`metrics`.json and adapter/`training`.json.
        generations: (system, task id) -> its different answers, in the order of the file.
        verdicts: those on the answers as they are now; without generations.jsonl, on each answer as it was judged last.
        outdated: verdicts left out because their answer has changed since.
        pairs: pairs.jsonl.
    """

    path: Path
    run: dict[str, Any] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    generations: dict[tuple[str, str], list[Generation]] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    outdated: int = 0
    pairs: list[PairVerdict] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def toy(self) -> bool:
        return bool(self.run.get("toy"))

    @property
    def systems(self) -> list[str]:
        """Systems in the order in which they answered, then those that have verdicts alone."""
        names = [system for system, _ in self.generations] + [verdict.system for verdict in self.verdicts]
        return list(dict.fromkeys(names))


def read_work_folder(path: Path, rubrics: Iterable[str | Path] = ()) -> WorkFolder:
    """Read a work folder.

    Args:
        path: the folder.
        rubrics: files of rubrics that do not come with kollm, whose scores are checked too.

    Raises:
        InputError: the folder is missing, holds nothing to report, or holds a malformed file or row.
    """
    if not path.is_dir():
        raise InputError(f"'{path}' is not a folder - name a work folder, as `kollm run RECIPE -o DIR` makes it.")
    if not any((path / part).is_file() for part in PARTS):
        raise InputError(f"'{path}' holds nothing to report - it needs at least one of {', '.join(PARTS)}.")
    run, manifest, metrics, training = (_object(path / part) for part in PARTS[:4])
    folder = WorkFolder(path, run, manifest, metrics, training)
    for number, row in enumerate(_rows(path / "generations.jsonl"), start=1):
        where = f"{path / 'generations.jsonl'}, row {number}"
        try:
            generation = Generation.from_row(row)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        check_shown(where, generation.id, generation.system)
        there = folder.generations.setdefault((generation.system, generation.id), [])
        if all(answer.response != generation.response for answer in there):
            there.append(generation)
    if (path / "verdicts.jsonl").is_file():
        found = current(read_verdicts(path / "verdicts.jsonl", rubrics), answer_hashes(folder.generations))
        folder.verdicts, folder.outdated = found.verdicts, found.outdated
    if (path / "pairs.jsonl").is_file():
        folder.pairs = read_pairs(path / "pairs.jsonl")
    return folder


def answer_hashes(
    generations: Mapping[tuple[str, str], Sequence[Generation]],
) -> dict[tuple[str, str], set[str]] | None:
    """The hashes of each system's answers to each task; None where there are no answers to know."""
    if not generations:
        return None
    return {key: {text_sha256(answer.response) for answer in answers} for key, answers in generations.items()}


class Answered(NamedTuple):
    """An answer, and what is wrong with it at first sight."""

    generation: Generation
    flags: tuple[Flag, ...]


class Material(NamedTuple):
    """What several folders hold together, each system under the name it is shown by.

    Attributes:
        answers: system -> task id -> its different answers.
        verdicts: system and a verdict on it.
    """

    answers: dict[str, dict[str, list[Answered]]]
    verdicts: list[tuple[str, Verdict]]

    @property
    def systems(self) -> list[str]:
        """All systems, those that answered first; a system's place here is its colour."""
        return list(dict.fromkeys([*self.answers, *(system for system, _ in self.verdicts)]))


def gather(folders: Sequence[WorkFolder]) -> Material:
    """Answers and verdicts of all folders; a system's own name is kept where no other folder has it."""
    names = _system_names(folders)
    answers: dict[str, dict[str, list[Answered]]] = {}
    for place, folder in enumerate(folders):
        for (system, task), given in folder.generations.items():
            answered = [Answered(answer, answer_flags(answer.response, answer.finish_reason)) for answer in given]
            answers.setdefault(names[place, system], {})[task] = answered
    verdicts = [(names[i, verdict.system], verdict) for i, folder in enumerate(folders) for verdict in folder.verdicts]
    return Material(answers, verdicts)


def _system_names(folders: Sequence[WorkFolder]) -> dict[tuple[int, str], str]:
    counts = Counter(system for folder in folders for system in folder.systems)
    places = [folder.name for folder in folders]
    if len(set(places)) < len(places):
        places = [str(folder.path) for folder in folders]
    return {
        (index, system): system if counts[system] == 1 else f"{system} ({places[index]})"
        for index, folder in enumerate(folders)
        for system in folder.systems
    }


def _object(path: Path) -> dict[str, Any]:
    return READERS[path.name](path) if path.is_file() else {}


def _rows(path: Path) -> Iterable[dict[str, Any]]:
    return track(read_jsonl(path), f"read {path.name}") if path.is_file() else ()
