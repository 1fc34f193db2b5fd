"""Definitions of tools in a user's rows: a list in OpenAI's form, of objects or of JSON, or all of it as JSON text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kollm.core.text import normalise
from kollm.sources.own.unreadable import UnreadableError

DEEPEST = 32
"""Levels of lists and objects in one another: a schema has about ten."""


def looks_like_tools(values: Sequence[Any]) -> bool:
    """Whether the values of a column are definitions, told by the first that holds something: other people's `tools` are
    words, which are no more than a column that is not read."""
    first = next((value for value in values if value not in (None, "", [], "[]")), None)
    if isinstance(first, str):
        return first.lstrip()[:1] in ("[", "{")
    if isinstance(first, list | tuple):
        return any(isinstance(item, Mapping) or (isinstance(item, str) and item.lstrip()[:1] == "{") for item in first)
    return isinstance(first, Mapping)


def tools_text(value: Any) -> str:
    """The definitions as `Record.tools` has them: JSON in OpenAI's form; empty for none.

    One definition is a list of one, and a function without `type` and `function` gets them. In a table every object has
    the keys of all others, without a value: keys that hold nothing are left out there.

    Raises:
        UnreadableError: the value is something else, too deep, or no JSON.
    """
    if isinstance(value, str):
        value = _parsed(value) if value.strip() else None
    if isinstance(value, Mapping):
        value = [value] if value else None
    if value is None:
        return ""
    if not isinstance(value, list | tuple):
        raise UnreadableError("tools_not_a_list")
    there = [item for item in value if item is not None]
    tools = [_definition(_parsed(item) if isinstance(item, str) else filled(item)) for item in there]
    if not tools:
        return ""
    try:
        return normalise(json.dumps(tools, ensure_ascii=False, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UnreadableError("tools_not_json") from error


def _parsed(text: str) -> Any:
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise UnreadableError("tools_too_deep") from error
    except ValueError as error:
        raise UnreadableError("tools_not_json") from error
    _check_depth(value)
    return value


def filled(value: Any) -> Any:
    """The value without the keys that hold nothing, which a table gives to every object.

    Raises:
        UnreadableError: it is too deep.
    """
    _check_depth(value)
    return _without_nothing(value)


def _without_nothing(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_nothing(item) for key, item in value.items() if item is not None}
    return [_without_nothing(item) for item in value] if isinstance(value, list | tuple) else value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [item for outer in level for item in _inside(outer)]
        if not level:
            return
    raise UnreadableError("tools_too_deep")


def _inside(value: Any) -> Sequence[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list | tuple) else ()


def _definition(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise UnreadableError("tool_not_an_object")
    function = value.get("function", value if "name" in value else None)
    if not isinstance(function, Mapping):
        raise UnreadableError("tool_without_a_function")
    name = function.get("name")
    if not isinstance(name, str) or not name.strip():
        raise UnreadableError("tool_without_a_name")
    if "function" in value:
        return dict(value)
    return {"type": "function", "function": {key: item for key, item in value.items() if key != "type"}}
