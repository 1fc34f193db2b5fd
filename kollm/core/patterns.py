"""Regular expressions of others: refused where matching one could take for ever."""

from __future__ import annotations

import re
from typing import Any

from kollm.core.counting import counted
from kollm.core.errors import InputError

MOST_CHARACTERS = 2_000
MOST_OPEN_REPEATS = 3
"""Repeats without a bound, one after the other: each multiplies the time by the length of the text."""
_OPEN = 64
"""A repeat of so many times or more counts as one without a bound."""


def check_pattern(pattern: str, where: str) -> None:
    """Refuse a regular expression that is none, or whose matching may take more than cubic time.

    Raises:
        InputError: it is such a one: it repeats a part that repeats itself, refers back, or has too many open repeats.
    """
    said = f"{where} is '{pattern[:80]}'"
    if len(pattern) > MOST_CHARACTERS:
        raise InputError(
            f"{said}..., a regular expression of {counted(len(pattern), 'character')} - name the modules in a list."
        )
    try:
        parsed = re._parser.parse(pattern)  # type: ignore[attr-defined]
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise InputError(f"{said}, which is no regular expression ({error}) - mend it.") from error
    if _open_repeats(parsed, inside=False) > MOST_OPEN_REPEATS:
        raise InputError(
            f"{said}, whose matching could take for ever - write it with fewer repeats, or name the modules."
        )


def _open_repeats(part: Any, inside: bool) -> int:
    """Open repeats in a parsed expression; far too many for one inside of another, or for a reference."""
    count = 0
    for operation, argument in part:
        name = str(operation)
        if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            _, most, body = argument
            is_open = most >= _OPEN
            if is_open and inside:
                return 10**6
            count += is_open + _open_repeats(body, inside or is_open)
        elif name == "GROUPREF":
            return 10**6
        elif name == "BRANCH":
            count += max((_open_repeats(branch, inside) for branch in argument[1]), default=0)
        elif name == "SUBPATTERN":
            count += _open_repeats(argument[3], inside)
        elif name in ("ASSERT", "ASSERT_NOT"):
            count += _open_repeats(argument[1], inside)
        elif name == "ATOMIC_GROUP":
            count += _open_repeats(argument, inside)
        elif name == "GROUPREF_EXISTS":
            return 10**6
    return count
