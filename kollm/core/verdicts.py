"""One judgement of one answer, and the statuses that it can end with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from kollm.core.columns import check_number, check_text, columns_in_order, short_value, with_defaults
from kollm.core.errors import InputError

Status = Literal["ok", "parse_error", "refusal", "truncated", "api_error"]
STATUSES: tuple[Status, ...] = ("ok", "parse_error", "refusal", "truncated", "api_error")


@dataclass(frozen=True, slots=True)
class Verdict:
    """One judgement of one answer. A failure is a status with null scores, never a number.

    Attributes:
        id: the task's Record id.
        system: what was judged (`Generation.system`).
        response_sha256: hash of the judged text, so that a regenerated answer is judged anew.
        rubric: name of the rubric.
        rubric_sha256: hash of the rubric's axes and texts.
        mode: how the judge was asked: `text`, `structured`, `logprob` or `local`; `rules` where no judge was; `imported`
            where somebody else asked.
        sample: number of the sample, from 0.
        model_requested: the judge model asked for.
        model_returned: the model that the server says answered.
        scores: axis key to score, or None where the axis could not be read.
        status: one of STATUSES.
        raw: the reply as it came.
        usage: token counts, fingerprint and parameters as the server reported them.
        category: the task's category; empty for none.
        cluster: what the task shares with others (`Generation.cluster`); empty for the task alone.
        task_sha256: hash of what was asked (`Generation.task_sha256`); empty in older files.
        answer: number of the answer, from 0, where a system gave several to the task; one that replaces another has its number.
    """

    id: str
    system: str
    response_sha256: str
    rubric: str
    rubric_sha256: str
    mode: str
    sample: int
    model_requested: str
    model_returned: str
    scores: dict[str, float | None]
    status: Status
    raw: str
    usage: dict[str, Any]
    category: str = ""
    cluster: str = ""
    task_sha256: str = ""
    answer: int = 0

    def to_row(self) -> dict[str, Any]:
        """A plain dict; scores and usage are the verdict's own, not copies."""
        return {name: getattr(self, name) for name in columns_in_order(Verdict)}

    def key(self) -> tuple[str, str, str, str, str, str, int, str]:
        """What makes a verdict the same one on resuming."""
        return (
            self.id,
            self.system,
            self.response_sha256,
            self.rubric,
            self.rubric_sha256,
            self.mode,
            self.sample,
            self.model_requested,
        )

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The inverse of `to_row`.

        Raises:
            InputError: a column is missing or unknown or holds a value of another kind, or the status is not one of
                STATUSES; what older rows lack may be missing.
        """
        values = with_defaults(cls, row)
        check_text(cls, values, ("id", "system", "response_sha256", "rubric", "rubric_sha256", "mode", "raw"))
        check_text(cls, values, ("model_requested", "model_returned", "category", "cluster", "task_sha256"))
        where = f"Verdict on {short_value(values['id'])} of {short_value(values['system'])}"
        if values["status"] not in STATUSES:
            raise InputError(
                f"{where}: unknown status {short_value(values['status'])} - use one of {', '.join(STATUSES)}."
            )
        for name in ("sample", "answer"):
            check_number(where, name, values[name])
        for name in ("scores", "usage"):
            if not isinstance(values[name], dict):
                raise InputError(f"{where}: {name} is {short_value(values[name])} - it must be an object.")
        for axis, score in values["scores"].items():
            if score is not None and not (type(score) in (int, float) and -1e9 <= score <= 1e9):
                raise InputError(f"{where}: {axis} is {short_value(score)} - a score is a number or null.")
        return cls(**values)
