"""Scores of public benchmarks, benchmarks.jsonl: what was asked of which system, in which way, and what came out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kollm.core.columns import check_shown
from kollm.core.errors import InputError, StateError
from kollm.core.files import json_line, read_jsonl, write_atomic

FILE = "benchmarks.jsonl"


class Score(BaseModel):
    """One metric: its value and the standard error of it, None where the benchmark has none."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    metric: str
    value: Annotated[float, Field(allow_inf_nan=False)]
    stderr: Annotated[float, Field(allow_inf_nan=False, ge=0)] | None = None


class BenchmarkScore(BaseModel):
    """One task of a benchmark, or a group of tasks, by one system.

    Attributes:
        system: name in reports.
        model, adapter: what answered, by folder or Hub name; `adapter` is empty for a whole model.
        weights: hash of all that was loaded.
        prompt: prompt template, or `none` where the task's text was given as it stands.
        prompt_sha256: hash of everything that decides the prompt.
        task: name of the task or the group in the harness.
        members: tasks of a group; empty for a task.
        version: the task's version, by the harness.
        task_sha256: hash of the task's settings.
        documents_sha256: hash of the documents that were asked about, in order.
        shots: solved examples before each question.
        limit: documents asked about where not all were.
        documents: how many were asked about.
        harness: name and version of the programme that asked.
        scores: its metrics.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    system: str
    model: str
    adapter: str = ""
    weights: str
    prompt: str
    prompt_sha256: str = ""
    task: str
    members: tuple[str, ...] = Field((), strict=False)
    version: str
    task_sha256: str = ""
    documents_sha256: str = ""
    shots: int = Field(ge=0)
    limit: int | None = Field(None, ge=1)
    documents: int = Field(ge=0)
    harness: str
    scores: tuple[Score, ...] = Field((), strict=False)

    @model_validator(mode="after")
    def _shown(self) -> Self:
        check_shown("a benchmark", self.task, self.system)
        return self

    def way(self) -> dict[str, Any]:
        """What must be the same for a score to stand: everything but the result."""
        result = {"scores", "documents", "documents_sha256", "task_sha256", "version", "members"}
        return self.model_dump(mode="json", exclude=result)


def read_benchmarks(path: Path) -> list[BenchmarkScore]:
    """The scores of a file, in its order.

    Raises:
        InputError: the file is missing or malformed; the message names the line.
    """
    found = []
    for number, row in enumerate(read_jsonl(path), start=1):
        try:
            found.append(BenchmarkScore.model_validate(row))
        except (ValidationError, InputError) as error:
            if isinstance(error, InputError):
                why = str(error)
            else:
                first = error.errors()[0]
                why = f"{'.'.join(map(str, first['loc'])) or 'the row'}: {first['msg'].lower()}"
            raise InputError(f"{path}, row {number} is no score of a benchmark ({why}) - remove the line.") from error
    return found


def write_benchmarks(path: Path, scores: Iterable[BenchmarkScore]) -> None:
    """Write the file whole; of a system and a task the last score counts."""
    kept = {(score.system, score.task): score for score in scores}
    write_atomic(path, "".join(json_line(score.model_dump(mode="json")) for score in kept.values()))


def check_same_way(path: Path, there: BenchmarkScore, now: BenchmarkScore) -> None:
    """Refuse to put a score beside one of the same system and task that came about in another way.

    Raises:
        StateError: one of the settings differs.
    """
    for key, value in now.way().items():
        before = there.way()[key]
        if before != value:
            raise StateError(
                f"{path} holds {there.task} of '{there.system}' with another {key} ({before!r}, now {value!r}) - write to "
                "another file, name the system otherwise (--system), or remove that file."
            )


def interval(score: Score) -> tuple[float, float] | None:
    """The 95% interval by the standard error; None where there is none."""
    if score.stderr is None or not math.isfinite(score.stderr):
        return None
    return score.value - 1.96 * score.stderr, score.value + 1.96 * score.stderr
