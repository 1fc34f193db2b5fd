"""kollm's extras and the packages that each installs, as the installed distribution declares them."""

from __future__ import annotations

import functools
import importlib.metadata
import re

_REQUIREMENT = re.compile(r"(?P<package>[\w.-]+).*extra == ['\"](?P<extra>[\w-]+)['\"]")
_JOINED = ("all", "dev", "docs")
"""Extras that are no user's choice of one purpose."""


@functools.cache
def extras() -> dict[str, list[str]]:
    """Extra -> names of its packages; empty where kollm runs from its sources without an installation."""
    found: dict[str, list[str]] = {}
    try:
        requirements = importlib.metadata.requires("kollm") or []
    except importlib.metadata.PackageNotFoundError:
        return found
    for line in requirements:
        if (match := _REQUIREMENT.match(line)) and match["extra"] not in _JOINED:
            found.setdefault(match["extra"], []).append(normalised(match["package"]))
    return found


def normalised(name: str) -> str:
    """A package's name in the form that PyPI compares: `lm_eval` and `LM-Eval` are one."""
    return re.sub(r"[-_.]+", "-", name).lower()


def extra_with(module: str) -> tuple[str, str] | None:
    """The package of a module, and the first extra that installs it; None for a module of no extra."""
    name = normalised(module.partition(".")[0])
    pairs = ((package, extra) for extra, packages in extras().items() for package in packages)
    return next((pair for pair in pairs if pair[0].removeprefix("python-") == name), None)
