"""What mkdocs does to each page: links without a language, and the parts that are drawn from the code.

On GitHub a Korean page links to Korean pages (`data.ko.md`) and each page to its other language; on the site a link has
no language and the switch stands in the header. `<!-- drawn: NAME -->` is replaced by what `DRAWN[NAME]` yields.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from kollm.recipe.load import leaves, load_recipe, origin_of, recipe_names
from kollm.recipe.schema import Recipe

ROOT = Path(__file__).resolve().parent.parent
_SWITCH = re.compile(r"^\[(?:한국어|English)\]\([\w-]+(?:\.ko)?\.md\)\n", re.MULTILINE)
_KOREAN_LINK = re.compile(r"(\]\([\w/.-]+)\.ko\.md\b")
_DRAWN = re.compile(r"<!-- drawn: (\w+) -->")


def on_page_markdown(markdown: str, **_: Any) -> str:
    markdown = _KOREAN_LINK.sub(r"\1.md", _SWITCH.sub("", markdown))
    return _DRAWN.sub(lambda match: "\n".join(DRAWN[match[1]]()), markdown)


def recipe_keys() -> Iterator[str]:
    """A table a section of the schema: key, type, default."""
    for prefix, model in _sections(Recipe):
        title = f"`{prefix.rstrip('.')}`" if prefix else "`recipe`"
        yield f"### {title}\n\n{(model.__doc__ or '').strip()}\n\n| key | type | default |\n|---|---|---|"
        for name, field in model.model_fields.items():
            if field.is_required():
                default = "required"
            elif field.default is PydanticUndefined or isinstance(field.default, BaseModel):
                default = "a section of its own"
            else:
                default = f"`{field.default!r}`"
            yield f"| `{prefix}{name}` | `{_cell(_type_name(field.annotation))}` | {_cell(default)} |"
        yield ""


def shipped_recipes() -> Iterator[str]:
    """A table a shipped recipe: the values that it sets, each with its origin."""
    for name in recipe_names():
        recipe = load_recipe(name)
        yield f"### {name}\n\n{recipe.description}\n\n| key | value | origin |\n|---|---|---|"
        for key, value in leaves(recipe.model_dump(mode="json", exclude={"origins", "name", "description"})):
            if origin := origin_of(key, recipe.origins):
                yield f"| `{key}` | `{_cell(value)}` | {_cell(origin)} |"
        yield ""


def measurements() -> Iterator[str]:
    """What benchmarks/RESULTS.md holds, below its title."""
    yield from (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8").splitlines()[1:]


DRAWN: dict[str, Callable[[], Iterator[str]]] = {
    "recipe_keys": recipe_keys,
    "shipped_recipes": shipped_recipes,
    "measurements": measurements,
}


def _sections(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """The model and the models within it, each with the dotted key under which it stands."""
    yield prefix, model
    for name, field in model.model_fields.items():
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _sections(kind, f"{prefix}{name}.")


def _type_name(annotation: object) -> str:
    return re.sub(r"(kollm\.[a-z_.]+\.|typing\.|<class '|'>)", "", str(annotation))


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")
