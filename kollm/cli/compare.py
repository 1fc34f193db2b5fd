"""`kollm compare`: which systems differ, and how far two judges agree."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click


class _Choices(NamedTuple):
    """What the options of the command choose."""

    axes: tuple[str, ...]
    rubrics: tuple[str, ...]
    baseline: str | None
    margin: float | None
    by_category: bool


@click.command(short_help="Paired intervals and tests between systems.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--axis", "axes", multiple=True, help="Only this axis; repeat for more [default: all].")
@click.option("--baseline", help="Compare each other system with this one alone; corrects for fewer tests.")
@click.option("--margin", type=float, help="A difference up to this counts as none: adds tests of equivalence.")
@click.option("--by-category", is_flag=True, help="Compare within each category of tasks too.")
@click.option("--agreement", is_flag=True, help="PATHS are two judges of the same answers: how far do they agree?")
@click.option("--rubric", "rubrics", multiple=True, help="YAML file of a rubric that does not come with kollm.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of tables.")
def compare(paths: tuple[Path, ...], agreement: bool, as_json: bool, **options: Any) -> None:
    """Compare the systems judged in PATHS: verdicts.jsonl files or work folders; one is enough if it judges several.

    Every pair of systems that one judge scored by one rubric is compared on the tasks that both answered: difference
    with its interval, sign-flip test with Holm's correction, effect size, what the unscored answers could change, and
    the smallest difference that so many tasks show.

    With --agreement the second path may hold labels that people gave: a .csv with the columns id, system and one an
    axis (and rater, where there are several), or a .jsonl with id, system and scores.
    """
    choices = _Choices(**options)
    if agreement:
        _agreement(paths, choices, as_json)
    else:
        _comparisons(paths, choices, as_json)


def _comparisons(paths: Sequence[Path], choices: _Choices, as_json: bool) -> None:
    from kollm.core.errors import InputError
    from kollm.core.progress import say
    from kollm.judge.scores import score_tables
    from kollm.report.folder import gather, read_judged

    files = [read_judged(path, choices.rubrics) for path in paths]
    for file in files:
        if file.outdated:
            say(f"{file.name}: {file.outdated} verdicts left out, since their answer was replaced by another.")
    material = gather(files)
    tables = [table for table in score_tables(material.verdicts) if len(table.systems) > 1]
    if not tables:
        raise InputError(
            "No two systems were judged by the same rubric, in the same mode, by the same judge - give verdicts that were, "
            "or use --agreement for two judges of one system."
        )
    order, lengths = material.systems, material.lengths
    results = [result for table in tables for result in _results(table, order, lengths, choices)]
    if as_json:
        click.echo(json.dumps(results, ensure_ascii=False, indent=2))
        return
    for result in results:
        within = f", category {result['category']}" if result["category"] else ""
        click.echo(f"Rubric {result['rubric']}, mode {result['mode']}, judge {result['model'] or '-'}{within}")
        click.echo(_table(_comparison_row(row) for row in result["comparisons"]))


def _results(
    table: Any, order: Sequence[str], lengths: Mapping[str, Mapping[str, float]], choices: _Choices
) -> list[dict[str, Any]]:
    """One table over all tasks, and one a category where asked for."""
    from kollm.judge.scores import axis_limits
    from kollm.judge.stats import Comparing

    table.scores = {axis: table.scores[axis] for axis in _chosen(table.axes, choices.axes)}
    how = Comparing(
        limits=axis_limits(table.judging, choices.rubrics),
        baseline=choices.baseline,
        margin=choices.margin,
        lengths=lengths,
    )
    systems = sorted(table.systems, key=order.index)
    parts = [("", table)]
    if choices.by_category:
        parts += [(category, table.of_category(category)) for category in dict.fromkeys(table.categories.values())]
    return [
        {
            **table.judging._asdict(),
            "category": category,
            "comparisons": [comparison.to_row() for comparison in part.compare(how, order=systems)],
        }
        for category, part in parts
    ]


def _comparison_row(row: Mapping[str, Any]) -> dict[str, str]:
    left_out = row["n_dropped"] + row["n_unpaired"]
    shown = {
        "axis": row["axis"],
        "first - second": f"{row['first']} - {row['second']}",
        "n": str(row["n"]) if row["n_clusters"] == row["n"] else f"{row['n']} ({row['n_clusters']} clusters)",
        "left out": str(left_out),
        "difference": _signed(row["difference"]),
        "95 % interval": "-" if row["ci95"] is None else f"{_signed(row['ci95'][0])} to {_signed(row['ci95'][1])}",
        "worst case": "-" if row["bounds"] is None else f"{_signed(row['bounds'][0])} to {_signed(row['bounds'][1])}",
        "detectable": _number(row["detectable"], 3),
        **_equal_length_cells(row["equal_length"]),
        "d": _number(row["effect"], 2),
        "win/tie/loss": f"{row['wins']}/{row['ties']}/{row['losses']}",
        "p (Holm)": _p(row["p_holm"]),
    }
    if row["margin"] is not None:
        shown["p (equivalent)"], shown["p (not worse)"] = _p(row["p_equivalent"]), _p(row["p_not_worse"])
    return {**shown, "conclusion": _conclusion(row)}


def _equal_length_cells(found: Mapping[str, Any] | None) -> dict[str, str]:
    if found is None:
        return {"at equal length": "-"}
    low, high = found["ci95"]
    mark = "*" if found["extrapolated"] else ""
    return {"at equal length": f"{_signed(found['difference'])}{mark} ({_signed(low)} to {_signed(high)})"}


def _conclusion(row: Mapping[str, Any]) -> str:
    name = row["conclusion"]
    if name in ("first higher", "second higher"):
        return f"{row['first'] if name == 'first higher' else row['second']} higher"
    return {
        "unsettled": f"unsettled: the {row['n_dropped']} unscored could turn it / 미채점이 뒤집을 수 있음",
        "equivalent": f"equivalent within {row['margin']} / 동등",
        "not worse": f"{row['first']} not worse by {row['margin']} / 열등하지 않음",
        "undecided": "not distinguishable / 구별되지 않음",
    }[name]


def _agreement(paths: Sequence[Path], choices: _Choices, as_json: bool) -> None:
    from kollm.core.errors import InputError
    from kollm.core.progress import say
    from kollm.judge.agreement import agreement
    from kollm.judge.labels import read_labels
    from kollm.judge.scores import Judging, axis_limits

    if choices.baseline is not None or choices.margin is not None or choices.by_category:
        raise InputError("--agreement compares judges - leave out --baseline, --margin and --by-category.")
    if len(paths) != 2:
        raise InputError(f"--agreement takes two paths, one a judge, and was given {len(paths)}.")
    files = [path / "verdicts.jsonl" if path.is_dir() else path for path in paths]
    left = read_labels(files[0])
    limits = dict(axis_limits(Judging(*left.judging, "", ""), choices.rubrics)) or None
    right = read_labels(files[1], limits)
    for path, labels in zip(files, (left, right), strict=True):
        if labels.unused:
            say(f"{path}: not used: {', '.join(labels.unused)}.")
        if labels.encoding == "cp949":
            say(f"{path}: read as CP949, since it is not UTF-8.")
    first, second = left.without_changed(right).scores, right.without_changed(left).scores
    shared = [axis for axis in first if axis in second]
    if not shared:
        raise InputError(
            f"'{paths[0]}' scores {', '.join(first) or 'nothing'} and '{paths[1]}' {', '.join(second) or 'nothing'} - "
            "they share no axis."
        )
    rows = [
        agreement(axis, first[axis], second[axis], right.raters.get(axis)).to_row()
        for axis in _chosen(shared, choices.axes)
    ]
    if not any(row["n"] for row in rows):
        raise InputError(
            f"'{paths[0]}' and '{paths[1]}' score no answer both - check that id, system and answers are the same."
        )
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    click.echo(_table(map(_agreement_row, rows)))


def _agreement_row(row: Mapping[str, Any]) -> dict[str, str]:
    shown = {
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
    if row["raters"]:
        shown[f"alpha of {row['raters']} raters"] = _number(row["alpha_of_raters"], 3)
    return shown


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


def _p(value: float | None) -> str:
    """Four decimals, or a power of ten below them."""
    return "-" if value is None else f"{value:.4f}" if value >= 0.0001 else f"{value:.0e}"


def _signed(value: float) -> str:
    """Three decimals, or a power of ten where these would hide that the value is not 0."""
    return f"{value:+.0e}" if value and abs(value) < 0.0005 else f"{value:+.3f}"
