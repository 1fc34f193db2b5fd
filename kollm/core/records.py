"""The nouns that travel through kollm: Record, Generation and Verdict, with their JSON and their ids.

All are frozen dataclasses with a `to_row` (plain JSON-able dict, the columns of the dataset folder and of the JSONL
files) and a `from_row`. Content hashes are over canonical JSON and carry the name of their algorithm.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import TypeAdapter

from kollm.core.errors import InputError
from kollm.core.reading import conforming
from kollm.core.text import normalise

Turn = tuple[str, str]
"""One earlier exchange of a conversation: what the user said, what the assistant answered."""

TOOL_CALL = ("<tool_call>", "</tool_call>")
TOOL_RESPONSE = ("<tool_response>", "</tool_response>")
"""Marks of a tool's call in an assistant turn and of its result in a user turn, as Hermes and Qwen write them."""

Status = Literal["ok", "parse_error", "refusal", "truncated", "api_error"]
STATUSES: tuple[Status, ...] = ("ok", "parse_error", "refusal", "truncated", "api_error")


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and ASCII escapes, so that equal values give equal bytes.

    ASCII escapes keep lone surrogates (which UTF-8 cannot encode) hashable.
    """
    return _CANONICAL.encode(value)


def content_id(value: Any) -> str:
    """`sha256:` and the hex digest of a value's canonical JSON."""
    return "sha256:" + hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()


def text_sha256(text: str) -> str:
    """`sha256:` and the hex digest of a text's UTF-8 bytes (lone surrogates pass through)."""
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def plain_row(item: Any) -> dict[str, Any]:
    """The fields of a dataclass that has a history, and perhaps an original that has one, as JSON has them."""
    row = asdict(item)
    for part in (row, row.get("original")):
        if part is not None:
            part["history"] = [list(turn) for turn in part["history"]]
    return row


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

    def with_texts(self, texts: Mapping[str, str], **changes: Any) -> Self:
        """The record with the texts of these names replaced, and these attributes changed; the rest stays."""
        history = tuple(
            (texts.get(f"history.{number}.user", user), texts.get(f"history.{number}.assistant", assistant))
            for number, (user, assistant) in enumerate(self.history)
        )
        values = {  # by hand, since dataclasses.replace takes three times as long, and a build does this for every row
            "id": self.id,
            "source": self.source,
            "instruction": texts.get("instruction", self.instruction),
            "input": texts.get("input", self.input),
            "output": texts.get("output", self.output),
            "history": history,
            "system": texts.get("system", self.system),
            "lang": self.lang,
            "licence": self.licence,
            "original": self.original,
            "provenance": self.provenance,
            "tools": self.tools,
        }
        return type(self)(**(values | changes))

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
        _check_keys(cls, values)
        original = values["original"]
        if isinstance(original, Mapping):
            there = original.get("instruction") is not None
            values["original"] = {**original, **_later(original)} if there else None
        record: Self = conforming(_record_type(), {**values, **_later(values)}, "This row", "it is no row of kollm's")
        return record


@dataclass(frozen=True, slots=True)
class Generation:
    """One answer of one system to one evaluation task.

    Attributes:
        id: the task's Record id.
        model: Hub id or folder of the base or served model.
        adapter: Hub id or folder of the adapter; empty for none.
        params: decoding parameters that were applied, and under `recorded` those without effect.
        finish_reason: `stop` (EOS or stop string), `length` (cut at max_new_tokens), or the server's own word.
        system: short name of what answered, shown in reports, e.g. `adapter`, `base`, `gpt-4`.
        system_message: the conversation's system message (`Record.system`); empty for none.
        history: the turns before the instruction, oldest first.
        reference: an answer known to be good, for the judge; empty for none.
        category: the task's category, by which reports count apart; empty for none.
        cluster: what the task shares with others, e.g. the dialogue whose second turn it is; empty for the task alone.
        checklist: questions on the answer that a judge can say yes or no to.
        rules: what an answer can be checked for without a model, as `kollm.judge.rules` takes it.
        sample: number of the answer, from 0, where the system was asked for several to the task.
        tools: the tools that the system could call (`Record.tools`).
    """

    id: str
    instruction: str
    input: str
    response: str
    model: str
    adapter: str
    params: dict[str, Any]
    finish_reason: str
    system: str
    system_message: str = ""
    history: tuple[Turn, ...] = ()
    reference: str = ""
    category: str = ""
    cluster: str = ""
    checklist: tuple[str, ...] = ()
    rules: tuple[Mapping[str, Any], ...] = ()
    sample: int = 0
    tools: str = ""

    def to_row(self) -> dict[str, Any]:
        """A plain dict; tuples become lists."""
        row = plain_row(self)
        row["checklist"], row["rules"] = list(self.checklist), [dict(rule) for rule in self.rules]
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The inverse of `to_row`.

        Raises:
            InputError: a column is missing or unknown, or holds a value of another kind; what older rows lack may be
                missing.
        """
        values = with_defaults(cls, row)
        _check_text(cls, values, ("id", "instruction", "input", "response", "model", "adapter", "finish_reason"))
        _check_text(cls, values, ("system", "system_message", "reference", "category", "cluster", "tools"))
        values["history"] = _checked_turns(values["id"], values["history"])
        for name, kind in (("checklist", str), ("rules", dict)):
            items = values[name] or ()
            if not isinstance(items, list | tuple) or not all(isinstance(item, kind) for item in items):
                raise InputError(
                    f"Generation {values['id']}: {name} is {_short(items)} - give a list of {_KINDS[kind]}."
                )
            values[name] = tuple(items)
        _check_number(f"Generation {_short(values['id'])}", "sample", values["sample"])
        if not isinstance(values["params"], dict):
            raise InputError(f"Generation {values['id']}: params is {_short(values['params'])} - it must be an object.")
        return cls(**values)

    def task_sha256(self) -> str:
        """Hash of all that the answer answers and the judge may see beside it."""
        asked = [self.system_message, self.history, self.instruction, self.input, self.reference]
        tools = [self.tools] if self.tools else []  # the hashes of what has none are those of older files
        return content_id([asked, self.checklist, self.rules, *tools])


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
        return {name: getattr(self, name) for name in _columns_in_order(Verdict)}

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
        _check_text(cls, values, ("id", "system", "response_sha256", "rubric", "rubric_sha256", "mode", "raw"))
        _check_text(cls, values, ("model_requested", "model_returned", "category", "cluster", "task_sha256"))
        where = f"Verdict on {_short(values['id'])} of {_short(values['system'])}"
        if values["status"] not in STATUSES:
            raise InputError(f"{where}: unknown status {_short(values['status'])} - use one of {', '.join(STATUSES)}.")
        for name in ("sample", "answer"):
            _check_number(where, name, values[name])
        for name in ("scores", "usage"):
            if not isinstance(values[name], dict):
                raise InputError(f"{where}: {name} is {_short(values[name])} - it must be an object.")
        for axis, score in values["scores"].items():
            if score is not None and not (type(score) in (int, float) and -1e9 <= score <= 1e9):
                raise InputError(f"{where}: {axis} is {_short(score)} - a score is a number or null.")
        return cls(**values)


_KINDS: dict[type, str] = {str: "texts", dict: "objects"}


def _short(value: Any) -> str:
    """A value as an error shows it: on one line, printable and short."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def with_defaults(cls: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with what older files lack.

    Raises:
        InputError: a column without a default is missing, or one is unknown.
    """
    values = {**_defaults(cls), **row}
    _check_keys(cls, values)
    return values


def _check_text(cls: Any, values: Mapping[str, Any], columns: Sequence[str]) -> None:
    for column in columns:
        if not isinstance(values[column], str):
            raise InputError(
                f"{cls.__name__} {_short(values['id'])}: {column} is {_short(values[column])} - it must be text."
            )


def _check_number(where: str, name: str, value: Any) -> None:
    if type(value) is not int or value < 0:
        raise InputError(f"{where}: {name} is {_short(value)} - it must be a whole number from 0.")


def _checked_turns(id: str, value: Any) -> tuple[Turn, ...]:
    turns = value or ()
    if not isinstance(turns, list | tuple) or not all(
        isinstance(turn, list | tuple) and len(turn) == 2 and all(isinstance(text, str) for text in turn)
        for turn in turns
    ):
        raise InputError(f"Generation {id}: history is {_short(turns)} - give pairs of texts, [user, assistant].")
    return _turns(turns)


def check_shown(where: str | Path, id: str, system: str) -> None:
    """Refuse a task's id or a system's name that no table can show, such as one with a line break.

    Raises:
        InputError: one of them holds a character that cannot be printed.
    """
    for what, name in (("id", id), ("system", system)):
        if not name.isprintable():
            raise InputError(f"{where}: the {what} {name!r} cannot be shown - use letters that can be printed.")


def _texts(row: Record | Original) -> dict[str, str]:
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


def _turns(value: Sequence[Sequence[str]] | None) -> tuple[Turn, ...]:
    return tuple((turn[0], turn[1]) for turn in value or ())


@functools.cache
def _defaults(cls: Any) -> dict[str, Any]:
    return {item.name: item.default for item in fields(cls) if item.default is not MISSING}


@functools.cache
def _columns_in_order(cls: Any) -> tuple[str, ...]:
    return tuple(item.name for item in fields(cls))


@functools.cache
def _columns(cls: Any) -> frozenset[str]:
    return frozenset(item.name for item in fields(cls))


def _check_keys(cls: Any, row: Mapping[str, Any]) -> None:
    names = _columns(cls)
    if row.keys() == names:
        return
    missing, unknown = sorted(names - row.keys()), sorted(row.keys() - names)
    if missing or unknown:
        what = f"missing {', '.join(missing)}" if missing else f"unknown {', '.join(unknown)}"
        raise InputError(f"This is not a {cls.__name__} row: {what} - it needs exactly {', '.join(sorted(names))}.")
