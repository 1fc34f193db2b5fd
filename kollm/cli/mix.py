"""`kollm data mix`: several datasets as one, each with its share."""

from __future__ import annotations

from pathlib import Path

import click

from kollm.cli.own import DATASET


@click.command()
@click.argument("datasets", nargs=-1, required=True, metavar=f"{DATASET}...")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draw.")
@click.option("--licence", default="", help="Licence of rows of yours; needed to push.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder of the mixture.")
def mix(datasets: tuple[str, ...], seed: int, licence: str, output: Path) -> None:
    """Draw a mixture of dataset folders, Hub ids and rows of yours into one dataset folder.

    weight is a share of the weighted rows, limit a number of rows, repeat a number of copies; without one of them, all
    rows are taken.
    """
    from kollm.dataset.given import given_datasets
    from kollm.dataset.mixture import parse_given
    from kollm.sources.own import OwnOptions

    given = [parse_given(text) for text in datasets]
    click.echo(given_datasets(given, output.absolute().parent, OwnOptions(licence=licence), seed, output))
