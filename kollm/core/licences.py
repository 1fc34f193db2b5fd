"""Licences of rows, and the one that a set of them can be put under: never freer than any part."""

from __future__ import annotations

from collections.abc import Iterable

OPENAI_TERMS = "LicenseRef-OpenAI-terms"
"""ChatGPT's answers that people shared: no licence was given, OpenAI's terms of use apply."""

_PERMISSIVE = ("CC0-1.0", "MIT", "Apache-2.0", "CC-BY-3.0", "CC-BY-4.0")
_ASKS_NO_MORE: dict[str, tuple[str, ...]] = {
    **{name: _PERMISSIVE[:position] for position, name in enumerate(_PERMISSIVE)},
    "CC-BY-SA-3.0": _PERMISSIVE,
    "CC-BY-SA-4.0": (*_PERMISSIVE, "CC-BY-SA-3.0"),
    "CC-BY-NC-4.0": _PERMISSIVE,
    "CC-BY-NC-SA-4.0": (*_PERMISSIVE, "CC-BY-NC-4.0"),
}
"""Licence -> those that ask nothing of a user which it does not ask too. Share-alike and non-commercial licences stand
in no order: rows of one may not be passed on under the other."""


def common_licence(licences: Iterable[str]) -> str:
    """The strictest of the licences where it covers all of them, else `other`.

    Returns:
        A licence identifier as the Hub's cards write it, in lower case.
    """
    names = set(licences)
    for name in sorted(names):
        if names <= {name, *_ASKS_NO_MORE.get(name, ())} and name in _ASKS_NO_MORE:
            return name.lower()
    return "other"
