"""`kollm data`: plan, build and check Korean instruction datasets."""

from __future__ import annotations

import click

from kollm.cli.review import review
from kollm.cli.synthesize import synthesize


@click.group()
def data() -> None:
    """Plan, build and check Korean instruction datasets."""


data.add_command(review)
data.add_command(synthesize)


def _by_source(values: tuple[str, ...], sources: tuple[str, ...], option: str) -> dict[str, str]:
    """`--input PATH` for all sources or `--input NAME=PATH` for one."""
    paths: dict[str, str] = {}
    for value in values:
        name, separator, path = value.partition("=")
        if separator and name in sources:
            paths[name] = path
        elif len(sources) == 1 or value == "sample":
            paths.update({source: value for source in sources if source not in paths})
        else:
            raise click.UsageError(f"{option} {value}: with several sources write {option} NAME={value}.")
    return paths


@data.command()
@click.argument("sources", nargs=-1, required=True)
@click.option("--input", "inputs", multiple=True, help="File, Hub id or 'sample'; NAME=... for one source of several.")
@click.option("--memory", "memories", multiple=True, help="Korean rows for the memory translator; NAME=... for one.")
@click.option("--translator", default="memory", show_default=True)
@click.option("--filters", default="default", show_default=True)
@click.option("--limit", type=click.IntRange(min=1), help="Rows to read of each source.")
@click.option("-o", "--output", required=True, type=click.Path(), help="Folder of the dataset.")
def build(
    sources: tuple[str, ...],
    inputs: tuple[str, ...],
    memories: tuple[str, ...],
    translator: str,
    filters: str,
    limit: int | None,
    output: str,
) -> None:
    """Build a dataset folder: read, translate, filter, write."""
    from kollm.build import SourceInput, build_dataset

    paths, memory = _by_source(inputs, sources, "--input"), _by_source(memories, sources, "--memory")
    report = build_dataset(
        [SourceInput(name, paths.get(name), None, memory.get(name)) for name in sources],
        translator=translator,
        output=output,
        filters=filters,
        limit=limit,
    )
    for config, rows in report.rows.items():
        click.echo(f"{config}: {rows} rows")
    for reason, rows in sorted(report.dropped.items()):
        click.echo(f"dropped, {reason}: {rows}")
    click.echo(f"{report.folder}")
