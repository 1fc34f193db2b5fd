"""`kollm verdicts`: verdicts of others, and how many verdicts a comparison needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.group(short_help="Import others' verdicts; plan how many are needed.")
def verdicts() -> None:
    """Verdicts of others, and how many a comparison needs."""


@verdicts.command("import", short_help="Read recorded judgments of other projects.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--form",
    default="auto",
    show_default=True,
    type=click.Choice(
        ["auto", "logickor", "kullm3", "komt", "alpaca-eval", "mt-bench", "lm-eval", "inspect", "table"]
    ),
    help="Whose form the files have.",
)
@click.option("-o", "--output", default="verdicts.jsonl", type=click.Path(path_type=Path), show_default=True)
@click.option("--answers", type=click.Path(path_type=Path), help="Write the judged answers here, where the files hold them.")
@click.option("--system", help="What was judged [default: as the file or its path says].")
@click.option("--judge", help="Who judged [default: as the file says].")
@click.option("--map", "columns", multiple=True, metavar="NAME=COLUMN", help="Table: which column holds id, system, judge ...")
@click.option("--axis", "axes", multiple=True, metavar="KEY=COLUMN:LOW-HIGH", help="Table: a column of scores and its scale.")
def import_(
    files: tuple[Path, ...],
    form: str,
    output: Path,
    answers: Path | None,
    columns: tuple[str, ...],
    axes: tuple[str, ...],
    **said: Any,
) -> None:
    """Read recorded judgments in FILES, tell failures from scores, and write verdicts.jsonl (pairs beside it)."""
    from kollm.core.errors import InputError
    from kollm.core.files import ensure_folder, json_line, write_atomic
    from kollm.judge.foreign.forms import import_files
    from kollm.judge.foreign.rows import Source
    from kollm.judge.foreign.table import axis_option, column_option

    told = {"columns": dict(map(column_option, columns)), "axes": dict(map(axis_option, axes))}
    if columns and not axes:
        raise InputError("--map is for tables, whose scores --axis names - add --axis KEY=COLUMN:LOW-HIGH.")
    sources = [
        Source(path, said["system"] or "", said["judge"] or "", **told) for given in files for path in _paths(given)
    ]
    found = import_files(sources, form)
    pairs = output.with_name("pairs.jsonl" if output.name == "verdicts.jsonl" else f"{output.stem}.pairs.jsonl")
    targets = [path for path, rows in ((output, found.verdicts), (pairs, found.pairs), (answers, found.answers)) if rows]
    for path in targets:
        if path is not None and path.exists():
            raise InputError(f"'{path}' is there already - choose another name, or remove it.")
    ensure_folder(output.parent)
    for path, rows in ((pairs, found.pairs), (answers, found.answers), (output, found.verdicts)):
        if path is not None and rows:
            ensure_folder(path.parent)
            write_atomic(path, "".join(json_line(row.to_row()) for row in rows))
    _say(found, output, pairs)


def _paths(given: Path) -> list[Path]:
    from kollm.core.errors import InputError

    if not given.is_dir():
        return [given]
    inside = sorted(path for path in given.rglob("*") if path.suffix in (".json", ".jsonl", ".csv", ".eval"))
    if not inside:
        raise InputError(f"The folder '{given}' holds no .json, .jsonl, .csv or .eval file - name the files.")
    return inside


def _say(found: Any, output: Path, pairs: Path) -> None:
    from kollm.judge.scores import score_tables

    forms = ", ".join(f"{name} {count}" for name, count in found.forms.items())
    if found.verdicts:
        failed = sum(verdict.status != "ok" for verdict in found.verdicts)
        click.echo(f"{len(found.verdicts):,} verdicts in {output} (files: {forms}); {failed:,} failures, which have no score")
        for table in score_tables((verdict.system, verdict) for verdict in found.verdicts):
            click.echo(f"{table.judging.rubric}, judge {table.judging.model or 'not recorded'}:")
            for system in table.systems:
                means = []
                for axis, systems in table.scores.items():
                    scored = [score for score in systems.get(system, {}).values() if score is not None]
                    means.append(f"{axis} {sum(scored) / len(scored):.3f} ({len(scored)})" if scored else f"{axis} -")
                click.echo(f"  {system}: {', '.join(means)}")
    if found.pairs:
        undecided = sum(pair.outcome is None for pair in found.pairs)
        click.echo(f"{len(found.pairs):,} pairs in {pairs}; {undecided:,} without a choice in both orders")
