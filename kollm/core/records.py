"""One instruction row on its way from source to training, with its texts, its original and where it comes from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic import TypeAdapter

from kollm.core.columns import Turn, check_keys, plain_row
from kollm.core.reading import conforming
from kollm.core.text import normalise

TOOL_CALL = ("<tool_call>", "</tool_call>")
TOOL_RESPONSE = ("<tool_response>", "</tool_response>")
"""Marks of a tool's call in an assistant turn and of its result in a user turn, as Hermes and Qwen write them."""


@dataclass(frozen=True, slots=True)
class Original:
    """The row before translation, as it was read from its source."""

    instruction: str
    input: str
    output: str
    history: tuple[Turn, ...] = ()
    system: str = ""

    def texts(self) -> dict[str, str]:
        """All texts by name, as `Record.texts` gives them."""
        return _texts(self)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a record comes from and what was done to it; a fixed struct, so that every file has the same columns.

    Attributes:
        revision: Hub commit hash, or `sha256:` of the local file.
        index: position of the row in its source file.
        route: what routing decided: `translate`, `keep`, `regenerate` or `drop`; empty before routing.
        engine: translator's name; empty for an untranslated row.
        mode: `row` or `field`.
        attempt: number of the translation attempt that was used, from 1; 0 for none.
        characters: characters billed for this row.
        category: the source's own category, where it has one.
    """

    revision: str = ""
    index: int = 0
    route: str = ""
    engine: str = ""
    mode: str = ""
    attempt: int = 0
    characters: int = 0
    category: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """One instruction row; a conversation is one Record, its earlier turns in `history`.

    Attributes:
        id: stable and unique: the source's name and its own id or index, e.g. `dolly-17`.
        source: name of the source, e.g. `dolly`.
        instruction: what is asked (the last user turn of a conversation).
        input: context for the instruction; empty for none.
        output: the answer (the last assistant turn); for an evaluation task, the reference.
        history: the turns before, oldest first.
        system: the conversation's system message; empty for none.
        lang: language of the fields above, as a two-letter code.
        licence: SPDX identifier of the row's licence.
        original: the row before translation, as it was read; None until it was translated, or for a row that stays in
            its language where reading changed nothing.
        provenance: where the row comes from.
        tools: the tools that the assistant may call, a JSON list of definitions in OpenAI's form; empty for none. They are
            no text of the row: nothing translates or filters them.
    """

    id: str
    source: str
    instruction: str
    input: str
    output: str
    history: tuple[Turn, ...] = ()
    system: str = ""
    lang: str = "en"
    licence: str = ""
    original: Original | None = None
    provenance: Provenance = field(default_factory=Provenance)
    tools: str = ""

    def texts(self) -> dict[str, str]:
        """All texts by name, in the order in which they are read.

        Returns:
            `system` (where there is one), `history.0.user`, `history.0.assistant`, ..., `instruction`, `input`,
            `output`; blank ones too. What looks at a row's texts goes through here, so that none slips past it.
        """
        return _texts(self)

    def whole_text(self) -> str:
        """All texts as one, a line break between two: what duplicates and leaks are looked for in."""
        return "\n".join(_texts(self).values())

    def with_texts(
        self,
        texts: Mapping[str, str],
        *,
        lang: str | None = None,
        original: Original | None = None,
        provenance: Provenance | None = None,
    ) -> Self:
        """The record with the texts of these names replaced, and what else is given; the rest stays."""
        history = self.history and tuple(
            (texts.get(f"history.{number}.user", user), texts.get(f"history.{number}.assistant", assistant))
            for number, (user, assistant) in enumerate(self.history)
        )
        # by hand, since dataclasses.replace takes three times as long, and a build does this for every row
        return type(self)(
            id=self.id,
            source=self.source,
            instruction=texts.get("instruction", self.instruction),
            input=texts.get("input", self.input),
            output=texts.get("output", self.output),
            history=history,
            system=texts.get("system", self.system),
            lang=lang or self.lang,
            licence=self.licence,
            original=original or self.original,
            provenance=provenance or self.provenance,
            tools=self.tools,
        )

    def map_texts(self, change: Callable[[str], str]) -> Self:
        """The record with `change` applied to each text."""
        return self.with_texts({name: change(text) for name, text in self.texts().items()})

    def as_original(self) -> Original:
        """What `Record.original` keeps of this record when its texts are about to change."""
        return self.original or Original(self.instruction, self.input, self.output, self.history, self.system)

    @property
    def translated(self) -> bool:
        """Whether `original` is another text than this one, and not only this one before it was normalised."""
        if self.original is None:
            return False
        return bool(self.provenance.engine) or self.texts() != {
            name: normalise(text) for name, text in self.original.texts().items()
        }

    def english(self) -> Self:
        """The record with the texts that it had before translation, normalised; an untranslated one as it is."""
        source = self.original
        if source is None or not self.translated:
            return self
        return type(self)(
            id=self.id,
            source=self.source,
            instruction=normalise(source.instruction),
            input=normalise(source.input),
            output=normalise(source.output),
            history=tuple((normalise(user), normalise(assistant)) for user, assistant in source.history),
            system=normalise(source.system),
            lang=self.lang,
            licence=self.licence,
            original=source,
            provenance=self.provenance,
            tools=self.tools,
        )

    def messages(self) -> list[dict[str, str]]:
        """The chat form: `role` and `content`, and on the last user turn `input` where there is one.

        kollm's chat templates read the extra key `input`; others ignore it.
        """
        messages = [{"role": "system", "content": self.system}] if self.system else []
        for user, assistant in self.history:
            messages.append({"role": "user", "content": user})
            messages.append({"role": "assistant", "content": assistant})
        last = {"role": "user", "content": self.instruction}
        if self.input:
            last["input"] = self.input
        return [*messages, last, {"role": "assistant", "content": self.output}]

    def to_row(self) -> dict[str, Any]:
        """A plain dict; tuples become lists."""
        return plain_row(self)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The inverse of `to_row`.

        Raises:
            InputError: a column is missing or unknown, or holds something else; `system` and `tools`, which older rows
                lack, may be missing.
        """
        values = {"system": "", "tools": "", **row}
        values["tools"] = values["tools"] or ""
        check_keys(cls, values)
        original = values["original"]
        if isinstance(original, Mapping):
            there = original.get("instruction") is not None
            values["original"] = {**original, **_later(original)} if there else None
        record: Self = conforming(_record_type(), {**values, **_later(values)}, "This row", "it is no row of kollm's")
        return record


def _texts(row: Record | Original) -> dict[str, str]:
    if not row.system and not row.history:  # as most; a build asks each row some eight times
        return {"instruction": row.instruction, "input": row.input, "output": row.output}
    texts = {"system": row.system} if row.system else {}
    for number, (user, assistant) in enumerate(row.history):
        texts[f"history.{number}.user"] = user
        texts[f"history.{number}.assistant"] = assistant
    return {**texts, "instruction": row.instruction, "input": row.input, "output": row.output}


@functools.cache
def _record_type() -> TypeAdapter[Any]:
    return TypeAdapter(Record)


def _later(row: Mapping[str, Any]) -> dict[str, Any]:
    """What older rows lack, or have as null."""
    return {"system": row.get("system") or "", "history": row.get("history") or ()}
