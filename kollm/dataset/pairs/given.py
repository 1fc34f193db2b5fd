"""What `kollm data pairs` is given: runs, answers, verdicts, pairwise verdicts, labels; told apart by what is in them."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kollm.core.errors import InputError
from kollm.core.files import read_jsonl
from kollm.core.generations import Generation
from kollm.core.verdicts import Verdict
from kollm.judge.labels import read_labels
from kollm.judge.pairwise import PairVerdict, read_pairs
from kollm.judge.tasks import read_answers
from kollm.judge.verdicts import read_verdicts

Kind = Literal["answers", "verdicts", "pairwise", "labels", "own"]
SAMPLES = "samples"
"""Inside a work folder: answers to training prompts, and their verdicts."""


@dataclass(slots=True)
class Given:
    """Files, by what they hold.

    Attributes:
        answers, verdicts, pairwise, labels: files of kollm's.
        own: rows of a user's own, by file, folder or Hub name.
        evaluations: evaluation datasets of the runs.
    """

    answers: list[Path] = field(default_factory=list)
    verdicts: list[Path] = field(default_factory=list)
    pairwise: list[Path] = field(default_factory=list)
    labels: list[Path] = field(default_factory=list)
    own: list[str] = field(default_factory=list)
    evaluations: list[str] = field(default_factory=list)

    def read_answers(self) -> list[Generation]:
        """All answers, each file's after the other's.

        Raises:
            InputError: a file is malformed, or one id names two questions.
        """
        answers = [answer for path in self.answers for answer in read_answers(path)]
        asked: dict[str, Generation] = {}
        for answer in answers:
            other = asked.setdefault(answer.id, answer)
            if _question(other) != _question(answer):
                raise InputError(
                    f"Task {answer.id} of '{other.system}' asks another question than task {answer.id} of '{answer.system}' - pairs "
                    "are of answers to one prompt; give answers to the same tasks."
                )
        return answers

    def read_verdicts(self) -> list[Verdict]:
        return [verdict for path in self.verdicts for verdict in read_verdicts(path)]

    def read_pairwise(self) -> list[PairVerdict]:
        return [verdict for path in self.pairwise for verdict in read_pairs(path)]


def sort_given(inputs: Sequence[str | Path]) -> Given:
    """Tell what each input is.

    Raises:
        InputError: one is missing, a run has no answers to training prompts, or they cannot be used together.
    """
    given = Given()
    for name in map(str, inputs):
        path = Path(name)
        if path.is_dir() and ((path / "run.json").is_file() or (path / "generations.jsonl").is_file()):
            _add_run(given, path)
        elif path.is_dir() or not path.exists():
            given.own.append(name)
        else:
            getattr(given, kind_of(path)).append(name if kind_of(path) == "own" else path)
    files = [*given.answers, *given.verdicts, *given.pairwise, *given.labels]
    if given.own and files:
        raise InputError(f"'{given.own[0]}' holds whole pairs, and '{files[0]}' does not - make one dataset of each.")
    if files and not given.answers:
        raise InputError(
            f"'{files[0]}' says which answers are better and does not hold them - name generations.jsonl too."
        )
    if given.answers and not (given.verdicts or given.pairwise or given.labels):
        raise InputError(
            f"'{given.answers[0]}' holds answers, and nothing says which are better - name verdicts.jsonl (kollm judge), or "
            "labels.csv (kollm app), too."
        )
    if given.labels and (given.verdicts or given.pairwise):
        raise InputError(
            "There are people's labels and a judge's verdicts - make pairs by one of them; name the others' files in a second command."
        )
    return given


def kind_of(path: Path) -> Kind:
    """What a file holds, by its columns."""
    if path.suffix.lower() == ".csv":
        with path.open("rb") as file:
            head = next(csv.reader([file.readline(1 << 20).decode("utf-8-sig", "replace")]), [])
        names = {name.strip() for name in head}
        return "labels" if {"id", "system"} <= names and not {"chosen", "rejected"} & names else "own"
    if path.suffix.lower() != ".jsonl":
        return "own"
    first = next(itertools.islice(read_jsonl(path), 1), {})
    keys: dict[Kind, set[str]] = {
        "pairwise": {"system_a", "system_b"},
        "answers": {"id", "response", "system", "finish_reason"},
        "verdicts": {"id", "scores", "system", "rubric", "status"},
        "labels": {"id", "scores", "system"},
    }
    return next((kind for kind, names in keys.items() if names <= first.keys()), "own")


def _add_run(given: Given, folder: Path) -> None:
    """The answers of a run to training prompts; those to its evaluation tasks make no pairs."""
    inside = folder / SAMPLES if (folder / "run.json").is_file() else folder
    for name, files in (("generations.jsonl", given.answers), ("verdicts.jsonl", given.verdicts)):
        if not (inside / name).is_file():
            raise InputError(
                f"'{folder}' has no {name} of answers to training prompts, and evaluation tasks never make pairs - answer some: "
                "kollm generate ADAPTER --dataset D --samples 4 --preset sample, then kollm judge."
            )
        files.append(inside / name)
    if (pairwise := inside / "pairwise.jsonl").is_file():
        given.pairwise.append(pairwise)
    if (folder / "evaluation" / "manifest.json").is_file():
        given.evaluations.append(str(folder / "evaluation"))


def _question(answer: Generation) -> tuple[Any, ...]:
    return answer.system_message, answer.history, answer.instruction, answer.input, answer.tools


def label_opinions(paths: Sequence[Path]) -> dict[str, dict[tuple[str, str, int], Mapping[str, float]]]:
    """Axis -> answer -> person -> score, of one file of labels or several.

    Raises:
        InputError: a file is malformed.
    """
    found: dict[str, dict[tuple[str, str, int], dict[str, float]]] = {}
    for path in paths:
        labels = read_labels(path)
        for axis, scores in labels.scores.items():
            raters = labels.raters.get(axis) or {"": scores}
            for who, given in raters.items():
                for answer, score in given.items():
                    if score is not None:
                        found.setdefault(axis, {}).setdefault(answer, {})[who or path.name] = score
    return {axis: dict(answers) for axis, answers in found.items()}
