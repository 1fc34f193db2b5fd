"""Renders the templates of `model_cards/`: what is missing or empty is an error that names it, never a blank."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import yaml
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kollm.core.counting import counted
from kollm.core.errors import InputError
from kollm.core.resources import resource_folder


class MissingFigureError(Exception):
    """A value in a card is empty or no number."""


def render_template(template: str, what: str, /, **values: Any) -> str:
    """One card.

    Args:
        template: file in `model_cards/`.
        what: whose card it is, for the error.
        values: what the template names; `None` counts as missing.

    Raises:
        InputError: a value is missing.
    """
    try:
        return _environment(resource_folder("model_cards")).get_template(template).render(values)
    except (jinja2.UndefinedError, MissingFigureError) as error:
        raise InputError(
            f"The card of {what} misses a figure ({error}) - run the stage again that writes it."
        ) from error


@functools.cache
def _environment(folder: Path) -> ImmutableSandboxedEnvironment:
    """The cards' templates, compiled once."""
    environment = ImmutableSandboxedEnvironment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        finalize=_present,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(count=_count, counted=_counted, decimal=_decimal, duration=_duration)
    return environment


def to_yaml(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """YAML as people write it: in the order given, Korean readable."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1000).strip()


def _present(value: Any) -> Any:
    if value is None:
        raise MissingFigureError("a value is null")
    return value


def _number(value: Any) -> float:
    if isinstance(value, jinja2.Undefined):
        value = str(value)  # raises, naming what is undefined
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise MissingFigureError(f"{value!r} is no number")
    return value


def _count(value: Any) -> str:
    return f"{int(_number(value)):,}"


def _counted(value: Any, one: str, many: str | None = None) -> str:
    return counted(int(_number(value)), one, many)


def _decimal(value: Any) -> str:
    return f"{_number(value):.3f}"


def _duration(value: Any) -> str:
    seconds = _number(value)
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 3600:.2f} h"
