"""`kollm vocabulary`: a base with more Korean tokens."""

from __future__ import annotations

import click

from kollm.core.counting import counted


@click.command(short_help="Extend a base's vocabulary by Korean tokens.")
@click.argument("base")
@click.option("--revision", help="Commit of the base on the Hub.")
@click.option("--text", "texts", multiple=True, required=True, metavar="TEXT", help="Text file, dataset folder or Hub id to learn from; may be repeated.")  # fmt: skip
@click.option("--size", type=click.IntRange(min=1), required=True, help="Tokens in all, e.g. 46336.")
@click.option("-o", "--output", required=True, type=click.Path(), help="Folder of the extended base.")
def vocabulary(base: str, revision: str | None, texts: tuple[str, ...], size: int, output: str) -> None:
    """Extend a base's vocabulary by Korean tokens, as LLaMA-2-Ko did."""
    from pathlib import Path

    from kollm.dataset.corpus import read_texts
    from kollm.train.vocabulary import extend_base

    sizes = extend_base(base, list(read_texts(texts)), size, Path(output), revision)
    before, after = sizes["before"], sizes["after"]
    click.echo(
        f"vocabulary: {before['tokens']:,} -> {counted(after['tokens'], 'token')}; "
        f"{before['tokens_per_character']:.3f} -> {after['tokens_per_character']:.3f} tokens a character of these texts"
    )
    if after["tokens"] < size:
        click.echo(
            f"vocabulary: the texts hold pairs for {counted(after['tokens'], 'token')} only - give more text for {size:,}"
        )
