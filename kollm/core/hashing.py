"""Hashes of content: over canonical JSON or a text's bytes, each with the name of its algorithm."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and ASCII escapes, so that equal values give equal bytes.

    ASCII escapes keep lone surrogates (which UTF-8 cannot encode) hashable.
    """
    return _CANONICAL.encode(value)


def content_id(value: Any) -> str:
    """`sha256:` and the hex digest of a value's canonical JSON."""
    return "sha256:" + hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()


class ContentIds:
    """The content ids of mappings that differ in one text, which is the last by its name: what precedes it is hashed once.

    Args:
        value: one of them.
        name: the text's name.
    """

    def __init__(self, value: Mapping[str, Any], name: str) -> None:
        assert name == max(value), f"'{name}' is not the last of {sorted(value)}"
        begun = canonical_json({**value, name: ""}).removesuffix('""}')
        self._begun = hashlib.sha256(begun.encode("ascii"))

    def of(self, text: str) -> str:
        """`content_id` of the one with this text."""
        whole = self._begun.copy()
        whole.update(f"{canonical_json(text)}}}".encode("ascii"))
        return "sha256:" + whole.hexdigest()


def text_sha256(text: str) -> str:
    """`sha256:` and the hex digest of a text's UTF-8 bytes (lone surrogates pass through)."""
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
