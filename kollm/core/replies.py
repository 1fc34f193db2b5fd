"""A model's reply as data: where its thinking ends, and the JSON object that it was asked for."""

from __future__ import annotations

import json
import re
from typing import Any

LONGEST_JSON = 1_000_000
"""Characters of a reply that are searched for JSON."""
_OPENING = re.compile(r"[\s\ufeff]*<(think|thinking|thought|reasoning|reflection)>", re.IGNORECASE)
_CLOSING = re.compile(r"</(think|thinking|thought|reasoning|reflection)>\s*", re.IGNORECASE)
_HARMONY = re.compile(r"(?:<\|start\|>assistant)?<\|channel\|>final(?:\s[^<]{0,40})?<\|message\|>")
_FENCE = re.compile(r"```[A-Za-z0-9_-]*[ \t]*\r?\n?")


def reasoning_end(text: str) -> int:
    """Where the reply proper begins, after blocks like `<think>...</think>` at its beginning.

    A closing mark without an opening one ends the thinking too, since many templates put the opening one into the prompt.
    A block that never closes takes everything: the reply was cut while the model was thinking.

    Returns:
        Index of the first character of the reply proper.
    """
    if (final := _HARMONY.search(text)) is not None:
        return final.end()
    start = 0
    while (opening := _OPENING.match(text, start)) is not None:
        closing = _CLOSING.search(text, opening.end())
        if closing is None:
            return len(text)
        start = closing.end()
    if start == 0 and (closing := _CLOSING.search(text)) is not None:
        start = closing.end()
    return start


def without_reasoning(text: str) -> str:
    """The reply without the thinking before it."""
    return text[reasoning_end(text) :]


class Ambiguous:
    """Stands where an object gives one key two values."""


AMBIGUOUS = Ambiguous()


def read_json_object(text: str) -> dict[str, Any] | None:
    """The one JSON object of a reply: bare, in a fence, after thinking, amid prose, or after a byte-order mark.

    Returns:
        The object, with AMBIGUOUS for a key that comes twice with two values; None where the reply has no object, or
        several that differ. Numbers too long to be meant are None.
    """
    reply = without_reasoning(text).lstrip("\ufeff").strip()[:LONGEST_JSON]
    if (whole := _load(_unfenced(reply))) is not None:
        return whole
    found = _objects(reply)
    distinct = {json.dumps(value, sort_keys=True, default=str): value for value in found}
    return next(iter(distinct.values())) if len(distinct) == 1 else None


def _unfenced(text: str) -> str:
    opening = _FENCE.match(text)
    return text[opening.end() : -3] if opening is not None and text.endswith("```") else text


def _objects(text: str) -> list[dict[str, Any]]:
    """Objects that stand in the text, none inside another; each character is read a bounded number of times."""
    decoder = json.JSONDecoder(object_pairs_hook=_once, parse_int=_integer, parse_constant=lambda _: None)
    found: list[dict[str, Any]] = []
    place, failures = text.find("{"), 0
    while place >= 0 and failures < 50:
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            failures += 1
            end = place + 1
        else:
            found.append(value)
        place = text.find("{", end)
    return found


def _load(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_int=_integer, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _once(items: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in items:
        values[key] = value if key not in values or repr(values[key]) == repr(value) else AMBIGUOUS
    return values


def _integer(digits: str) -> int | None:
    return int(digits) if len(digits) <= 18 else None
