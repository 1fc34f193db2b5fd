"""One row of the ledger as it travels: what an export holds, and what is checked of each row that comes in or goes out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from kollm.services.purchase import FIELDS, Purchase

EXPORTED = ("key", "request", "sends", "sent_characters", "sent_cost", "content", "characters", "cost")
MOST_CHARACTERS = 1_000_000_000
"""Characters that no text is billed for: a larger number is a damaged or a made-up row."""
MOST_COST = 10_000.0
"""USD that no text costs."""
MOST_SENDS = 1_000_000
CHAT_ENGINE = "openai"
"""The engine whose answers are chat completions; the answers of all others are translations."""
_CHAT_TEXTS = ("text", "finish_reason", "refusal", "model", "fingerprint")


def row_fault(row: Mapping[str, Any]) -> str | None:
    """What is wrong with a row of an export; None for a sound one."""
    if row.keys() != set(EXPORTED):
        return "not a ledger export - make one with `kollm ledger export`"
    purchase = read_purchase(row["request"])
    if purchase is None:
        return "the request is not one of kollm's purchases - export it again"
    if purchase.key != row["key"]:
        return f"the key {str(row['key'])[:80]!r} does not fit the row - export it again"
    for name, most in (("sends", MOST_SENDS), ("sent_characters", MOST_CHARACTERS), ("characters", MOST_CHARACTERS)):
        if not _is_count(row[name], most):
            return f"{name} is {str(row[name])[:80]} - it must be a whole number from 0 to {most:,}"
    for name in ("sent_cost", "cost"):
        if not _is_price(row[name]):
            return f"{name} is {str(row[name])[:80]} - it must be USD from 0 to {MOST_COST:,.0f}"
    return None if row["content"] is None else content_fault(purchase.engine, row["content"])


def read_purchase(values: Any) -> Purchase | None:
    """The purchase that a row's request describes; None where it describes none."""
    if not isinstance(values, Mapping) or values.keys() != set(FIELDS):
        return None
    texts = all(isinstance(values[name], str) for name in ("kind", "engine", "base_url", "model", "context", "text"))
    counts = _is_count(values["attempt"], MOST_SENDS) and _is_count(values["sample"], MOST_SENDS)
    if not (texts and counts and isinstance(values["options"], Mapping)):
        return None
    return Purchase(**values)


def content_fault(engine: str, content: Any) -> str | None:
    """What is wrong with an answer's content; None where it is what buyers of that engine read."""
    if not isinstance(content, Mapping):
        return f"the answer is a {type(content).__name__}, not an object"
    if engine != CHAT_ENGINE:
        sound = isinstance(content.get("text"), str | None) and isinstance(content.get("reason", ""), str)
        return None if "text" in content and sound else "the answer holds no text and no reason"
    if not all(isinstance(content.get(name), str) for name in _CHAT_TEXTS):
        return f"the answer lacks one of the texts {', '.join(_CHAT_TEXTS)}"
    if not isinstance(content.get("usage"), Mapping):
        return "the answer's usage is not an object"
    logprobs = content.get("logprobs")
    if logprobs is not None and not (
        isinstance(logprobs, list) and all(isinstance(item, Mapping) for item in logprobs)
    ):
        return "the answer's log-probabilities are not a list of objects"
    return None


def charge_fault(characters: Any, cost: Any) -> str | None:
    """What is wrong with what an answer is said to have cost; None for nothing."""
    if not _is_count(characters, MOST_CHARACTERS):
        return f"{characters} characters billed"
    return None if _is_price(cost) else f"a price of USD {cost}"


def compact_json(value: Any) -> str:
    """JSON in which Korean takes three bytes a syllable; lone surrogates, which SQLite refuses, keep their escapes."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"))
    return text


def _is_count(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def _is_price(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and 0 <= value <= MOST_COST
