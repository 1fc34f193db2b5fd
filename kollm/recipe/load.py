"""Reading recipes: from their YAML files, with what they extend and with overrides.

A recipe may start from another (`extends: NAME`); its own keys win, section by section and key by key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from kollm.core.errors import InputError, RecipeError, did_you_mean
from kollm.core.files import read_text
from kollm.core.reading import parse_yaml, shown
from kollm.core.resources import resource_folder
from kollm.recipe.schema import Recipe


def recipe_names() -> list[str]:
    """Names of the shipped recipes, sorted; those that begin with `_` are parts of others and are left out."""
    return sorted(p.stem for p in resource_folder("recipe/recipes").glob("*.yaml") if not p.stem.startswith("_"))


def load_recipe(name_or_path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Load a shipped recipe by name, or a YAML file by path, with `section.key=value` overrides applied.

    Raises:
        RecipeError: no such recipe, malformed YAML, an unknown key, or a value that does not fit.
    """
    path = _find(str(name_or_path))
    values = _read(path, seen=())
    for override in overrides:
        _apply(values, override)
    values.setdefault("name", path.stem)
    return parse_recipe(values, str(path))


def override(recipe: Recipe, overrides: Iterable[str]) -> Recipe:
    """A recipe in memory with `section.key=value` overrides applied.

    Raises:
        RecipeError: an unknown key, or a value that does not fit.
    """
    values = recipe.model_dump(mode="json")
    for text in overrides:
        _apply(values, text)
    return parse_recipe(values, recipe.name)


def parse_recipe(values: Mapping[str, Any], where: str) -> Recipe:
    """Validate the values of one recipe.

    Raises:
        RecipeError: an unknown key or a value that does not fit; the message lists every fault.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(f"Recipe {where}: " + "; ".join(_explain(item) for item in error.errors())) from error


def _find(name: str) -> Path:
    if name in [p.stem for p in resource_folder("recipe/recipes").glob("*.yaml")]:
        return resource_folder("recipe/recipes") / f"{name}.yaml"
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise RecipeError(f"The recipe file '{name}' does not exist - check the path.")
    raise RecipeError(
        f"There is no recipe '{name}'{did_you_mean(name, recipe_names())} - `kollm recipe list` shows them; "
        "a file of yours must end in .yaml."
    )


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path in seen:
        raise RecipeError(f"Recipe {path}: `extends` leads back to itself - remove one of the links.")
    try:
        values = parse_yaml(read_text(path), f"Recipe {path}")
    except InputError as error:
        raise RecipeError(str(error)) from error
    if not isinstance(values, dict):
        raise RecipeError(
            f"Recipe {path}: holds {type(values).__name__}, not keys and values - see `kollm recipe show demo`."
        )
    parent = values.pop("extends", None)
    if parent is None:
        return values
    if not isinstance(parent, str):
        raise RecipeError(f"Recipe {path}: extends is {parent!r} - name one recipe.")
    relative = path.parent / parent
    inherited = _read(relative if relative.is_file() else _find(parent), (*seen, path))
    for key in ("name", "description"):
        inherited.pop(key, None)
    return _merge(inherited, values)


def _merge(under: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def _apply(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise RecipeError(f"The override '{override}' has no '=' - write section.key=value.")
    *sections, last = key.split(".")
    target = values
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise RecipeError(f"The override '{override}': '{section}' holds no keys - write section.key=value.")
    try:
        target[last] = parse_yaml(text, "")
    except InputError as error:
        raise RecipeError(f"The override '{override}' is not valid YAML after '=' - quote the value.") from error
    if sections[:1] != ["origins"] and isinstance(values.setdefault("origins", {}), dict):
        kept = {name: origin for name, origin in values["origins"].items() if not f"{name}.".startswith(f"{key}.")}
        values["origins"] = {**kept, key: "override"}  # what the recipe says of a value is not said of another


def _explain(item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return f"unknown key '{key}'{did_you_mean(key.rsplit('.', 1)[-1], _known_keys(item['loc'][:-1]))}"
    if item["type"] == "missing":
        return f"the key '{key}' is missing - add it"
    if item["type"] == "value_error":
        return str(item["ctx"]["error"])
    return f"'{key}' is {shown(item['input'])} - {item['msg'][0].lower()}{item['msg'][1:]}"


def _known_keys(location: Sequence[Any]) -> list[str]:
    model: type[BaseModel] = Recipe
    for part in location:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[str(part)].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), Recipe)
    return list(model.model_fields)
