"""`kollm verdicts seal | drift | bridge`: whether a judge changed, and from an old judge's scale to a new one's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from kollm.cli.tables import number, p_value, signed, signed_interval, table
from kollm.core.counting import counted


@click.command(short_help="Seal judged answers, to see later whether the judge changed.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The sealed set: a new folder.")
@click.option("--judge", help="Of which judge's verdicts, where FOLDER holds several.")
@click.option(
    "--tasks", default=60, show_default=True, type=click.IntRange(2), help="Most tasks, drawn by their ids' hash."
)
@click.option("--rubric", "rubrics", multiple=True, help="YAML file of a rubric that does not come with kollm.")
def seal(folder: Path, output: Path, judge: str | None, tasks: int, rubrics: tuple[str, ...]) -> None:
    """Seal answers of the work folder FOLDER with their verdicts: `kollm verdicts drift` judges them again and compares."""
    from kollm.core.errors import InputError
    from kollm.judge.drift import seal as seal_set
    from kollm.report.folder import read_judged

    read = read_judged(folder, rubrics)
    verdicts = [verdict for verdict in read.verdicts if judge in (None, verdict.model_requested)]
    if judge is not None and not verdicts:
        judges = ", ".join(sorted({verdict.model_requested for verdict in read.verdicts})) or "nobody"
        raise InputError(f"'{folder}' holds no verdict of {judge} - it was judged by {judges}.")
    sealed = seal_set(read.generations, verdicts, output, tasks)
    click.echo(
        f"{counted(len(sealed.answers), 'answer')} and {counted(len(sealed.verdicts), 'verdict')} of {sealed.judging.model or sealed.judging.mode} sealed "
        f"in {output}"
    )


@click.command(short_help="Judge a sealed set again: has the judge changed?")
@click.argument("sealed", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Work folder whose systems are judged next [default: SEALED].",
)
@click.option(
    "--margin",
    default=0.05,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Share of the scale up to which a change counts as none.",
)
@click.option("--rubric", help="File of the rubric, where it does not come with kollm.")
@click.option("--engine", default="openai", show_default=True, type=click.Choice(["openai", "local"]))
@click.option("--reply-tokens", type=click.IntRange(1), help="As for `kollm judge`, where the set was judged so.")
@click.option("--reasoning-tokens", type=click.IntRange(0), help="As for `kollm judge`, where the set was judged so.")
@click.option("--base-url", help="OpenAI-compatible server, if not OpenAI's [env: OPENAI_BASE_URL].")
@click.option("--key-env", metavar="NAME", help="Variable with that server's key [default: the host's own].")
@click.option("--max-cost", type=float, help="Stop before spending more than this many USD.")
@click.option("--price", nargs=2, type=float, help="USD for a million tokens in and out, if kollm does not know them.")
@click.option("--concurrency", type=click.IntRange(1), help="Requests at once [default: 32].")
@click.option("--dry-run", is_flag=True, help="Show what would be asked and what it costs at most; ask nobody.")
def drift(sealed: Path, output: Path | None, margin: float, rubric: str | None, dry_run: bool, **options: Any) -> None:
    """Judge the answers in SEALED again, by the same judge, and test whether its scores have changed.

    The new verdicts go to SEALED/rounds; what they say goes to drift.json in the work folder of -o, where `kollm compare`
    and the report find it: systems judged before and after a drift are not compared unless told.
    """
    from kollm.core.errors import InputError
    from kollm.core.files import ensure_folder
    from kollm.judge import drift as drifting
    from kollm.judge.make import JudgeOptions, make_judge
    from kollm.judge.run import judge_generations, questions_on
    from kollm.judge.scores import axis_limits
    from kollm.judge.verdicts import read_verdicts

    kept = drifting.read_sealed(sealed)
    number_of_round, path = drifting.next_round(kept)
    samples = kept.samples
    if options["engine"] == "openai":
        options |= {"mode": kept.judging.mode, "samples": samples}
    judge: Any = make_judge(
        rubric or kept.judging.rubric, JudgeOptions(model=kept.judging.model, keep_going=True, **options)
    )
    if (judge.rubric.sha256, judge.mode, judge.name) != (
        kept.judging.rubric_sha256,
        kept.judging.mode,
        kept.judging.model,
    ):
        raise InputError(
            f"'{sealed}' was judged by {kept.judging.model}, mode {kept.judging.mode}, rubric {kept.judging.rubric} "
            f"{kept.judging.rubric_sha256[:19]} - this would be another judge; give --rubric and --engine as then."
        )
    first = number_of_round * samples
    if options["engine"] == "openai":
        requests = [judge.request(question) for question in questions_on(kept.answers, samples, first)]
        judge.client.say_estimate(requests, f"Round {number_of_round}")
        judge.client.count_earlier(requests)
    if dry_run:
        return
    ensure_folder(path.parent)
    judge_generations(kept.answers, judge, path, first_sample=first)
    now = read_verdicts(path, [rubric] if rubric else [])
    rows = drifting.drift(kept.verdicts, now, axis_limits(kept.judging, [rubric] if rubric else []), margin)
    if not rows:
        raise InputError(
            f"No answer of '{sealed}' was scored again - see the statuses in {path}; run the command again."
        )
    _say_drift(rows, now, number_of_round, path)
    ensure_folder(output or sealed)
    drifting.write_result((output or sealed) / drifting.RESULT, kept, number_of_round, rows)


def _say_drift(rows: Sequence[Any], now: Sequence[Any], number_of_round: int, path: Path) -> None:
    click.echo(
        table(
            {
                "axis": row.axis,
                "n": str(row.n),
                "now - sealed": signed(row.change),
                "95 % interval": signed_interval(row.ci95),
                "margin": number(row.margin),
                "p (Holm)": p_value(row.p_holm),
                "conclusion": row.conclusion,
            }
            for row in rows
        )
    )
    failed = sum(verdict.status != "ok" for verdict in now)
    returned = ", ".join(sorted({verdict.model_returned for verdict in now} - {""})) or "-"
    drifted = [row.axis for row in rows if row.conclusion == "drifted"]
    said = f"the judge drifted on {', '.join(drifted)}" if drifted else "no drift was found"
    if not drifted and any(row.conclusion == "undecided" for row in rows):
        said = "no drift was found, and too few answers to exclude one - seal more tasks"
    click.echo(f"Round {number_of_round} in {path} ({counted(failed, 'failure')}; answered by {returned}): {said}")


@click.command(short_help="From an old judge's scale to a new one's, by answers that both judged.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--old", required=True, metavar="MODEL", help="The judge whose scores are bridged.")
@click.option("--new", required=True, metavar="MODEL", help="The judge on whose scale they are put.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Work folder that gets bridge.json, for its report."
)
@click.option("--rubric", "rubrics", multiple=True, help="YAML file of a rubric that does not come with kollm.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of tables.")
def bridge(
    paths: tuple[Path, ...], old: str, new: str, output: Path | None, rubrics: tuple[str, ...], as_json: bool
) -> None:
    """Put the scores of a judge that is gone on the scale of another, by a sample of answers that both judged.

    PATHS are work folders and files of verdicts of both, by one rubric. Needs 30 independent tasks that both judged, drawn
    at random from the old judge's; `kollm judge --limit` takes the first ones.
    """
    from kollm.core.errors import InputError
    from kollm.core.files import ensure_folder, write_json
    from kollm.judge.bridge import bridge as bridge_tables
    from kollm.judge.scores import score_tables
    from kollm.report.folder import BRIDGE, gather, read_judged

    tables = score_tables(gather([read_judged(path, rubrics) for path in paths]).verdicts)
    sides = [_of_judge(tables, model) for model in (old, new)]
    if sides[0].judging.rubric_sha256 != sides[1].judging.rubric_sha256:
        raise InputError(
            f"{old} judged by the rubric {sides[0].judging.rubric} and {new} by {sides[1].judging.rubric}, or another version of it "
            "- a bridge needs one rubric."
        )
    found = bridge_tables(*sides).to_row()
    rows = {"old": sides[0].judging._asdict(), "new": sides[1].judging._asdict(), **found}
    if output is not None:
        ensure_folder(output)
        write_json(output / BRIDGE, rows)
    click.echo(json.dumps(rows, ensure_ascii=False, indent=2)) if as_json else _say_bridge(rows)


def _of_judge(tables: Sequence[Any], model: str) -> Any:
    from kollm.core.errors import InputError

    found = [table for table in tables if table.judging.model == model]
    if len(found) != 1:
        judges = ", ".join(dict.fromkeys(f"{t.judging.model} ({t.judging.rubric}, {t.judging.mode})" for t in tables))
        raise InputError(
            f"There are {len(found)} tables of scores by '{model}', and a bridge takes one - here are: {judges}."
        )
    return found[0]


def _say_bridge(rows: Mapping[str, Any]) -> None:
    counts = ", ".join(f"{axis} {count}" for axis, count in rows["n_both"].items())
    click.echo(f"From {rows['old']['model']} to {rows['new']['model']}, by answers that both judged: {counts}")
    click.echo(
        table(
            {
                "axis": row["axis"],
                "system": row["first"],
                "n": str(row["n"]),
                "old": number(row["old"]),
                "bridged": number(row["bridged"]),
                "95 % interval": f"{row['ci95'][0]:.3f} to {row['ci95'][1]:.3f}",
            }
            for row in rows["means"]
        )
    )
    if rows["differences"]:
        click.echo(
            table(
                {
                    "axis": row["axis"],
                    "bridged - judged": f"{row['first']} - {row['second']}",
                    "difference": signed(row["bridged"]),
                    "95 % interval": signed_interval(row["ci95"]),
                    "p (Holm)": p_value(row["p_holm"]),
                }
                for row in rows["differences"]
            )
        )
    for fit in rows["fits"]:
        if fit["p_holm"] < 0.05:
            click.echo(
                f"Warning: the mapping does not fit {fit['system']} on {fit['axis']}: the new judge gives {signed(fit['residual'])} "
                f"more than mapped (p {p_value(fit['p_holm'])}) - its bridged mean is off by that; judge it anew."
            )
