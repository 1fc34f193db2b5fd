"""What is said of pairs before they are made, and what is known of them afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kollm.core.errors import InputError
from kollm.dataset.leak_check import EVALUATION
from kollm.dataset.pairs.choosing import Limits
from kollm.dataset.pairs.length import LengthBias
from kollm.sources.own import OwnOptions


@dataclass(frozen=True, slots=True)
class PairSettings:
    """How pairs are made.

    Attributes:
        limits: which are good enough.
        axis: an axis of the rubric, or a weighted sum; None for the one that stands for the whole.
        rubric, judge: whose verdicts count, where the files hold those of several.
        balance: whether pairs are left out until the longer answer is chosen as often as the shorter one.
        test: share of the prompts that go to the split `test`.
        against: evaluation sets whose tasks never make pairs.
        leaks: what becomes of pairs that hold such a task: an error, or they are left out.
        own: what is said of rows of a user's own; its name and licence are those of all pairs.
        licences: id of a task -> licence of its prompt, in place of the one in `own`.
        limit: rows to read of files of pairs.

    Raises:
        InputError: a value that makes no sense.
    """

    limits: Limits = field(default_factory=Limits)
    axis: str | None = None
    rubric: str | None = None
    judge: str | None = None
    balance: bool = False
    test: float = 0.0
    against: tuple[str, ...] = (EVALUATION,)
    leaks: Literal["refuse", "drop"] = "refuse"
    own: OwnOptions = field(default_factory=OwnOptions)
    licences: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.test < 1:
            raise InputError(f"--test is {self.test} - give a share from 0 to below 1.")


@dataclass(frozen=True, slots=True)
class PairsReport:
    """What was made.

    Attributes:
        folder: the dataset folder.
        rows: pairs, by split.
        left_out: tasks or rows without a pair, by reason.
        length: the length bias of the pairs.
        margin: mean margin, where there are scores.
        agreement: mean agreement, where anything was repeated.
        outdated: verdicts on texts that are none of the answers.
        failed: verdicts without a score, by status.
        characters: billed for translation.
    """

    folder: Path
    rows: Mapping[str, int]
    left_out: Mapping[str, int]
    length: LengthBias
    margin: float | None
    agreement: float | None
    outdated: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    characters: int = 0
