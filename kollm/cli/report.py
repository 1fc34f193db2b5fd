"""`kollm report`: tables, figures and samples of one run or several, in one HTML file."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Tables, figures and samples in one HTML file.")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="An .html file, or a folder for report.html [default: the first folder].",
)
@click.option("--rubric", "rubrics", multiple=True, help="YAML file of a rubric that does not come with kollm.")
@click.option("--samples", default=20_000, show_default=True, type=click.IntRange(0), help="Most answers on the page.")
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    help="Show the judges' means corrected by these labels of some answers.",
)
def report(
    folders: tuple[Path, ...], output: Path | None, rubrics: tuple[str, ...], samples: int, labels: Path | None
) -> None:
    """Report the work folders FOLDERS beside each other and beside published numbers.

    Writes one HTML file that needs no network, and beside it the numbers as .json and the table as .md.
    """
    from kollm.report import write_report

    page = write_report(folders, output, rubrics=rubrics, samples=samples, labels=labels)
    for path in (page, page.with_suffix(".json"), page.with_suffix(".md")):
        click.echo(path)
