"""What a run is made of: its options, its stages, and what each stage leaves in run.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

from kollm.recipe.schema import Recipe


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a user sets for one run beside the recipe.

    Attributes:
        folder: the work folder.
        evaluation: dataset folder or Hub id of the tasks to answer, in place of the recipe's.
        dataset: dataset folder or Hub id to train on, in place of building the recipe's sources.
        config: accelerate config by name; None picks one for the machine.
        processes: number of training processes; None leaves it to the config.
        limit: rows read from each source, and tasks answered.
        max_characters: cap on characters sent to a paid translator.
        max_cost: cap in USD on each paid stage.
    """

    folder: Path
    evaluation: str | None = None
    dataset: str | None = None
    config: str | None = None
    processes: int | None = None
    limit: int | None = None
    max_characters: int | None = None
    max_cost: float | None = None


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a stage made; stands in run.json.

    Attributes:
        location: inside the work folder, or the Hub id or folder that stands for it.
        summary: a line for people.
        fingerprint: of its content, where later stages depend on it.
        details: what reports tell of it beside, JSON.
    """

    location: str
    summary: str
    fingerprint: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_row(self) -> dict[str, Any]:
        named = {"fingerprint": self.fingerprint} if self.fingerprint else {}
        return {**self.details, "location": self.location, "summary": self.summary, **named}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        details = {key: value for key, value in row.items() if key not in ("location", "summary", "fingerprint")}
        return cls(str(row["location"]), str(row["summary"]), str(row.get("fingerprint", "")), details)


class Run(NamedTuple):
    """A recipe at work in a folder, with the results of the stages before."""

    recipe: Recipe
    options: RunOptions
    results: dict[str, StageResult]

    @property
    def folder(self) -> Path:
        return self.options.folder

    def location(self, stage: str) -> Path | str:
        """Where a stage's result is: a path inside the work folder, or the Hub id or folder that stands for it."""
        where = self.results[stage].location
        inside = self.folder / where
        return inside if inside.exists() else where


class Stage(NamedTuple):
    """One step: the inputs that decide its result, the work, and the names that it writes in the work folder."""

    name: str
    inputs: Callable[[Run], Mapping[str, Any]]
    work: Callable[[Run], StageResult]
    writes: Callable[[Run], tuple[str, ...]]
