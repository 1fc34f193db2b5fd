"""Tools of a conversation, between what rows keep of them and what chat templates and services take.

A row has a call as text, `<tool_call>` and its JSON in an assistant turn, and a result in the user turn after it. A
template that knows tools gets `tool_calls` and messages of the role `tool` instead, as every server gives it them. The
definitions of the tools are JSON text in a row, and a list for a template or a service.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from kollm.core.records import TOOL_CALL, TOOL_RESPONSE

_TOOL_TURNS = re.compile(
    "|".join(f"{re.escape(begin)}\n.*?\n{re.escape(end)}" for begin, end in (TOOL_CALL, TOOL_RESPONSE)), re.DOTALL
)


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
    """A turn with a tool's result."""
    return f"{TOOL_RESPONSE[0]}\n{text}\n{TOOL_RESPONSE[1]}"


def definition(name: str, description: str, parameter: str) -> dict[str, Any]:
    """A tool's definition, for probes."""
    schema = {"type": "object", "properties": {parameter: {"type": "string", "description": parameter}}}
    function = {"name": name, "description": description, "parameters": {**schema, "required": [parameter]}}
    return {"type": "function", "function": function}


def definitions(tools: str) -> list[dict[str, Any]]:
    """The definitions that a row has as text; none where it holds something else, as a file of others may."""
    try:
        found = json.loads(tools) if tools else []
    except (ValueError, RecursionError):
        return []
    if not isinstance(found, list) or not all(_is_definition(item) for item in found):
        return []
    return found


def _is_definition(value: Any) -> bool:
    function = value.get("function") if isinstance(value, dict) else None
    return isinstance(function, dict) and isinstance(function.get("name"), str)


def without_tools(text: str) -> str:
    """The text without the calls of tools and the results in it."""
    return _TOOL_TURNS.sub("", text)


def marked_calls(text: str, calls: Any) -> str:
    """What an assistant said and called, as rows have it; what is no call of the protocol's is left out."""
    if not isinstance(calls, list):
        return text
    written = [text] if text.strip() else []
    for call in calls:
        function = call.get("function") if isinstance(call, Mapping) else None
        if isinstance(function, Mapping) and isinstance(function.get("name"), str):
            told = {"name": function["name"], "arguments": _arguments(function)}
            written.append(f"{TOOL_CALL[0]}\n{json.dumps(told, ensure_ascii=False)}\n{TOOL_CALL[1]}")
    return "\n".join(written)


def sent(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages with their tool turns as OpenAI's services take them: calls have ids, and arguments are text.

    A call that has not as many results as it asks for, or arguments that are no object, stays text: services refuse it.
    """
    made: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    number = 0
    for message, after in zip_longest(messages, messages[1:]):
        if message["role"] == "assistant":
            call, calls = _call(message), []
            results = [] if call is None or after is None or after["role"] != "user" else list(_results(after))
            if (
                call is None
                or len(call["tool_calls"]) != sum(result["role"] == "tool" for result in results)
                or not all(isinstance(item["function"]["arguments"], dict) for item in call["tool_calls"])
            ):
                made.append(dict(message))
                continue
            for item in call["tool_calls"]:
                number += 1
                arguments = json.dumps(item["function"]["arguments"], ensure_ascii=False)
                function = {"name": item["function"]["name"], "arguments": arguments}
                # Nine letters and digits, which is all that Mistral's services take.
                calls.append({"id": f"call{number:05d}", "type": "function", "function": function})
            made.append({**call, "tool_calls": calls})
        elif message["role"] == "user" and calls:
            ids = iter(call["id"] for call in calls)
            made += [
                {**part, "tool_call_id": next(ids)} if part["role"] == "tool" else part for part in _results(message)
            ]
            calls = []
        else:
            made.append(dict(message))
    return made


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
