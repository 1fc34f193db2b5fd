"""What comes from outside, read within limits: JSON, YAML and text that are refused in one sentence, never in a traceback.

Whoever wrote a file may have made it large, deep, cyclic or broken. The functions here take text or bytes and the place
it comes from, for the message; those that take a path stand in `kollm.core.files`.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, TypeVar

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from kollm.core.errors import InputError, KollmError, did_you_mean

MOST_BYTES = 256 << 20
"""Of a file that is read whole: a JSON document, a text."""
MOST_LINE_BYTES = 64 << 20
"""Of one line of JSON Lines, or one row: a field has at most a million characters."""
MOST_YAML_BYTES = 4 << 20
MOST_YAML_NODES = 200_000
"""Of YAML with its aliases written out: nine aliases of nine aliases, and so on, make gigabytes of one kilobyte."""
MOST_DEPTH = 100
"""Lists and mappings inside of each other."""
MOST_BITS = 256
"""Of a whole number; Python takes quadratic time for long ones, and refuses to write those over 4,300 digits."""

Model = TypeVar("Model", bound=BaseModel)
Value = TypeVar("Value")


# --- text -------------------------------------------------------------------------------------------------------------


def decode(data: bytes, where: object) -> str:
    """UTF-8 text, without a byte-order mark, its lines ending in newlines alone.

    Raises:
        InputError: it is no UTF-8.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 at byte {error.start} - convert the file to UTF-8.") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def bounded(file: IO[bytes], where: object, most: int = MOST_BYTES) -> bytes:
    """All bytes of an open file.

    Raises:
        InputError: they are too many.
    """
    data = file.read(most + 1)
    if len(data) > most:
        raise InputError(f"{where}: larger than {_size(most)}, which kollm does not read whole - check the file.")
    return data


def lines_of(file: IO[bytes], where: object) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each line that is not blank.

    Raises:
        InputError: a line is too long.
    """
    number = 0
    while line := file.readline(MOST_LINE_BYTES + 1):
        number += 1
        if len(line) > MOST_LINE_BYTES:
            raise too_long(f"{where}, line {number}")
        if line.strip():
            yield number, line


def too_long(where: str) -> InputError:
    """The error for a line or row that is longer than any."""
    return InputError(f"{where}: longer than {_size(MOST_LINE_BYTES)}, which no row is - check the file.")


def _size(count: int) -> str:
    return f"{count >> 20} MiB"


# --- JSON -------------------------------------------------------------------------------------------------------------


def parse_json(text: str | bytes, where: object, line: int | None = None, constants: bool = False) -> Any:
    """A JSON document.

    Args:
        text: the document; bytes are UTF-8.
        where: the file.
        line: number of the line in it, where the document is one.
        constants: whether NaN and Infinity pass, which JSON has not and pandas writes.

    Raises:
        InputError: it is malformed, no UTF-8, nested too deep, or holds a number of thousands of digits.
    """
    place = where if line is None else f"{where}, line {line}"
    what_to_do = "mend the file or write it again" if line is None else "mend or remove that line"
    try:
        data = text.removeprefix(codecs.BOM_UTF8) if isinstance(text, bytes) else text
        value = json.loads(data) if constants else json.loads(data, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        at = f"{where}, line {error.lineno if line is None else line}"
        raise InputError(f"{at}: not valid JSON ({error.msg}) - {what_to_do}.") from error
    except _ConstantError as error:
        raise InputError(f"{place}: {error} is no number that JSON has - {what_to_do}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{place}: not UTF-8 at byte {error.start} - convert the file to UTF-8.") from error
    except RecursionError as error:
        raise _too_deep(place) from error
    except ValueError as error:  # Python's limit on the digits of a whole number
        raise InputError(f"{place}: a number of more than 4,300 digits - {what_to_do}.") from error
    openings = text.count("[") + text.count("{") if isinstance(text, str) else text.count(b"[") + text.count(b"{")
    if openings > MOST_DEPTH:
        check_size(value, place)
    return value


class _ConstantError(Exception):
    """NaN, Infinity or -Infinity."""


def _refuse(constant: str) -> Any:
    raise _ConstantError(constant)


def check_size(value: Any, where: object, nodes: int | None = None) -> None:
    """Refuse a value of lists, mappings and scalars that is nested too deep or, with its shared parts written out, too large.

    Raises:
        InputError: it is, or it holds itself.
    """
    sizes: dict[int, int] = {}
    open_ids: set[int] = set()
    stack: list[tuple[Any, bool]] = [(value, False)]
    while stack:
        item, done = stack.pop()
        children = _children(item)
        if done:
            sizes[id(item)] = 1 + sum(sizes.get(id(child), 1) for child in children)
            open_ids.discard(id(item))
            if nodes is not None and sizes[id(item)] > nodes:
                raise InputError(
                    f"{where}: its aliases stand for more than {nodes:,} values - write them out, or fewer."
                )
        elif isinstance(item, list | dict) and id(item) not in sizes:
            if id(item) in open_ids:
                raise InputError(f"{where}: a value holds itself - write it without that alias.")
            if len(open_ids) >= MOST_DEPTH:
                raise _too_deep(where)
            open_ids.add(id(item))
            stack.append((item, True))
            stack.extend((child, False) for child in children)
        elif isinstance(item, int) and item.bit_length() > MOST_BITS:
            raise InputError(f"{where}: a number of more than {MOST_BITS} bits - write it as text.")


def _children(item: Any) -> Iterable[Any]:
    if isinstance(item, dict):
        return [*item.keys(), *item.values()]
    return item if isinstance(item, list) else ()


def _too_deep(where: object) -> InputError:
    return InputError(f"{where}: nested more than {MOST_DEPTH} deep - check the file.")


def as_object(value: Any, where: object) -> dict[str, Any]:
    """A value that must be an object, of keys and values.

    Raises:
        InputError: it is a list, a text or a number.
    """
    if not isinstance(value, dict):
        raise InputError(f"{where}: holds {_kind(value)}, not keys and values - check that it is the right file.")
    return value


def _kind(value: Any) -> str:
    kinds = {list: "a list", dict: "an object", str: "a text", bool: "true or false", type(None): "nothing"}
    return kinds.get(type(value), "a number")


# --- YAML -------------------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML's plain values; a date stays the text that it is."""


_Loader.yaml_implicit_resolvers = {
    sign: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for sign, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse_yaml(text: str, where: object) -> Any:
    """A YAML document.

    Raises:
        InputError: it is malformed, too large, nested too deep, or made of aliases that stand for far more than is written.
    """
    if len(text) > MOST_YAML_BYTES:
        raise InputError(f"{where}: larger than {_size(MOST_YAML_BYTES)}, which no such file is - check it.")
    try:
        value = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        reason = " ".join(str(error.problem or error.context).split())[:200]
        raise InputError(f"{where}{line}: not valid YAML ({reason}) - mend that line.") from error
    except RecursionError as error:
        raise _too_deep(where) from error
    except Exception as error:  # PyYAML raises whatever int(), float(), datetime or a dictionary raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{where}: not valid YAML ({reason}) - mend the file.") from error
    check_size(value, where, MOST_YAML_NODES)
    return value


# --- shapes -----------------------------------------------------------------------------------------------------------


def validated(model: type[Model], values: Any, where: object, what_to_do: str) -> Model:
    """Values in the shape of a pydantic model.

    Args:
        model: the shape.
        values: as they were read.
        where: the file, and the row.
        what_to_do: ends the message.

    Raises:
        InputError: they have another shape; the message names up to three faults.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{where}: {faults(error, model.model_fields)} - {what_to_do}.") from error


def conforming(adapter: TypeAdapter[Value], values: Any, where: object, what_to_do: str) -> Value:
    """As `validated`, for any type that pydantic knows."""
    try:
        return adapter.validate_python(values)
    except ValidationError as error:
        raise InputError(f"{where}: {faults(error)} - {what_to_do}.") from error


def faults(error: ValidationError, known: Mapping[str, Any] | None = None, most: int = 3) -> str:
    """What pydantic found, as half a sentence: key, value and what it should be."""
    found = error.errors(include_url=False)
    said = "; ".join(_fault(item, known or {}) for item in found[:most])
    return said if len(found) <= most else f"{said}; and {len(found) - most} more"


def _fault(item: Any, known: Mapping[str, Any]) -> str:
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return f"unknown key '{key}'{did_you_mean(key.rsplit('.', 1)[-1], known)}"
    if item["type"] == "missing":
        return f"the key '{key}' is missing"
    if item["type"] == "value_error":
        return str(item["ctx"]["error"])
    message = (item["msg"][0].lower() + item["msg"][1:]).replace("a valid dictionary", "an object")
    if not key:
        return f"it is {shown(item['input'])}, and {message}"
    return f"'{key}' is {shown(item['input'])}, and {message}"


def shown(value: Any, length: int = 80) -> str:
    """A value as an error shows it: on one line, printable and short."""
    if isinstance(value, str):
        text = repr(value[: length + 1]) if value[:length].isprintable() else ascii(value[: length + 1])
    elif isinstance(value, int) and value.bit_length() > MOST_BITS:
        return "a very long number"
    else:
        text = _kind(value) if isinstance(value, list | dict) else repr(value)
    return text if len(text) <= length else text[: length - 1] + "…"


# --- libraries --------------------------------------------------------------------------------------------------------


@contextmanager
def foreign_errors(what: str, what_to_do: str) -> Iterator[None]:
    """Say in one sentence what a library objects to in somebody's file, whichever exception it chose.

    For the one call into the library alone: around more, it would hide faults of ours.

    Args:
        what: begins the message: `The parquet file 'x'`.
        what_to_do: ends it.

    Raises:
        InputError: it raised anything.
    """
    try:
        yield
    except (KollmError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"{what} cannot be read ({reason}) - {what_to_do}.") from error
