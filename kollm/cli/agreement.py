"""What `kollm compare` says of judges: two judges or a judge and people, panels, corrections by labels, and biases."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from kollm.cli.tables import interval, number, p_value, signed, signed_interval, table
from kollm.core.counting import counted

MOST_SHOWN = 10
"""Disputed answers printed; the report and --json have more."""


def show_agreement(paths: Sequence[Path], axes: Sequence[str], rubrics: Sequence[str], as_json: bool) -> None:
    """Print how far two files of scores agree.

    Raises:
        InputError: not two paths, or they score nothing both.
    """
    from kollm.core.errors import InputError
    from kollm.judge.agreement import agreement
    from kollm.judge.labels import read_labels
    from kollm.judge.scores import Judging, axis_limits

    if len(paths) != 2:
        raise InputError(f"--agreement takes two paths, one a judge, and was given {len(paths)}.")
    files = [path / "verdicts.jsonl" if path.is_dir() else path for path in paths]
    left = read_labels(files[0])
    limits = dict(axis_limits(Judging(*left.judging, "", ""), rubrics)) or None
    right = read_labels(files[1], limits)
    for path, labels in zip(files, (left, right), strict=True):
        say_unread(path, labels)
    first, second = left.without_changed(right).scores, right.without_changed(left).scores
    shared = [axis for axis in first if axis in second]
    if not shared:
        raise InputError(
            f"'{paths[0]}' scores {', '.join(first) or 'nothing'} and '{paths[1]}' {', '.join(second) or 'nothing'} - "
            "they share no axis."
        )
    clusters = left.clusters | right.clusters
    rows = [
        agreement(axis, first[axis], second[axis], right.raters.get(axis), clusters).to_row()
        for axis in chosen(shared, axes)
    ]
    if not any(row["n"] for row in rows):
        raise InputError(
            f"'{paths[0]}' and '{paths[1]}' score no answer both - check that id, system and answers are the same."
        )
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    click.echo(table(map(_agreement_row, rows)))


def say_unread(path: Path, labels: Any) -> None:
    """Say which columns of a table were not used, and in which encoding it was read."""
    from kollm.core.progress import say

    if labels.unused:
        say(f"{path}: not used: {', '.join(labels.unused)}.")
    if labels.encoding == "cp949":
        say(f"{path}: read as CP949, since it is not UTF-8.")


def _agreement_row(row: Mapping[str, Any]) -> dict[str, str]:
    shown = {
        "axis": row["axis"],
        "n": str(row["n"]),
        "one-sided": str(row["n_one_sided"]),
        "exact": number(row["exact"]),
        "first - second": number(row["mean_difference"]),
        "Spearman": number(row["spearman"]),
        "Kendall": number(row["kendall"]),
        "kappa (quadratic)": _with_interval(row["kappa"], row["kappa_ci95"]),
        "alpha (Krippendorff)": _with_interval(row["alpha"], row["alpha_ci95"]),
    }
    if row["raters"]:
        name = f"alpha of {counted(row['raters'], 'rater')}"
        shown[name] = _with_interval(row["alpha_of_raters"], row["alpha_of_raters_ci95"])
    return shown


def _with_interval(value: float | None, ci95: Sequence[float] | None) -> str:
    return number(value) + ("" if ci95 is None else f" ({interval(ci95, 2)})")


def chosen(there: Iterable[str], wanted: Sequence[str]) -> list[str]:
    """The axes that are wanted, or all.

    Raises:
        InputError: one of them is not there.
    """
    from kollm.core.errors import InputError

    known = list(there)
    missing = [axis for axis in wanted if axis not in known]
    if missing:
        raise InputError(f"There is no axis '{missing[0]}' - these verdicts have {', '.join(known)}.")
    return list(wanted) or known


# --- panels -----------------------------------------------------------------------------------------------------------


def show_panel(rows: Mapping[str, Any]) -> None:
    """Print how far the judges of a panel agree, and where they do not."""
    click.echo(f"Panel of {counted(len(rows['judges']), 'judge')}: {', '.join(rows['judges'])}")
    click.echo(table(_panel_lines(rows["agreement"])))
    if rows["disputed"]:
        click.echo("The judges differ most on:")
        lines = [
            {
                "task": row["task"],
                "system": row["system"],
                "axis": row["axis"],
                "scores": ", ".join(f"{judge} {score:g}" for judge, score in row["scores"].items()),
            }
            for row in rows["disputed"][:MOST_SHOWN]
        ]
        click.echo(table(lines))


def _panel_lines(agreement: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    lines = []
    for found in agreement:
        alpha = _with_interval(found["alpha"]["value"], found["alpha"]["ci95"])
        for pair in found["pairs"]:
            lines.append(
                {
                    "axis": found["axis"],
                    "first - second": f"{pair['first']} - {pair['second']}",
                    "n": str(pair["n"]),
                    "difference": "-" if pair["milder"] is None else signed(pair["milder"]),
                    "kappa (quadratic)": _with_interval(pair["kappa"]["value"], pair["kappa"]["ci95"]),
                    "alpha of all (Krippendorff)": alpha,
                }
            )
    return lines


# --- labels -----------------------------------------------------------------------------------------------------------


def show_corrected(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print means and differences corrected by labels."""
    means = [row for row in rows if not row["second"]]
    click.echo(
        table(
            {
                "axis": row["axis"],
                "system": row["first"],
                "n": str(row["n"]),
                "judge": number(row["judged"]),
                "labels": str(row["n_labels"]),
                "labels alone": _with_interval(row["labelled"], row["labelled_ci95"]),
                "corrected": number(row["corrected"]),
                "95 % interval": interval(row["ci95"]),
                "weight": number(row["weight"], 2),
            }
            for row in means
        )
    )
    differences = [row for row in rows if row["second"]]
    if differences:
        click.echo(
            table(
                {
                    "axis": row["axis"],
                    "first - second": f"{row['first']} - {row['second']}",
                    "judge": signed(row["judged"]),
                    "labels": str(row["n_labels"]),
                    "corrected": signed(row["corrected"]),
                    "95 % interval": signed_interval(row["ci95"]),
                    "p (Holm)": p_value(row["p_holm"]),
                }
                for row in differences
            )
        )
    click.echo("The correction holds where the labelled tasks were drawn at random from those that the judge scored.")


# --- biases -----------------------------------------------------------------------------------------------------------


def show_bias(rows: Mapping[str, Any]) -> None:
    """Print what a judge does with place, length and its own family."""
    click.echo(f"Biases of {rows['model'] or 'the judge'}, rubric {rows['rubric']}:")
    if rows["position"]:
        click.echo(table(_position_row(row) for row in rows["position"]))
    else:
        click.echo("position: no pairs in both orders - judge some: kollm judge A --against B -o pairs.jsonl")
    if rows["length"]:
        click.echo(table(_length_row(row) for row in rows["length"]))
    else:
        click.echo("length: the answers are not known - give the work folder with generations.jsonl")
    for row in rows["self_preference"]:
        click.echo(
            f"own family ({', '.join(row['own'])}), {row['axis']}: {signed(row['excess'])} above what the other judges say "
            f"({signed_interval(row['ci95'])}; p {p_value(row['p_holm'])}, {counted(row['n'], 'task')})"
        )
    if rows["own"] and not rows["self_preference"]:
        click.echo(
            f"own family: {', '.join(rows['own'])} is of the judge's - a second judge of the same answers measures it"
        )
    if not rows["own"]:
        click.echo("own family: no system is of the judge's, as far as names say")


def _position_row(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "pairs": f"{row['first']} - {row['second']}",
        "n": str(row["n"]),
        "same in both orders": number(row["consistent"]),
        "always the first": number(row["first_preferred"]),
        "always the second": number(row["second_preferred"]),
    }


def _length_row(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "axis": row["axis"],
        "system": row["system"],
        "n": str(row["n"]),
        "length and score (Spearman)": number(row["correlation"], 2),
    }
