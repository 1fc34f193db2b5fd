"""`kollm data corpus`: plain text as a dataset, for more pre-training."""

from __future__ import annotations

import click

from kollm.core.counting import counted


@click.command()
@click.argument("texts", nargs=-1, required=True, metavar="TEXT...")
@click.option("-o", "--output", required=True, type=click.Path(), help="Folder of the dataset.")
def corpus(texts: tuple[str, ...], output: str) -> None:
    """Make a dataset of text files, dataset folders or Hub ids, a document a row."""
    from pathlib import Path

    from kollm.dataset.corpus import build_corpus

    rows = build_corpus(texts, Path(output))
    click.echo(f"corpus: {counted(rows, 'row')} in {output}")
