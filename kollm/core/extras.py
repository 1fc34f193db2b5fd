"""kollm's extras and the packages that each installs, as the installed distribution declares them."""

from __future__ import annotations

import functools
import importlib.metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_JOINED = ("all", "dev", "docs")
"""Extras that are no user's choice of one purpose."""


@functools.cache
def extras() -> dict[str, list[str]]:
    """Extra -> names of its packages on this system; empty where kollm runs from its sources without an installation."""
    try:
        about = importlib.metadata.metadata("kollm")
    except importlib.metadata.PackageNotFoundError:
        return {}
    needed = [Requirement(line) for line in about.get_all("Requires-Dist") or ()]
    return {
        extra: [
            canonicalize_name(each.name) for each in needed if each.marker and each.marker.evaluate({"extra": extra})
        ]
        for extra in about.get_all("Provides-Extra") or ()
        if extra not in _JOINED
    }


def extra_with(module: str) -> tuple[str, str] | None:
    """The package of a module, and the first extra that installs it; None for a module of no extra."""
    name = canonicalize_name(module.partition(".")[0])
    pairs = ((package, extra) for extra, packages in extras().items() for package in packages)
    return next((pair for pair in pairs if pair[0].removeprefix("python-") == name), None)
