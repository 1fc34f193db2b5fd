"""Spoils files as people, programs and attackers do: values of another kind, cut and mixed bytes, bombs."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

import yaml

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 10**18, 10**30, float("nan"), float("inf"), "", " ", "x", "문자", "a\x00b", "\ud800", "a\nb",
    "../../x", "/etc/passwd", "x" * 5000, [], {}, [None], [[]], [1, "a", None], {"a": 1}, {"": None}, [["a"]], "1e999", "{{ 1 }}",
    "2026-02-31", [{"role": "user"}], {"value": {"value": []}},
)  # fmt: skip
ODD_YAML = (
    "!!timestamp x", "2026-02-31", "!!int abc", "!!bool q", "!!float x", "!!python/object:os.system x", "&a [*a]", "*unknown",
    "!!binary %", "? [a]\n: b", "0x" + "f" * 6000, "[" * 3000, "{a: b", "\t- a", "'", "!!set {a}", "!!omap [a]", ".nan", "1:99:99",
    "9" * 6000, "<<: [1]", "<<: 5", "---\n---", "%YAML 9.9", "!!null x", "\u2028", "=",
)  # fmt: skip
ODD_JSON = (
    "9" * 5000, "[" * 50_000, '{"a":' * 50_000, "NaN", "-Infinity", "1e999", '"\\ud800"', "{}", "[]", "null", '"x"', "3", "{", "",
    '{"a": 1, "a": 2}', "\x00", "[" * 400 + "]" * 400, "{'a': 1}", "1" + "0" * 400,
)  # fmt: skip
ODD_BYTES = (
    b"\xff\xfe",
    b"\x00",
    b"\xec",
    b"\xef\xbb\xbf",
    b"\r",
    b"\x80\x81",
    b"PK\x03\x04",
    b"\xf0\x9f",
    "가".encode("cp949"),
)


def value(chance: random.Random, whole: Any) -> Any:
    """The value with one or two of its parts replaced, removed, doubled or renamed."""
    whole = copy.deepcopy(whole)
    for _ in range(chance.choice((1, 1, 1, 2))):
        places = list(_places(whole))
        if not places:
            return chance.choice(ODD_VALUES)
        holder, key = chance.choice(places)
        action = chance.random()
        if action < 0.7:
            holder[key] = copy.deepcopy(chance.choice(ODD_VALUES))
        elif action < 0.85:
            del holder[key]
        elif isinstance(holder, dict):
            holder[chance.choice(("", "x", "__class__", "id", "한글"))] = holder.pop(key)
        else:
            holder.append(copy.deepcopy(holder[key]))
    return whole


def _places(whole: Any) -> Any:
    stack = [whole]
    while stack:
        item = stack.pop()
        keys = list(item) if isinstance(item, dict) else range(len(item)) if isinstance(item, list) else ()
        for key in keys:
            yield item, key
            if isinstance(item[key], dict | list):
                stack.append(item[key])


def raw(chance: random.Random, data: bytes) -> bytes:
    """The bytes cut, mixed, or with others put in."""
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(data) + 1)
        action = chance.randrange(6)
        if action == 0:
            data = data[:at]
        elif action == 1:
            data = data[:at] + chance.choice(ODD_BYTES) + data[at:]
        elif action == 2 and data:
            at = min(at, len(data) - 1)
            data = data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]
        elif action == 3:
            end = min(len(data), at + chance.randrange(1, 60))
            data = data[:at] + data[end:]
        elif action == 4:
            end = min(len(data), at + chance.randrange(1, 60))
            data = data[:end] + data[at:end] + data[end:]
        else:
            data = data[:at] + chance.choice([*ODD_JSON, *ODD_YAML]).encode("utf-8", "surrogatepass") + data[at:]
    return data


def text_of(value: Any) -> str:
    """JSON, also of what JSON should not hold."""
    return json.dumps(value, ensure_ascii=True)


def json_file(chance: random.Random, whole: Any) -> bytes:
    """A JSON document spoiled in one of these ways."""
    action = chance.random()
    if action < 0.65:
        return text_of(value(chance, whole)).encode()
    if action < 0.8:
        return chance.choice(ODD_JSON).encode()
    return raw(chance, text_of(whole).encode())


def jsonl_file(chance: random.Random, rows: list[Any]) -> bytes:
    """JSON Lines of which one or all lines are spoiled."""
    lines = [text_of(row).encode() for row in rows]
    if chance.random() < 0.1:
        return raw(chance, b"\n".join(lines) + b"\n")
    at = chance.randrange(len(lines))
    lines[at] = json_file(chance, rows[at]) if chance.random() < 0.9 else text_of(value(chance, rows)).encode()
    return b"\n".join(lines) + b"\n"


def yaml_file(chance: random.Random, whole: Any) -> bytes:
    """A YAML document spoiled in one of these ways."""
    action = chance.random()
    if action < 0.5:
        spoiled = json.loads(text_of(value(chance, whole)))
        return yaml.safe_dump(spoiled, allow_unicode=False).encode("utf-8", "surrogatepass")
    text = yaml.safe_dump(whole, allow_unicode=True)
    if action < 0.8:
        lines = text.split("\n")
        at = chance.randrange(len(lines))
        lines[at] = lines[at].partition(":")[0] + ": " + chance.choice(ODD_YAML)
        return "\n".join(lines).encode("utf-8", "surrogatepass")
    if action < 0.85:
        bomb = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))
        return f"a0: &a0 [x, x]\n{bomb}\n{text}".encode()
    return raw(chance, text.encode())


Spoiler = Callable[[random.Random, Any], bytes]
