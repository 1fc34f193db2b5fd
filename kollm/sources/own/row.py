"""One row of a user's own, whatever its form, as system message, earlier turns, question and answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kollm.core.columns import Turn
from kollm.sources.own.conversation import answer_text, read_conversation, speaks, turn_text
from kollm.sources.own.forms import Form, as_turns, is_turn
from kollm.sources.own.tools import tools_text
from kollm.sources.own.unreadable import UnreadableError
from kollm.sources.source import Row, as_text


def canonical_row(row: Mapping[str, Any], form: Form, asked: bool) -> Row:
    """One row in the one form that `adapt` takes.

    Raises:
        UnreadableError: it cannot be used.
    """
    made: dict[str, Any] = {
        "id": own_id(row, form),
        "system": "",
        "history": [],
        "instruction": "",
        "input": "",
        "output": "",
        "notes": [],
        "tools": tools_text(_value(row, form, "tools")),
        "asked": asked,
        "text": form.kind == "text",
    }
    system = _text_of(row, form, "system")
    made["system"] = system.strip() and system
    turns = as_turns(row.get(form.columns["messages"])) if "messages" in form.columns else None
    if form.kind == "pairs":
        return {**made, **_pair(row, form, system, turns, asked)}
    if form.kind == "messages":
        if turns is None:
            value = row.get(form.columns["messages"])
            reason = "no_messages" if not value else "messages_not_a_list_of_turns"
            if isinstance(value, list) and any(isinstance(item, Mapping) and not is_turn(item) for item in value):
                reason = "turn_without_role_or_text"
            raise UnreadableError(reason)
        return {**made, **_conversation(turns, system, asked)}
    if form.kind == "text":
        return {**made, "instruction" if asked else "output": _text_of(row, form, "text"), "text": not asked}
    if form.kind == "instances":
        return {**made, **_instance(row, form)}
    question, answer = _value(row, form, "instruction"), _value(row, form, "output")
    if (before := as_turns(question)) is not None:  # a prompt that is a conversation, and its completion
        after = as_turns(answer) or ([{"role": "assistant", "content": turn_text(answer)}] if answer else [])
        return {**made, **_conversation([*before, *after], system, asked)}
    names = [name for name in ("instruction", "input", "output") if not (asked and form.columns.get(name) not in row)]
    made |= {name: _text_of(row, form, name) for name in names}
    made["history"] = _history(_value(row, form, "history"))
    return made


def _conversation(turns: Sequence[Any], system: str, asked: bool) -> dict[str, Any]:
    found = read_conversation(turns, system, asked=asked)
    return {
        "system": found.system,
        "history": list(found.history),
        "instruction": found.instruction,
        "output": found.output,
        "notes": list(found.notes),
    }


def _pair(row: Mapping[str, Any], form: Form, system: str, turns: list[Any] | None, asked: bool) -> dict[str, Any]:
    chosen = row.get(form.columns["chosen"])
    answer = as_turns(chosen) or ([chosen] if is_turn(chosen) else None)
    question = row.get(form.columns["instruction"]) if "instruction" in form.columns else None
    before = turns or as_turns(question)
    if before is None and answer is not None and len(answer) > 1:
        return _conversation(answer, system, asked)
    if (
        before is not None and answer is not None and speaks(answer[0], "assistant")
    ):  # with the calls that it makes first
        return _conversation([*before, *answer], system, asked)
    text = _text(chosen) if answer is None else answer_text(answer[-1])
    if before is not None:
        return _conversation([*before, {"role": "assistant", "content": text}], system, asked)
    return {
        "instruction": _text(question),
        "input": _text_of(row, form, "input"),
        "output": text or "",
        "history": _history(_value(row, form, "history")),
    }


def _instance(row: Mapping[str, Any], form: Form) -> dict[str, Any]:
    """The first instance of a Self-Instruct task."""
    instances = row.get(form.columns["output"])
    first = instances[0] if isinstance(instances, list) and instances else None
    if not isinstance(first, Mapping):
        raise UnreadableError("no_instance")
    return {
        "instruction": _text_of(row, form, "instruction"),
        "input": _text(first.get("input")),
        "output": _text(first.get("output")),
    }


def _history(value: Any) -> list[Turn]:
    if not value:
        return []
    if (turns := as_turns(value)) is not None:
        found = read_conversation([*turns, {"role": "user", "content": "-"}], asked=True)
        return list(found.history)
    pairs = value if isinstance(value, list) else None
    if pairs is None or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise UnreadableError("history_not_pairs_of_turns")
    return [(_text(user), _text(bot)) for user, bot in pairs]


def _value(row: Mapping[str, Any], form: Form, name: str) -> Any:
    """What the field's column holds; None where the form has no such field. A table may have a column without a name."""
    column = form.columns.get(name)
    return None if column is None else row.get(column)


def _text_of(row: Mapping[str, Any], form: Form, name: str) -> str:
    column = form.columns.get(name)
    if column is None:
        return ""
    if column not in row:
        if name in ("instruction", "output", "text"):
            raise UnreadableError(f"no_column_{column}")
        return ""
    text = as_text(row[column])
    if text is None:
        raise UnreadableError(f"not_text_{column}")
    return text


def _text(value: Any) -> str:
    text = as_text(value)
    if text is None:
        raise UnreadableError("not_text")
    return text


def own_id(row: Mapping[str, Any], form: Form) -> str | None:
    """The row's own id; None where it has none that can stand in a table."""
    value = row.get(form.columns.get("id", "id"))
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        return None
    name = str(value).strip()
    return name if len(name) <= 200 and name.isprintable() else None
