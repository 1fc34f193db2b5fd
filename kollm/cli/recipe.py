"""`kollm recipe list | show | check | new`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kollm.cli.own import own_from, own_options
from kollm.core.counting import counted


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
    """Every value of a recipe, where it comes from, and the file and line where it stands.

    Where a value comes from is what `origins` says of it or of the section it stands in; a value that no file sets is
    kollm's default.
    """
    from kollm.recipe.load import leaves, origin_of, trace_recipe

    loaded, places = trace_recipe(name, overrides)
    rows = list(leaves(loaded.model_dump(mode="json", exclude={"origins", "name", "description"})))
    width = max(len(key) for key, _ in rows)
    click.echo(f"# {loaded.name}: {loaded.description}")
    for key, value in rows:
        place = next((place for known, place in places.items() if f"{key}.".startswith(f"{known}.")), None)
        origin = origin_of(key, loaded.origins) or ("" if place else "default")
        where = f"{origin}  ({place})" if place else origin
        click.echo(f"{key:<{width}}  {_text(value):<28}  {where}".rstrip())
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
            f"{output}: {made.base.model}, {counted(len(made.adapter.targets), 'matrix', 'matrices')}, {made.trainer['max_length']} tokens"
        )


@recipe.command()
@click.argument("file")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one value.")
@click.option("--config", help="Accelerate config that it is to run with, by name or file.")
def check(file: str, overrides: tuple[str, ...], config: str | None) -> None:
    """Check a recipe file: keys, types, settings that exclude each other, and every name in it.

    Sources, datasets, base, prompt and rubric are looked up; what only the Hub can tell is left open where it cannot be
    reached. Keys of accounts and disks are looked at by `kollm run --dry-run`.
    """
    from kollm.core.errors import RecipeError
    from kollm.recipe.load import load_recipe
    from kollm.run.checks import check_run
    from kollm.train.check import check_recipe

    loaded = load_recipe(file, overrides)
    found = check_run(loaded)
    if config is not None:
        with found.of():
            check_recipe(loaded, config)
    for line in found.unknown:
        click.echo(f"not checked: {line}", err=True)
    if found.faults:
        raise RecipeError("; ".join(found.faults))
    click.echo(f"{file}: a valid recipe for {loaded.base.model} ({loaded.adapter.method}, {loaded.quantization}).")


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value) or "-"
    if isinstance(value, dict):
        return " ".join(f"{key}={_text(item)}" for key, item in value.items() if item is not None) or "-"
    return str(value)
