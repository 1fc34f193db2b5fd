"""What one work folder holds, read leniently: a run that stopped half-way can be reported too."""

from __future__ import annotations

import math
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
PAIR_COLUMNS = {"system_a", "system_b", "model_requested", "forward", "backward"}


@dataclass(slots=True)
class WorkFolder:
    """The files of one run.

    Attributes:
        path: the folder.
        run: run.json, or an empty dict; likewise dataset/`manifest`.json, adapter/`metrics`.json and adapter/`training`.json.
        generations: (system, task id) -> answer; of two with one key the later line counts.
        verdicts: those on the answers as they are now; without generations.jsonl, on each answer as it was judged last.
        outdated: verdicts left out because their answer has changed since.
        pairs: rows of pairs.jsonl, `kollm.judge.pairwise.PairVerdict` as JSON.
    """

    path: Path
    run: dict[str, Any] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    generations: dict[tuple[str, str], Generation] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    outdated: int = 0
    pairs: list[dict[str, Any]] = field(default_factory=list)

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


def read_work_folder(path: Path) -> WorkFolder:
    """Read a work folder.

    Raises:
        InputError: the folder is missing, holds nothing to report, or holds a malformed file or row.
    """
    if not path.is_dir():
        raise InputError(f"'{path}' is not a folder - name a work folder, as `kollm run RECIPE -o DIR` makes it.")
    if not any((path / part).is_file() for part in PARTS):
        raise InputError(f"'{path}' holds nothing to report - it needs at least one of {', '.join(PARTS)}.")
    run, manifest, metrics, training = (_object(path / part) for part in PARTS[:4])
    folder = WorkFolder(path, run, manifest, metrics, training)
    for row in _rows(path / "generations.jsonl"):
        generation = Generation.from_row(row)
        _check_texts(path, row, ("id", "system", "instruction", "input", "response", "finish_reason"))
        folder.generations[generation.system, generation.id] = generation
    hashes = {key: text_sha256(answer.response) for key, answer in folder.generations.items()}
    verdicts = []
    for row in _rows(path / "verdicts.jsonl"):
        verdict = Verdict.from_row(row)
        _check_texts(path, row, ("id", "system", "rubric", "mode", "model_requested", "raw"))
        _check_scores(path, verdict)
        verdicts.append(verdict)
    hashes = hashes or {(verdict.system, verdict.id): verdict.response_sha256 for verdict in verdicts}
    latest: dict[tuple[Any, ...], Verdict] = {}
    for verdict in verdicts:
        if hashes.get((verdict.system, verdict.id)) != verdict.response_sha256:
            folder.outdated += 1
        else:
            latest[verdict.key()] = verdict
    folder.verdicts = list(latest.values())
    for row in _rows(path / "pairs.jsonl"):
        if missing := PAIR_COLUMNS - row.keys():
            raise InputError(
                f"{path / 'pairs.jsonl'}: a row has no {', '.join(sorted(missing))} - judge the pairs again."
            )
        folder.pairs.append(row)
    return folder


class Answered(NamedTuple):
    """An answer, and what is wrong with it at first sight."""

    generation: Generation
    flags: tuple[Flag, ...]


class Material(NamedTuple):
    """What several folders hold together, each system under the name it is shown by.

    Attributes:
        answers: system -> task id -> answer.
        verdicts: system and a verdict on it.
    """

    answers: dict[str, dict[str, Answered]]
    verdicts: list[tuple[str, Verdict]]

    @property
    def systems(self) -> list[str]:
        """All systems, those that answered first; a system's place here is its colour."""
        return list(dict.fromkeys([*self.answers, *(system for system, _ in self.verdicts)]))


def gather(folders: Sequence[WorkFolder]) -> Material:
    """Answers and verdicts of all folders; a system's own name is kept where no other folder has it."""
    names = _system_names(folders)
    answers: dict[str, dict[str, Answered]] = {}
    for place, folder in enumerate(folders):
        for (system, task), answer in folder.generations.items():
            answered = Answered(answer, answer_flags(answer.response, answer.finish_reason))
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


def _check_texts(path: Path, row: Mapping[str, Any], columns: Sequence[str]) -> None:
    for column in columns:
        if not isinstance(row[column], str):
            raise InputError(
                f"{path}, task {row['id']!r}: {column} is {row[column]!r}, not text - write the row again."
            )
    check_shown(path, row["id"], row["system"])


def _check_scores(path: Path, verdict: Verdict) -> None:
    for axis, score in verdict.scores.items():
        if score is not None and not (type(score) in (int, float) and math.isfinite(score)):
            raise InputError(
                f"{path}, verdict on {verdict.id} of {verdict.system}: {axis} is {score!r} - a score is a number or null."
            )


def _rows(path: Path) -> Iterable[dict[str, Any]]:
    return track(read_jsonl(path), f"read {path.name}") if path.is_file() else ()
