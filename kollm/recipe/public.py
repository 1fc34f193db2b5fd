"""What may be told of a recipe elsewhere: the names of files of this machine in place of their paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kollm.recipe.schema import Recipe


def public_values(recipe: Recipe) -> dict[str, Any]:
    """The recipe's values, each path of a file or folder that is here as its name alone."""
    values: dict[str, Any] = recipe.model_dump(mode="json")
    data = values["data"]
    for source in (*data["sources"], data["evaluation"] or {}):
        source.update({key: _file_name(source.get(key)) for key in ("input", "memory") if key in source})
    for given in (data, *data["datasets"]):
        given["dataset"] = _file_name(given["dataset"])
    data["against"] = [_file_name(name) for name in data["against"]]
    data["corrections"] = _file_name(data["corrections"] or None) or ""
    for key in ("model", "new_tokens"):
        values["base"][key] = _file_name(values["base"][key])
    values["prompt"] = _file_name(values["prompt"])
    values["judge"]["rubric"] = _file_name(values["judge"]["rubric"])
    return values


def _file_name(value: str | None) -> str | None:
    return Path(value).name if value is not None and (Path(value).is_absolute() or Path(value).exists()) else value
