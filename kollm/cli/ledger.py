"""`kollm ledger`: what was bought from paid services."""

from __future__ import annotations

from pathlib import Path

import click

_LEDGER = click.option(
    "--ledger",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The ledger file; default: $KOLLM_LEDGER, else the user data directory.",
)


@click.group()
def ledger() -> None:
    """What was bought from paid services."""


@ledger.command()
@_LEDGER
@click.option("--in-flight", "listed", is_flag=True, help="List each text that was sent and got no answer.")
def stats(path: Path | None, listed: bool) -> None:
    """Texts answered, characters and USD, and what may have been charged without an answer."""
    from kollm.services.ledger import Ledger

    with Ledger.open(path) as book:
        click.echo(f"ledger {book.path}")
        rows = book.stats()
        for row in rows:
            click.echo(
                f"{row.kind} {row.engine} {row.model or '-'}: {row.answered:,} texts answered, "
                f"{row.characters:,} characters, USD {row.cost:.2f}; {row.in_flight:,} sent without an answer, "
                f"at most {row.lost.characters:,} characters, USD {row.lost.cost:.2f}"
            )
        if not rows:
            click.echo("nothing bought yet")
        for item in book.in_flight() if listed else ():
            state = "answered later" if item.answered else "not answered"
            click.echo(f"  {item.key} sent {item.sends}x, {state}: {_preview(item.purchase.text)}")


@ledger.command()
@_LEDGER
@click.argument("output", type=click.Path(path_type=Path, dir_okay=False))
def export(path: Path | None, output: Path) -> None:
    """Write the ledger as JSON Lines to OUTPUT."""
    from kollm.services.ledger import Ledger

    with Ledger.open(path) as book:
        click.echo(f"{book.export(output):,} rows written to {output}")


@ledger.command(name="import")
@_LEDGER
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def import_(path: Path | None, file: Path) -> None:
    """Add the answers of an exported FILE that are not in the ledger yet."""
    from kollm.services.ledger import Ledger

    with Ledger.open(path) as book:
        click.echo(f"{book.import_(file):,} answers added to {book.path}")


def _preview(text: str, length: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"
