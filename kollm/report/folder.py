"""What one work folder holds, read leniently: a run that stopped half-way can be reported too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from kollm.core.benchmarks import FILE as BENCHMARKS
from kollm.core.benchmarks import BenchmarkScore, read_benchmarks
from kollm.core.errors import InputError
from kollm.core.generations import Generation
from kollm.core.hashing import text_sha256
from kollm.core.results import (
    read_bridge_file,
    read_manifest_file,
    read_metrics_file,
    read_run_file,
    read_training_file,
)
from kollm.core.verdicts import Verdict
from kollm.judge.across import Drifted
from kollm.judge.drift import RESULT, read_result
from kollm.judge.pairwise import PairVerdict, read_pairs
from kollm.judge.scores import Judging, judging_of
from kollm.judge.tasks import read_answers
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
    BENCHMARKS,
)
BRIDGE = "bridge.json"
"""What `kollm verdicts bridge -o FOLDER` found."""
READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "run.json": read_run_file,
    "manifest.json": read_manifest_file,
    "metrics.json": read_metrics_file,
    "training.json": read_training_file,
    BRIDGE: read_bridge_file,
}


@dataclass(slots=True)
class WorkFolder:
    """The files of one run.

    Attributes:
        path: the folder; or a file of verdicts that was read alone.
        run: run.json, or an empty dict; likewise dataset/`manifest`.json, adapter/`metrics`.json and adapter/`training`.json.
        generations: (system, task id) -> its different answers, in the order of the file.
        verdicts: those on the answers as they are now; without generations.jsonl, on each answer as it was judged last.
        outdated: verdicts left out because their answer has changed since.
        pairs: pairs.jsonl; likewise `benchmarks`.
        drift: the judge that drift.json names, and the axes on which a sealed set found it changed.
        bridge: bridge.json, or an empty dict.
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
    benchmarks: list[BenchmarkScore] = field(default_factory=list)
    drift: tuple[Judging, tuple[str, ...]] | None = None
    bridge: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.stem if self.path.suffix == ".jsonl" else self.path.resolve().name

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
    for generation in read_answers(path / "generations.jsonl") if (path / "generations.jsonl").is_file() else ():
        there = folder.generations.setdefault((generation.system, generation.id), [])
        if all(answer.response != generation.response for answer in there):
            there.append(generation)
    if (path / "verdicts.jsonl").is_file():
        found = current(read_verdicts(path / "verdicts.jsonl", rubrics), answer_hashes(folder.generations))
        folder.verdicts, folder.outdated = found.verdicts, found.outdated
    if (path / "pairs.jsonl").is_file():
        folder.pairs = read_pairs(path / "pairs.jsonl")
    if (path / BENCHMARKS).is_file():
        folder.benchmarks = read_benchmarks(path / BENCHMARKS)
    if (path / RESULT).is_file():
        folder.drift = read_result(path / RESULT)
    folder.bridge = _object(path / BRIDGE)
    return folder


def read_judged(path: Path, rubrics: Iterable[str | Path] = ()) -> WorkFolder:
    """A work folder, or a file of verdicts alone; one named verdicts.jsonl is read with the answers that lie beside it.

    Raises:
        InputError: as `read_work_folder` and `read_verdicts` raise it; a file without a verdict.
    """
    if path.suffix != ".jsonl" or path.is_dir():
        return read_work_folder(path, rubrics)
    if path.name == "verdicts.jsonl" and path.is_file() and (path.parent / "generations.jsonl").is_file():
        return read_work_folder(path.parent, rubrics)
    found = current(read_verdicts(path, rubrics))
    if not found.verdicts:
        raise InputError(f"'{path}' holds no verdicts - name a file that `kollm judge` wrote, or a work folder.")
    return WorkFolder(path, verdicts=found.verdicts, outdated=found.outdated)


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
        drifted: judges that a sealed set found changed, with the systems that they judged after that.
    """

    answers: dict[str, dict[str, list[Answered]]]
    verdicts: list[tuple[str, Verdict]]
    drifted: tuple[Drifted, ...] = ()

    @property
    def systems(self) -> list[str]:
        """All systems, those that answered first; a system's place here is its colour."""
        return list(dict.fromkeys([*self.answers, *(system for system, _ in self.verdicts)]))

    @property
    def models(self) -> dict[str, str]:
        """System -> the model that answered, where the answers say it."""
        return {s: next(iter(tasks.values()))[0].generation.model for s, tasks in self.answers.items() if tasks}

    @property
    def lengths(self) -> dict[str, dict[str, float]]:
        """System -> task id -> characters of its answer, on average where there are several."""
        return {
            system: {
                task: sum(len(answer.generation.response) for answer in given) / len(given)
                for task, given in tasks.items()
            }
            for system, tasks in self.answers.items()
        }


def gather(folders: Sequence[WorkFolder]) -> Material:
    """Answers and verdicts of all folders; a system's own name is kept where no other folder has it, or where the others
    hold what another judge says of the same answers."""
    names = _system_names(folders)
    answers: dict[str, dict[str, list[Answered]]] = {}
    for place, folder in enumerate(folders):
        for (system, task), given in folder.generations.items():
            answered = [Answered(answer, answer_flags(answer.response, answer.finish_reason)) for answer in given]
            answers.setdefault(names[place, system], {})[task] = answered
    verdicts = [(names[i, verdict.system], verdict) for i, folder in enumerate(folders) for verdict in folder.verdicts]
    drifted = [
        Drifted(folder.drift[0], frozenset(names[i, system] for system in folder.systems), folder.drift[1])
        for i, folder in enumerate(folders)
        if folder.drift is not None and folder.drift[1]
    ]
    return Material(answers, verdicts, tuple(drifted))


def _system_names(folders: Sequence[WorkFolder]) -> dict[tuple[int, str], str]:
    homes: dict[str, list[int]] = {}
    for index, folder in enumerate(folders):
        for system in folder.systems:
            homes.setdefault(system, []).append(index)
    places = [folder.name for folder in folders]
    if len(set(places)) < len(places):
        places = [str(folder.path) for folder in folders]
    found: dict[tuple[int, str], str] = {}
    for system, indices in homes.items():
        one = len(indices) == 1 or _same_answers([folders[index] for index in indices], system)
        found |= {(index, system): system if one else f"{system} ({places[index]})" for index in indices}
    return found


def _same_answers(folders: Sequence[WorkFolder], system: str) -> bool:
    """Whether folders hold different judges' verdicts on the same answers of a system."""
    texts: dict[tuple[str, int], str] = {}
    judgings: set[Judging] = set()
    for place, folder in enumerate(folders):
        hashes, judged = _judged(folder, system)
        shared = hashes.keys() & texts.keys()
        if judged & judgings or (place and not shared) or any(hashes[key] != texts[key] for key in shared):
            return False
        texts |= hashes
        judgings |= judged
    return True


def _judged(folder: WorkFolder, system: str) -> tuple[dict[tuple[str, int], str], set[Judging]]:
    """The hash of each answer of a system by task and number, and the judgings that it was given."""
    of_system = [verdict for verdict in folder.verdicts if verdict.system == system]
    hashes = {(verdict.id, verdict.answer): verdict.response_sha256 for verdict in of_system}
    if not of_system:
        hashes = {
            (task, number): text_sha256(answer.response)
            for (name, task), given in folder.generations.items()
            if name == system
            for number, answer in enumerate(given)
        }
    return hashes, {judging_of(verdict) for verdict in of_system}


def _object(path: Path) -> dict[str, Any]:
    return READERS[path.name](path) if path.is_file() else {}
