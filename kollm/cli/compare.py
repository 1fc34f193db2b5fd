"""`kollm compare`: which systems differ, and how far two judges agree."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click


class _Judged(NamedTuple):
    """The verdicts of one file or work folder, with its name."""

    name: str
    verdicts: list[Any]


@click.command(short_help="Paired intervals and tests between systems.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--axis", "axes", multiple=True, help="Only this axis; repeat for more [default: all].")
@click.option("--agreement", is_flag=True, help="PATHS are two judges of the same answers: how far do they agree?")
@click.option("--rubric", "rubrics", multiple=True, help="YAML file of a rubric that does not come with kollm.")
@click.option("--seed", default=0, show_default=True, help="Of bootstrap intervals and permutation tests.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of tables.")
def compare(
    paths: tuple[Path, ...], axes: tuple[str, ...], agreement: bool, rubrics: tuple[str, ...], seed: int, as_json: bool
) -> None:
    """Compare the systems judged in PATHS: verdicts.jsonl files or work folders; one is enough if it judges several.

    Every pair of systems that one judge scored by one rubric is compared on the tasks that both answered: difference
    with a paired bootstrap interval, permutation test with Holm's correction, effect size.

    With --agreement the second path may hold labels that people gave: a .csv with the columns id, system and one an
    axis, or a .jsonl with id, system and scores.
    """
    if agreement:
        _agreement(paths, axes, as_json)
    else:
        _comparisons(paths, axes, rubrics, seed, as_json)


def _comparisons(paths: Sequence[Path], axes: Sequence[str], rubrics: Sequence[str], seed: int, as_json: bool) -> None:
    from kollm.core.errors import InputError
    from kollm.judge.scores import axis_limits, score_tables

    tables = [table for table in score_tables(_named(_read(path) for path in paths)) if len(table.systems) > 1]
    if not tables:
        raise InputError(
            "No two systems were judged by the same rubric, in the same mode, by the same judge - give verdicts that were, "
            "or use --agreement for two judges of one system."
        )
    results = []
    for table in tables:
        table.scores = {axis: table.scores[axis] for axis in _chosen(table.axes, axes)}
        rows = [c.to_row() for c in table.compare(axis_limits(table.judging, rubrics), seed=seed)]
        results.append({**table.judging._asdict(), "comparisons": rows})
    if as_json:
        click.echo(json.dumps(results, ensure_ascii=False, indent=2))
        return
    for result in results:
        click.echo(f"Rubric {result['rubric']}, mode {result['mode']}, judge {result['model']}")
        click.echo(_table(_comparison_row(row) for row in result["comparisons"]))


def _comparison_row(row: Mapping[str, Any]) -> dict[str, str]:
    if not row["distinguishable"]:
        conclusion = "not distinguishable / 구별되지 않음"
    else:
        conclusion = f"{row['first'] if row['difference'] > 0 else row['second']} higher"
    return {
        "axis": row["axis"],
        "first - second": f"{row['first']} - {row['second']}",
        "n": str(row["n"]),
        "difference": _signed(row["difference"]),
        "95 % interval": "-" if row["ci95"] is None else f"{_signed(row['ci95'][0])} to {_signed(row['ci95'][1])}",
        "worst case": "-" if row["bounds"] is None else f"{_signed(row['bounds'][0])} to {_signed(row['bounds'][1])}",
        "d": _number(row["effect"], 2),
        "win/tie/loss": f"{row['wins']}/{row['ties']}/{row['losses']}",
        "p (Holm)": f"{row['p_holm']:.4f}",
        "conclusion": conclusion,
    }


def _agreement(paths: Sequence[Path], axes: Sequence[str], as_json: bool) -> None:
    from kollm.core.errors import InputError
    from kollm.judge.agreement import agreement
    from kollm.judge.labels import read_labels

    if len(paths) != 2:
        raise InputError(f"--agreement takes two paths, one a judge, and was given {len(paths)}.")
    left, right = (read_labels(path / "verdicts.jsonl" if path.is_dir() else path) for path in paths)
    first, second = left.without_changed(right).scores, right.scores
    shared = [axis for axis in first if axis in second]
    if not shared:
        raise InputError(
            f"'{paths[0]}' scores {', '.join(first) or 'nothing'} and '{paths[1]}' {', '.join(second) or 'nothing'} - "
            "they share no axis."
        )
    rows = [agreement(axis, first[axis], second[axis]).to_row() for axis in _chosen(shared, axes)]
    if not any(row["n"] for row in rows):
        raise InputError(
            f"'{paths[0]}' and '{paths[1]}' score no answer both - check that id, system and answers are the same."
        )
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    click.echo(
        _table(
            {
                "axis": row["axis"],
                "n": str(row["n"]),
                "one-sided": str(row["n_one_sided"]),
                "exact": _number(row["exact"], 3),
                "first - second": _number(row["mean_difference"], 3),
                "Spearman": _number(row["spearman"], 3),
                "Kendall": _number(row["kendall"], 3),
                "kappa (quadratic)": _number(row["kappa"], 3),
                "alpha (Krippendorff)": _number(row["alpha"], 3),
            }
            for row in rows
        )
    )


def _read(path: Path) -> _Judged:
    from kollm.core.files import read_jsonl
    from kollm.core.records import Verdict
    from kollm.report.folder import read_work_folder

    if path.is_dir():
        folder = read_work_folder(path)
        return _Judged(folder.name, folder.verdicts)
    verdicts = list(map(Verdict.from_row, read_jsonl(path)))
    texts = {(verdict.system, verdict.id): verdict.response_sha256 for verdict in verdicts}  # as they were judged last
    latest = {v.key(): v for v in verdicts if v.response_sha256 == texts[v.system, v.id]}
    return _Judged(path.stem, list(latest.values()))


def _named(files: Iterable[_Judged]) -> list[tuple[str, Any]]:
    """Verdicts under their system's name, with the file's added where two files judge a system of one name."""
    from collections import Counter

    read = list(files)
    homes = Counter(system for file in read for system in {verdict.system for verdict in file.verdicts})
    names = Counter(file.name for file in read)
    return [
        (
            verdict.system
            if homes[verdict.system] == 1
            else f"{verdict.system} ({file.name if names[file.name] == 1 else number})",
            verdict,
        )
        for number, file in enumerate(read, start=1)
        for verdict in file.verdicts
    ]


def _chosen(there: Iterable[str], wanted: Sequence[str]) -> list[str]:
    from kollm.core.errors import InputError

    known = list(there)
    missing = [axis for axis in wanted if axis not in known]
    if missing:
        raise InputError(f"There is no axis '{missing[0]}' - these verdicts have {', '.join(known)}.")
    return list(wanted) or known


def _table(rows: Iterable[Mapping[str, str]]) -> str:
    """Left-aligned columns, each as wide as its widest cell."""
    body = list(rows)
    if not body:
        return "(no task was answered by two systems)"
    lines = [list(body[0]), *(list(row.values()) for row in body)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _signed(value: float) -> str:
    """Three decimals, or a power of ten where these would hide that the value is not 0."""
    return f"{value:+.0e}" if value and abs(value) < 0.0005 else f"{value:+.3f}"
