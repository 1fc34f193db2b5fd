"""A row as a chat service gets it: its messages, and the tools that may be called.

One place for all that asks a service for a row's answer: `kollm generate --api`, `kollm chat --api`, `kollm data synthesize
regenerate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kollm.core.records import Record
from kollm.recipe.tools import definitions, sent


def row_messages(record: Record, shots: Sequence[Record] = (), heading: str = "\n\n") -> list[dict[str, str]]:
    """The system message, solved examples and earlier turns, and the task; calls of tools are text, as rows have them.

    Args:
        record: the row, whose own answer is not sent.
        shots: solved examples.
        heading: what stands between an instruction and its input.
    """
    turns = [(_task(shot, heading), shot.output) for shot in shots] + list(record.history)
    messages = [{"role": "system", "content": record.system}] if record.system else []
    messages += [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
    return [*messages, {"role": "user", "content": _task(record, heading)}]


def asked_messages(record: Record) -> list[dict[str, Any]]:
    """The messages of a row, calls of tools and their results as services take them."""
    return sent(row_messages(record))


def tool_options(tools: str | Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a request says of tools, by their definitions or a row's text of them; nothing where there are none.

    A request without tools stays what it was, and so does its key in the ledger.
    """
    found = definitions(tools) if isinstance(tools, str) else list(tools)
    return {"tools": found} if found else {}


def _task(record: Record, heading: str) -> str:
    return heading.join(text for text in (record.instruction, record.input) if text)
