"""`kollm data review`: suspected translation errors into a file that a person corrects, and that builds replay."""

from __future__ import annotations

from pathlib import Path

import click

from kollm.core.counting import counted


@click.command()
@click.argument("dataset")
@click.option("-o", "--output", default="review.jsonl", type=click.Path(path_type=Path), show_default=True)
def review(dataset: str, output: Path) -> None:
    """Look for five kinds of translation error in DATASET and write the rows that have any, worst first.

    Rows that the build left out are looked at too: a corrected one is kept by the next build.
    Fill `corrected` with the fields that are to change, or set `decision` to keep or drop. Then build again with
    --corrections FILE. Run again, the file keeps what was decided.
    """
    from collections import Counter

    from kollm.core.errors import InputError
    from kollm.core.files import ensure_folder
    from kollm.dataset.folder import REJECTED, read_any_records
    from kollm.quality.review import read_review, write_review

    records = [*read_any_records(dataset), *read_any_records(dataset, REJECTED)]
    if not any(record.translated for record in records):
        raise InputError(f"'{dataset}' has no translated rows - build it with a translator first.")
    ensure_folder(output.absolute().parent)
    waiting = write_review(output, records)
    items = read_review(output).values()
    for kind, count in sorted(Counter(hit.kind for item in items for hit in item.errors).items()):
        click.echo(f"{kind}: {count}")
    click.echo(f"{output}: {counted(waiting, 'row')} to look at, {len(items) - waiting} decided, of {len(records)}")
