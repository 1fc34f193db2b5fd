"""`kollm ledger`: what was bought from paid services."""

from __future__ import annotations

from pathlib import Path

import click

from kollm.core.counting import counted

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
                f"{row.kind} {row.engine} {row.model or '-'}: {counted(row.answered, 'text')} answered, "
                f"{counted(row.characters, 'character')}, USD {row.cost:.2f}; {row.in_flight:,} sent without an answer, "
                f"at most {counted(row.lost.characters, 'character')}, USD {row.lost.cost:.2f}"
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
    from kollm.services.ledger.transfer import export_ledger

    with Ledger.open(path) as book:
        click.echo(f"{counted(export_ledger(book, output), 'row')} written to {output}")


@ledger.command(name="import")
@_LEDGER
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def import_(path: Path | None, file: Path) -> None:
    """Add the answers of an exported FILE that are not in the ledger yet."""
    from kollm.services.ledger import Ledger
    from kollm.services.ledger.transfer import import_ledger

    with Ledger.open(path) as book:
        click.echo(f"{counted(import_ledger(book, file), 'answer')} added to {book.path}")


@ledger.command()
@_LEDGER
def check(path: Path | None) -> None:
    """Look for damage: in the file, and in each row."""
    from kollm.core.errors import StateError
    from kollm.services.ledger import default_path
    from kollm.services.ledger.repair import check_ledger

    path = path or default_path()
    checked = check_ledger(path)
    for fault in checked.faults:
        click.echo(fault)
    if checked.more:
        click.echo(f"and {checked.more:,} more")
    if checked.faults:
        count = len(checked.faults) + checked.more
        raise StateError(
            f"The ledger '{path}' has {counted(count, 'fault')} - `kollm ledger salvage NEW` saves the sound rows in a new ledger."
        )
    click.echo(f"{path}: {counted(checked.rows, 'row')}, all sound")


@ledger.command()
@_LEDGER
@click.argument("output", type=click.Path(path_type=Path, dir_okay=False))
def salvage(path: Path | None, output: Path) -> None:
    """Save the sound rows of a damaged ledger in a new one, OUTPUT."""
    from kollm.services.ledger import default_path
    from kollm.services.ledger.repair import salvage_ledger

    saved = salvage_ledger(path or default_path(), output)
    click.echo(
        f"{counted(saved.rows, 'row')} saved in {output}, {saved.answered:,} of them answered; {saved.left_out:,} left out as not "
        f"sound\nTo use it: export KOLLM_LEDGER={output}"
    )


def _preview(text: str, length: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"
