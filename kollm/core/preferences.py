"""Preference: two answers to one prompt, of which one is preferred, and how sure whoever preferred it is.

What preference tuning trains on (`kollm data pairs` makes them of answers and verdicts, of people's labels, or of files).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from pydantic import ConfigDict, TypeAdapter, with_config

from kollm.core.columns import Turn, plain_row
from kollm.core.errors import InputError
from kollm.core.files import encodable
from kollm.core.reading import conforming, shown
from kollm.core.records import Record
from kollm.core.text import is_blank, normalise

Origin = Literal["verdicts", "labels", "pairwise", "file"]
"""Who preferred: a judge that scores each answer, people, a judge that sees both answers, or whoever made a file."""


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class PairProvenance:
    """Where a preference comes from; a fixed struct, so that every file has the same columns.

    Attributes:
        task: id of the prompt, as the answers have it; of a file, the row's own.
        chosen_system, rejected_system: what gave the two answers; empty where nobody says.
        chosen_score, rejected_score: means of the verdicts on `axis`; None for pairwise verdicts and most files.
        margin: how much better the chosen one is: the difference of the scores, or the share of verdicts for it less the
            share against it; None where nobody says.
        agreement: share of the verdicts, or of the orders of a pairwise one, that prefer the chosen answer, from 0 to 1; a
            tie counts half. None where nothing was repeated.
        verdicts: how many verdicts there are on each of the two; 0 for none.
        judge: model or people that judged.
        rubric, rubric_sha256: what was judged by.
        axis: axis of the rubric, or the weighted sum as it was given, e.g. `2*coherence+naturalness`.
        origin: see `Origin`.
        revision: `sha256:` of the file, or the Hub's commit, that the pair was read from.
        engine: translator of the texts; empty for an untranslated pair.
        characters: billed for it.
    """

    task: str = ""
    chosen_system: str = ""
    rejected_system: str = ""
    chosen_score: float | None = None
    rejected_score: float | None = None
    margin: float | None = None
    agreement: float | None = None
    verdicts: int = 0
    judge: str = ""
    rubric: str = ""
    rubric_sha256: str = ""
    axis: str = ""
    origin: Origin = "file"
    revision: str = ""
    engine: str = ""
    characters: int = 0


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class PairOriginal:
    """The texts of a pair before translation."""

    instruction: str
    input: str
    chosen: str
    rejected: str
    history: tuple[Turn, ...] = ()
    system: str = ""


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class Preference:
    """A prompt with the answer that is preferred and one that is not.

    Attributes:
        id: stable and unique.
        source: name of the source.
        instruction, input, history, system: the prompt side, as of a Record.
        chosen, rejected: the two answers.
        lang: language of the texts.
        licence: SPDX identifier; empty for none.
        provenance: where the preference comes from.
        original: the texts before translation; None for an untranslated pair.
        tools: the tools that the prompt offers, as a Record has them.
    """

    id: str
    source: str
    instruction: str
    input: str
    chosen: str
    rejected: str
    history: tuple[Turn, ...] = ()
    system: str = ""
    lang: str = "ko"
    licence: str = ""
    provenance: PairProvenance = field(default_factory=PairProvenance)
    original: PairOriginal | None = None
    tools: str = ""

    def normalised(self) -> Self:
        """The same with its texts as kollm holds them: NFC, `\\n`, nothing that shows nothing, no lone surrogate."""
        return replace(
            self,
            instruction=_clean(self.instruction),
            input=_clean(self.input),
            chosen=_clean(self.chosen),
            rejected=_clean(self.rejected),
            history=tuple((_clean(user), _clean(assistant)) for user, assistant in self.history),
            system=_clean(self.system),
        )

    def fault(self) -> str | None:
        """Why nothing can be learned from the pair, as half a sentence; None where something can."""
        if is_blank(self.instruction) and is_blank(self.input):
            return "it has no prompt"
        for name, text in (("chosen", self.chosen), ("rejected", self.rejected)):
            if is_blank(text):
                return f"the {name} answer is empty"
        return "chosen and rejected are equal" if self.chosen.strip() == self.rejected.strip() else None

    def require_sound(self, where: object = "") -> Self:
        """The pair itself.

        Raises:
            InputError: nothing can be learned from it.
        """
        if (why := self.fault()) is not None:
            at = f"{where}: " if where else ""
            raise InputError(f"{at}the pair {shown(self.id)} cannot be used, {why} - mend or remove it.")
        return self

    def record(self, answer: Literal["chosen", "rejected"] = "chosen") -> Record:
        """The pair's prompt with one of its answers, as training rows have it."""
        return Record(
            id=self.id,
            source=self.source,
            instruction=self.instruction,
            input=self.input,
            output=self.chosen if answer == "chosen" else self.rejected,
            history=self.history,
            system=self.system,
            lang=self.lang,
            licence=self.licence,
            tools=self.tools,
        )

    def to_row(self) -> dict[str, Any]:
        """A plain dict; tuples become lists."""
        return plain_row(self)

    @classmethod
    def from_row(cls, row: Mapping[str, Any], where: object = "This row") -> Self:
        """The inverse of `to_row`; columns with a default may be missing.

        Raises:
            InputError: a column is missing or unknown, or holds something else.
        """
        found: Self = conforming(
            _type(), dict(row), where, "it is no preference of kollm's; make it by kollm data pairs"
        )
        return found


def _clean(text: str) -> str:
    return normalise(encodable(text))


@functools.cache
def _type() -> TypeAdapter[Any]:
    return TypeAdapter(Preference)
