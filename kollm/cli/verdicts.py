"""`kollm verdicts`: verdicts of others, how many a comparison needs, and judges over time."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from kollm.cli.judges import bridge, drift, seal
from kollm.core.counting import counted


@click.group(short_help="Import others' verdicts, plan how many are needed, watch a judge, bridge two.")
def verdicts() -> None:
    """Verdicts of others, how many a comparison needs, and what becomes of a judge over time."""


for _command in (seal, drift, bridge):
    verdicts.add_command(_command)


@verdicts.command("import", short_help="Read recorded judgments of other projects.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--form",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "logickor", "kullm3", "komt", "alpaca-eval", "mt-bench", "lm-eval", "inspect", "table"]),
    help="Whose form the files have.",
)
@click.option("-o", "--output", default="verdicts.jsonl", type=click.Path(path_type=Path), show_default=True)
@click.option(
    "--answers", type=click.Path(path_type=Path), help="Write the judged answers here, where the files hold them."
)
@click.option("--system", help="What was judged [default: as the file or its path says].")
@click.option("--judge", help="Who judged [default: as the file says].")
@click.option(
    "--map", "columns", multiple=True, metavar="NAME=COLUMN", help="Table: which column holds id, system, judge ..."
)
@click.option(
    "--axis", "axes", multiple=True, metavar="KEY=COLUMN:LOW-HIGH", help="Table: a column of scores and its scale."
)
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
    from kollm.core.lock import output_lock
    from kollm.judge.foreign.forms import import_files
    from kollm.judge.foreign.rows import Source
    from kollm.judge.foreign.table import axis_option, column_option

    told: dict[str, Any] = {"columns": dict(map(column_option, columns)), "axes": dict(map(axis_option, axes))}
    if columns and not axes:
        raise InputError("--map is for tables, whose scores --axis names - add --axis KEY=COLUMN:LOW-HIGH.")
    sources = [
        Source(path, said["system"] or "", said["judge"] or "", **told) for given in files for path in _paths(given)
    ]
    found = import_files(sources, form)
    pairs = output.with_name("pairs.jsonl" if output.name == "verdicts.jsonl" else f"{output.stem}.pairs.jsonl")
    contents = {  # the verdicts last: with them the import is done
        path: "".join(json_line(row.to_row()) for row in rows)
        for path, rows in ((pairs, found.pairs), (answers, found.answers), (output, found.verdicts))
        if path is not None and rows
    }
    with ExitStack() as held:
        for path, content in contents.items():
            held.enter_context(output_lock(path, command="kollm verdicts import"))
            # What an import that was cut off has written stands in nobody's way.
            if path.exists() and (path == output or path.read_text(encoding="utf-8") != content):
                raise InputError(f"'{path}' is there already - choose another name, or remove it.")
        ensure_folder(output.parent)
        for path, content in contents.items():
            ensure_folder(path.parent)
            write_atomic(path, content)
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
        click.echo(
            f"{counted(len(found.verdicts), 'verdict')} in {output} (files: {forms}); {counted(failed, 'failure')}, which have no score"
        )
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
        click.echo(f"{counted(len(found.pairs), 'pair')} in {pairs}; {undecided:,} without a choice in both orders")


@verdicts.command("plan", short_help="Tasks and samples that a difference takes, and what they cost.")
@click.argument("earlier", required=False, type=click.Path(path_type=Path))
@click.option(
    "--difference", required=True, type=click.FloatRange(0, min_open=True), help="The difference that matters."
)
@click.option("--axis", help="Which axis of EARLIER [default: its last].")
@click.option(
    "--spread",
    type=click.FloatRange(0, min_open=True),
    help="Standard deviation of the paired differences, without EARLIER.",
)
@click.option(
    "--noise",
    type=click.FloatRange(0),
    help="Standard deviation of one verdict on the same answer [default: of EARLIER, else 0].",
)
@click.option("--power", default=0.8, show_default=True, type=click.FloatRange(0.05, 0.99), help="Chance to see it.")
@click.option("--comparisons", default=1, show_default=True, type=click.IntRange(1), help="Tests made together (Holm).")
@click.option("--cost", type=click.FloatRange(0), help="USD a verdict [default: of EARLIER].")
def plan(
    earlier: Path | None,
    axis: str | None,
    spread: float | None,
    noise: float | None,
    cost: float | None,
    **options: Any,
) -> None:
    """How many tasks a DIFFERENCE takes at the chosen power, by the spread that earlier verdicts show or --spread."""
    from kollm.core.errors import InputError
    from kollm.judge.design import Assumed, observed, plan_rows

    if (earlier is None) == (spread is None):
        raise InputError("Give earlier verdicts of two systems or more, or --spread - one of them.")
    known = Assumed(spread or 0.0, noise, cost)
    if earlier is not None:
        seen = observed(earlier, axis)
        click.echo(seen.sentence())
        known = Assumed(seen.spread, seen.noise if noise is None else noise, seen.cost if cost is None else cost)
    header = f"{'samples':>7}  {'tasks':>7}  {'verdicts':>9}  {'USD':>9}"
    click.echo(header)
    for row in plan_rows(known, **options):
        dollars = "-" if row.cost is None else f"{row.cost:,.2f}"
        click.echo(f"{row.samples:>7}  {row.tasks:>7,}  {row.verdicts:>9,}  {dollars:>9}")
    click.echo("Verdicts and cost are those of both systems. More tasks help more than more samples of each.")
