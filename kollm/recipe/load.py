"""Reading recipes: from their YAML files, with what they extend and with overrides.

A recipe may start from another (`extends: NAME`); its own keys win, section by section and key by key.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel, ValidationError

from kollm.core.errors import InputError, RecipeError, did_you_mean
from kollm.core.files import read_text
from kollm.core.reading import parse_yaml, shown, validated
from kollm.core.resources import resource_folder
from kollm.recipe.schema import Recipe

STEP_KEYS = ("method", "trainer", "global_batch_size")
"""Keys of a recipe's section `preference` that the training on its pairs depends on."""


def recipe_names() -> list[str]:
    """Names of the shipped recipes, sorted; those that begin with `_` are parts of others and are left out."""
    return sorted(p.stem for p in resource_folder("recipe/recipes").glob("*.yaml") if not p.stem.startswith("_"))


class Place(NamedTuple):
    """Where a value stands.

    Attributes:
        file: the recipe's file; `--set` for an override.
        line: its line, from 1; 0 where there is none.
    """

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class TracedRecipe(NamedTuple):
    """A recipe, and where each value stands that is not a default; keyed by dotted name."""

    recipe: Recipe
    places: dict[str, Place]


def load_recipe(name_or_path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Load a shipped recipe by name, or a YAML file by path, with `section.key=value` overrides applied.

    Raises:
        RecipeError: no such recipe, malformed YAML, an unknown key, or a value that does not fit.
    """
    return trace_recipe(name_or_path, overrides).recipe


def trace_recipe(name_or_path: str | Path, overrides: Iterable[str] = ()) -> TracedRecipe:
    """`load_recipe`, with the file and line of each value.

    A value that a file or an override replaces loses the origin that was said of the replaced one.

    Raises:
        RecipeError: as load_recipe.
    """
    path = _find(str(name_or_path))
    layers = _Layers()
    for file in reversed(_chain(path)):
        layers.add(file)
    for text in overrides:
        layers.override(text)
    values = layers.whole()
    values.setdefault("name", path.stem)
    return TracedRecipe(parse_recipe(values, str(path)), layers.places)


def override(recipe: Recipe, overrides: Iterable[str]) -> Recipe:
    """A recipe in memory with `section.key=value` overrides applied.

    Raises:
        RecipeError: an unknown key, or a value that does not fit.
    """
    layers = _Layers(recipe.model_dump(mode="json"))
    for text in overrides:
        layers.override(text)
    return parse_recipe(layers.whole(), recipe.name)


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


class _Layer(NamedTuple):
    """What one file of a chain says.

    Attributes:
        values: its keys and values, `extends` left out.
        lines: line of each key by its dotted name.
        path: the file.
        parent: what it extends.
    """

    values: dict[str, Any]
    lines: dict[str, int]
    path: Path
    parent: str | None


class _Layers:
    """The values of a chain of recipes, from the one that extends nothing to the last override."""

    def __init__(self, values: dict[str, Any] | None = None) -> None:
        self.values = dict(values or {})
        self.places: dict[str, Place] = {}
        self._origins: dict[str, Any] = self.values.pop("origins", {})

    def add(self, layer: _Layer) -> None:
        """Put a file over those before it."""
        for key in ("name", "description"):
            self.values.pop(key, None)
            self.places.pop(key, None)
        values = dict(layer.values)
        said = values.pop("origins", {})
        for key, value in leaves(values):
            self._replace(key, value, Place(_shown(layer.path), layer.lines.get(key, 0)), f"set in {layer.path.name}")
        self.values = _merge(self.values, values)
        if not isinstance(said, dict):
            raise RecipeError(f"Recipe {layer.path}: origins is {said!r} - write dotted keys and where they come from.")
        self._origins |= said

    def override(self, text: str) -> None:
        """Put one `section.key=value` over all files."""
        key, separator, written = text.partition("=")
        if not separator:
            raise RecipeError(f"The override '{text}' has no '=' - write section.key=value.")
        try:
            value = parse_yaml(written, "")
        except InputError as error:
            raise RecipeError(f"The override '{text}' is not valid YAML after '=' - quote the value.") from error
        if key.startswith("origins."):  # its keys have dots of their own
            self._origins[key.removeprefix("origins.")] = value
            return
        *sections, last = key.split(".")
        target = self.values
        for section in sections:
            target = target.setdefault(section, {})
            if not isinstance(target, dict):
                raise RecipeError(f"The override '{text}': '{section}' holds no keys - write section.key=value.")
        self._replace(key, value, Place("--set"), OVERRIDE, always=True)
        target[last] = value

    def whole(self) -> dict[str, Any]:
        """All values, the origins among them."""
        return {**self.values, **({"origins": self._origins} if self._origins else {})}

    def _replace(self, key: str, value: Any, place: Place, origin: str, always: bool = False) -> None:
        """Note where a value stands now; the origin of another value that stood there is no longer said."""
        if key in self.places and _value_at(self.values, key) == value:
            return  # said again, and not another value
        under = [name for name in self.places if f"{name}.".startswith(f"{key}.")]
        if always or any(origin_of(name, self._origins) for name in (key, *under)):
            kept = {name: text for name, text in self._origins.items() if not f"{name}.".startswith(f"{key}.")}
            self._origins = {**kept, key: origin}
        for name in under:
            del self.places[name]
        self.places[key] = place


OVERRIDE = "override"
"""Origin of a value that was given beside the recipe."""


def _chain(path: Path) -> list[_Layer]:
    """A recipe's file and those that it extends, one after the other."""
    seen: list[Path] = []
    layers: list[_Layer] = []
    while True:
        if path in seen:
            raise RecipeError(f"Recipe {path}: `extends` leads back to itself - remove one of the links.")
        seen.append(path)
        layers.append(_read(path))
        parent = layers[-1].parent
        if parent is None:
            return layers
        relative = path.parent / parent
        path = relative if relative.is_file() else _find(parent)


def _read(path: Path) -> _Layer:
    try:
        layer = _parsed(path, read_text(path))
    except InputError as error:
        raise RecipeError(str(error)) from error
    return layer._replace(values=copy.deepcopy(layer.values))


@functools.lru_cache(maxsize=64)
def _parsed(path: Path, text: str) -> _Layer:
    """One file, parsed once: recipes share those that they extend. libyaml would be faster; it crashes on deep nesting (0.2.5)."""
    values = parse_yaml(text, f"Recipe {path}")
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise RecipeError(
            f"Recipe {path}: holds {type(values).__name__}, not keys and values - see `kollm recipe show demo`."
        )
    parent = values.pop("extends", None)
    if parent is not None and not isinstance(parent, str):
        raise RecipeError(f"Recipe {path}: extends is {parent!r} - name one recipe.")
    return _Layer(values, _lines(yaml.compose(text, yaml.SafeLoader)), path, parent)


def _shown(path: Path) -> str:
    """A shipped recipe by its name, another by its path."""
    shipped = path.parent == resource_folder("recipe/recipes")
    return path.name if shipped else str(path)


def _lines(node: yaml.Node | None) -> dict[str, int]:
    """Line of each key of nested mappings; of one that several names stand for, the first time."""
    lines: dict[str, int] = {}
    seen: set[int] = set()
    waiting: list[tuple[str, yaml.Node | None]] = [("", node)]
    while waiting:
        prefix, inside = waiting.pop()
        if not isinstance(inside, yaml.MappingNode) or id(inside) in seen:
            continue
        seen.add(id(inside))
        for key, value in inside.value:
            name = f"{prefix}{key.value}"
            lines[name] = key.start_mark.line + 1
            waiting.append((f"{name}.", value))
    return lines


def _merge(under: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of what holds no keys itself."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _value_at(values: Mapping[str, Any], key: str) -> Any:
    inside: Any = values
    for name in key.split("."):
        inside = inside.get(name) if isinstance(inside, Mapping) else None
    return inside


def origin_of(key: str, origins: Mapping[str, str]) -> str:
    """What is said of a key, or of the section that it stands in; empty for nothing."""
    while key:
        if key in origins:
            return str(origins[key])
        key = key.rpartition(".")[0]
    return ""


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


def preferring(recipe: Recipe) -> Recipe:
    """The recipe of the training on pairs: base, prompt and adapter stay, method and trainer are those of the step.

    Args:
        recipe: one with a section `preference`.

    Raises:
        InputError: the trainer has a key that the method does not take.
    """
    assert recipe.preference is not None
    values = recipe.model_dump(mode="json", exclude={"origins", "early_stopping"})
    step = recipe.preference.model_dump(mode="json", include=set(STEP_KEYS))
    what_to_do = "see `kollm recipe show`"
    return validated(Recipe, {**values, **step, "preference": None}, f"Recipe {recipe.name}: preference", what_to_do)
