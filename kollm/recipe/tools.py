"""Tool turns of a conversation, between the marks that rows keep them in and the messages that chat templates take.

A row has a call as text, `<tool_call>` and its JSON in an assistant turn, and a result in the user turn after it. A
template that knows tools gets `tool_calls` and messages of the role `tool` instead, as every server gives it them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kollm.core.records import TOOL_CALL, TOOL_RESPONSE


class _Marked(NamedTuple):
    """A text: what stands before the first mark, what stands within marks, and what follows the last."""

    before: str
    inside: list[str]
    after: str


def is_call(answer: str) -> bool:
    """Whether an assistant's turn ends with a call of a tool."""
    return answer.rstrip().endswith(TOOL_CALL[1]) and TOOL_CALL[0] in answer


def call_turn(name: str, value: str) -> str:
    """A turn that calls a tool, for probes."""
    written = json.dumps({"name": name, "arguments": {"key": value}}, ensure_ascii=False)
    return f"{TOOL_CALL[0]}\n{written}\n{TOOL_CALL[1]}"


def result_turn(text: str) -> str:
    """A turn with a tool's result, for probes."""
    return f"{TOOL_RESPONSE[0]}\n{text}\n{TOOL_RESPONSE[1]}"


def structured(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages with their tool turns as templates take them; a turn whose marks hold something else stays text.

    A result is one only after a call: the same marks in what a user writes stay text.
    """
    made: list[dict[str, Any]] = []
    called = False
    for message in messages:
        if message["role"] == "assistant":
            call = _call(message)
            called = call is not None
            made.append(call or dict(message))
        elif message["role"] == "user" and called:
            made += _results(message)
            called = False
        else:
            made.append(dict(message))
    return made


def _call(message: Mapping[str, Any]) -> dict[str, Any] | None:
    marked = _marked(message["content"], TOOL_CALL)
    if marked is None or marked.after:
        return None
    calls = []
    for text in marked.inside:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            return None
        calls.append({"type": "function", "function": {"name": value["name"], "arguments": _arguments(value)}})
    return {"role": "assistant", "content": marked.before, "tool_calls": calls}


def _arguments(call: Mapping[str, Any]) -> Any:
    """The call's arguments as an object; OpenAI writes them as text."""
    arguments = call.get("arguments", {})
    if isinstance(arguments, str):
        try:
            read = json.loads(arguments)
        except (ValueError, RecursionError):
            return arguments
        return read if isinstance(read, dict) else arguments
    return arguments


def _results(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    marked = _marked(message["content"], TOOL_RESPONSE)
    if marked is None or marked.before:
        yield dict(message)
        return
    for text in marked.inside:
        yield {"role": "tool", "content": text}
    if marked.after:
        yield {**message, "content": marked.after}


def _marked(text: str, marks: tuple[str, str]) -> _Marked | None:
    """The text around and within marks that follow each other; None where there are none, or text stands between."""
    begin, end = marks
    before, found, rest = text.partition(f"{begin}\n")
    if not found:
        return None
    inside = []
    while True:
        content, closed, after = rest.partition(f"\n{end}")
        if not closed:
            return None
        inside.append(content)
        rest = after.lstrip()
        if not rest.startswith(f"{begin}\n"):
            return _Marked(before.strip(), inside, rest.strip())
        rest = rest.removeprefix(f"{begin}\n")
