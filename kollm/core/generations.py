"""One answer of one system to one task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from kollm.core.columns import Turn, check_number, check_text, plain_row, short_value, with_defaults
from kollm.core.errors import InputError
from kollm.core.hashing import content_id
from kollm.core.records import Record

_KINDS: dict[type, str] = {str: "texts", dict: "objects"}


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
        check_text(cls, values, ("id", "instruction", "input", "response", "model", "adapter", "finish_reason"))
        check_text(cls, values, ("system", "system_message", "reference", "category", "cluster", "tools"))
        values["history"] = _checked_turns(values["id"], values["history"])
        for name, kind in (("checklist", str), ("rules", dict)):
            items = values[name] or ()
            if not isinstance(items, list | tuple) or not all(isinstance(item, kind) for item in items):
                raise InputError(
                    f"Generation {values['id']}: {name} is {short_value(items)} - give a list of {_KINDS[kind]}."
                )
            values[name] = tuple(items)
        check_number(f"Generation {short_value(values['id'])}", "sample", values["sample"])
        if not isinstance(values["params"], dict):
            raise InputError(
                f"Generation {values['id']}: params is {short_value(values['params'])} - it must be an object."
            )
        return cls(**values)

    def task_sha256(self) -> str:
        """Hash of all that the answer answers and the judge may see beside it."""
        asked = [self.system_message, self.history, self.instruction, self.input, self.reference]
        tools = [self.tools] if self.tools else []  # the hashes of what has none are those of older files
        return content_id([asked, self.checklist, self.rules, *tools])


def _checked_turns(id: str, value: Any) -> tuple[Turn, ...]:
    turns = value or ()
    if not isinstance(turns, list | tuple) or not all(
        isinstance(turn, list | tuple) and len(turn) == 2 and all(isinstance(text, str) for text in turn)
        for turn in turns
    ):
        raise InputError(f"Generation {id}: history is {short_value(turns)} - give pairs of texts, [user, assistant].")
    return tuple((turn[0], turn[1]) for turn in turns)


def task_columns(record: Record) -> dict[str, Any]:
    """What an answer repeats of its task: all that a judge is shown beside it."""
    return {
        "id": record.id,
        "instruction": record.instruction,
        "input": record.input,
        "system_message": record.system,
        "history": record.history,
        "tools": record.tools,
        "reference": record.output,
        "category": record.provenance.category,
    }
