"""`kollm recipe list | show | check | new`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from kollm.cli.own import own_from, own_options


@click.group()
def recipe() -> None:
    """List, show and check recipes."""


@recipe.command("list")
def list_recipes() -> None:
    """Shipped recipes, a line each."""
    from kollm.recipe.load import load_recipe, recipe_names

    rows = [(name, load_recipe(name)) for name in recipe_names()]
    width = max(len(name) for name, _ in rows)
    for name, loaded in rows:
        click.echo(f"{name:<{width}}  {loaded.description}")


@recipe.command()
@click.argument("name")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one value.")
def show(name: str, overrides: tuple[str, ...]) -> None:
    """Every value of a recipe, and where it comes from.

    The origin of a value is what the recipe's `origins` says of it or of the section it stands in; a value without one
    is kollm's default.
    """
    from kollm.recipe.load import load_recipe

    loaded = load_recipe(name, overrides)
    rows = list(_flatten(loaded.model_dump(mode="json", exclude={"origins", "name", "description"})))
    width = max(len(key) for key, _ in rows)
    click.echo(f"# {loaded.name}: {loaded.description}")
    for key, value in rows:
        click.echo(f"{key:<{width}}  {_text(value):<28}  {_origin(key, loaded.origins)}".rstrip())
    click.echo(f"# fingerprint {loaded.fingerprint()}")


@recipe.command("new")
@click.option("--base", required=True, help="Base model: a folder or ORG/NAME.")
@click.option("--dataset", help="Rows that it is for: a dataset folder, a Hub id, or rows of yours.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write; else it is printed.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one value.")
@own_options
def new(base: str, dataset: str | None, output: Path | None, overrides: tuple[str, ...], **own: Any) -> None:
    """Make a recipe for a base, its values chosen by the base, this machine's card and the rows."""
    from kollm.core.errors import InputError
    from kollm.dataset.given import given_records
    from kollm.recipe.load import override
    from kollm.train.new_recipe import new_recipe, recipe_text, save_recipe

    said = own_from(own)
    if output is not None and output.exists():
        raise InputError(f"'{output}' exists already - name another file, or remove it.")
    made = override(new_recipe(base, given_records(dataset, said, split="train") if dataset else ()), overrides)
    if output is None:
        click.echo(recipe_text(made), nl=False)
    else:
        save_recipe(made, output)
        click.echo(
            f"{output}: {made.base.model}, {len(made.adapter.targets)} matrices, {made.trainer['max_length']} tokens"
        )


@recipe.command()
@click.argument("file")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one value.")
@click.option("--config", help="Accelerate config that it is to run with, by name or file.")
def check(file: str, overrides: tuple[str, ...], config: str | None) -> None:
    """Check a recipe file: keys, types, and settings that exclude each other."""
    from kollm.recipe.load import load_recipe
    from kollm.train.check import check_recipe

    loaded = load_recipe(file, overrides)
    check_recipe(loaded, config)
    click.echo(f"{file}: a valid recipe for {loaded.base.model} ({loaded.adapter.method}, {loaded.quantization}).")


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value) or "-"
    if isinstance(value, dict):
        return " ".join(f"{key}={_text(item)}" for key, item in value.items() if item is not None) or "-"
    return str(value)


def _origin(key: str, origins: Mapping[str, str]) -> str:
    while key:
        if key in origins:
            return origins[key]
        key = key.rpartition(".")[0]
    return "default"
