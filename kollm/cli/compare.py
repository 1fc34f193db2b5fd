"""`kollm compare`: which systems differ, by one judge or by a panel, corrected by labels or not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from kollm.cli.agreement import chosen, say_unread, show_bias, show_corrected, show_panel
from kollm.cli.tables import number, p_value, signed, table
from kollm.core.counting import counted


class _Choices(NamedTuple):
    """What the options of the command choose."""

    axes: tuple[str, ...]
    rubrics: tuple[str, ...]
    baseline: str | None
    margin: float | None
    by_category: bool
    panel: bool
    labels: Path | None
    bias: bool
    across_judges: bool


@click.command(short_help="Paired intervals and tests between systems.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--axis", "axes", multiple=True, help="Only this axis; repeat for more [default: all].")
@click.option("--baseline", help="Compare each other system with this one alone; corrects for fewer tests.")
@click.option("--margin", type=float, help="A difference up to this counts as none: adds tests of equivalence.")
@click.option("--by-category", is_flag=True, help="Compare within each category of tasks too.")
@click.option("--panel", is_flag=True, help="Compare by the mean of several judges of the same answers.")
@click.option(
    "--labels", type=click.Path(path_type=Path), help="Correct the judge by these labels of some of the answers."
)
@click.option("--bias", is_flag=True, help="Show what the judge does with place, length and its own family instead.")
@click.option("--across-judges", is_flag=True, help="Compare systems that different judges judged all the same.")
@click.option("--agreement", is_flag=True, help="PATHS are two judges of the same answers: how far do they agree?")
@click.option("--rubric", "rubrics", multiple=True, help="YAML file of a rubric that does not come with kollm.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of tables.")
def compare(paths: tuple[Path, ...], agreement: bool, as_json: bool, **options: Any) -> None:
    """Compare the systems judged in PATHS: verdicts.jsonl files or work folders; one is enough if it judges several.

    Every pair of systems that one judge scored by one rubric is compared on the tasks that both answered: difference
    with its interval, sign-flip test with Holm's correction, effect size, what the unscored answers could change, and
    the smallest difference that so many tasks show.

    With --agreement the second path, and with --labels the file named there, may hold labels that people gave: a .csv with
    the columns id, system and one an axis (and rater, where there are several), or a .jsonl with id, system and scores.
    """
    choices = _Choices(**options)
    if not agreement:
        _of_systems(paths, choices, as_json)
        return
    from kollm.cli.agreement import show_agreement
    from kollm.core.errors import InputError

    if any(choices[2:]):
        raise InputError("--agreement compares judges - leave out the options that compare systems.")
    show_agreement(paths, choices.axes, choices.rubrics, as_json)


def _of_systems(paths: Sequence[Path], choices: _Choices, as_json: bool) -> None:
    from kollm.core.errors import InputError
    from kollm.core.progress import say
    from kollm.judge.scores import score_tables
    from kollm.report.folder import gather, read_judged

    if sum((choices.panel, choices.labels is not None, choices.bias)) > 1:
        raise InputError("--panel, --labels and --bias each print their own tables - give one of them.")
    files = [read_judged(path, choices.rubrics) for path in paths]
    for file in files:
        if file.outdated:
            say(
                f"{file.name}: {counted(file.outdated, 'verdict')} left out, since their answer was replaced by another."
            )
    material = gather(files)
    tables = score_tables(material.verdicts)
    for found in tables:
        found.scores = {axis: found.scores[axis] for axis in chosen(found.axes, choices.axes)}
    if choices.labels is not None:
        _corrected(tables, material, choices, as_json)
    elif choices.bias:
        _bias(tables, files, material, choices, as_json)
    elif choices.panel:
        _panels(tables, material, choices, as_json)
    else:
        _comparisons(tables, material, choices, as_json)


def _comparisons(tables: Sequence[Any], material: Any, choices: _Choices, as_json: bool) -> None:
    from kollm.core.errors import InputError
    from kollm.judge.across import refuse_across, together

    if choices.across_judges:
        tables = together(tables)
    several = [found for found in tables if len(found.systems) > 1]
    if not several:
        raise InputError(
            "No two systems were judged by the same rubric, in the same mode, by the same judge - give verdicts that were; "
            "use --agreement for two judges of one system; or compare across judges all the same: --across-judges."
        )
    if not choices.across_judges:
        refuse_across(several, material.drifted)
    _say_families(several, material)
    results = [result for table in several for result in _results(table, material, choices)]
    if as_json:
        click.echo(json.dumps(results, ensure_ascii=False, indent=2))
        return
    for result in results:
        _show(result)


def _show(result: Mapping[str, Any]) -> None:
    within = f", category {result['category']}" if result["category"] else ""
    click.echo(f"Rubric {result['rubric']}, mode {result['mode']}, judge {result['model'] or '-'}{within}")
    click.echo(table(_comparison_row(row) for row in result["comparisons"]))


def _say_families(tables: Sequence[Any], material: Any) -> None:
    """Warn of a judge whose own family is judged."""
    from kollm.core.progress import say
    from kollm.judge.families import of_judges_family

    for found in tables:
        models = {system: material.models.get(system, system) for system in found.systems}
        if own := of_judges_family(found.judging.model, models):
            say(
                f"Note: {', '.join(own)}: of the family of the judge {found.judging.model}, which may favour it - "
                "see --bias, and a second judge."
            )


def _results(found: Any, material: Any, choices: _Choices) -> list[dict[str, Any]]:
    """One table over all tasks, and one a category where asked for."""
    from kollm.judge.scores import axis_limits
    from kollm.judge.stats import Comparing

    how = Comparing(
        limits=axis_limits(found.judging, choices.rubrics),
        baseline=choices.baseline,
        margin=choices.margin,
        lengths=material.lengths,
    )
    systems = sorted(found.systems, key=material.systems.index)
    parts = [("", found)]
    if choices.by_category:
        parts += [(category, found.of_category(category)) for category in dict.fromkeys(found.categories.values())]
    return [
        {
            **found.judging._asdict(),
            "category": category,
            "comparisons": [comparison.to_row() for comparison in part.compare(how, order=systems)],
        }
        for category, part in parts
    ]


def _panels(tables: Sequence[Any], material: Any, choices: _Choices, as_json: bool) -> None:
    from kollm.core.errors import InputError
    from kollm.judge.panel import panels
    from kollm.judge.scores import axis_limits

    found = panels(tables)
    if not found:
        raise InputError(
            "No two judges scored the same answers by one rubric - judge them by several: "
            "kollm judge answers.jsonl --model A --model B."
        )
    shown = [
        (
            panel.to_row(
                {system: material.models.get(system, system) for system in panel.table.systems},
                axis_limits(panel.table.judging, choices.rubrics),
            ),
            _results(panel.table, material, choices),
        )
        for panel in found
    ]
    if as_json:
        rows = [{**panel, "results": results} for panel, results in shown]
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    for panel, results in shown:
        show_panel(panel)
        for result in results:
            if result["comparisons"]:
                _show(result)


def _corrected(tables: Sequence[Any], material: Any, choices: _Choices, as_json: bool) -> None:
    from kollm.core.errors import InputError
    from kollm.judge.corrected import correct_table
    from kollm.judge.labels import Labels, read_labels
    from kollm.judge.scores import axis_limits

    assert choices.labels is not None
    if len(tables) != 1:
        raise InputError(
            f"--labels corrects one judge, and there are {len(tables)} - give a file of one rubric and judge."
        )
    limits = axis_limits(tables[0].judging, choices.rubrics)
    labels = read_labels(choices.labels, dict(limits) or None)
    say_unread(choices.labels, labels)
    judged = Labels({}, {(v.id, system, v.answer): v.response_sha256 for system, v in material.verdicts})
    rows = [row.to_row() for row in correct_table(tables[0], labels.without_changed(judged), limits)]
    click.echo(json.dumps(rows, ensure_ascii=False, indent=2)) if as_json else show_corrected(rows)


def _bias(tables: Sequence[Any], files: Sequence[Any], material: Any, choices: _Choices, as_json: bool) -> None:
    from kollm.judge.bias import biases
    from kollm.judge.scores import axis_limits

    pairs = [pair for file in files for pair in file.pairs]
    rows = [
        biases(found, tables, pairs, material.lengths, material.models, axis_limits(found.judging, choices.rubrics))
        for found in tables
    ]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    for row in rows:
        show_bias(row)


def _comparison_row(row: Mapping[str, Any]) -> dict[str, str]:
    left_out = row["n_dropped"] + row["n_unpaired"]
    shown = {
        "axis": row["axis"],
        "first - second": f"{row['first']} - {row['second']}",
        "n": str(row["n"])
        if row["n_clusters"] == row["n"]
        else f"{row['n']} ({counted(row['n_clusters'], 'cluster')})",
        "left out": str(left_out),
        "difference": signed(row["difference"]),
        "95 % interval": "-" if row["ci95"] is None else f"{signed(row['ci95'][0])} to {signed(row['ci95'][1])}",
        "worst case": "-" if row["bounds"] is None else f"{signed(row['bounds'][0])} to {signed(row['bounds'][1])}",
        "detectable": number(row["detectable"], 3),
        **_equal_length_cells(row["equal_length"]),
        "d": number(row["effect"], 2),
        "win/tie/loss": f"{row['wins']}/{row['ties']}/{row['losses']}",
        "p (Holm)": p_value(row["p_holm"]),
    }
    if row["margin"] is not None:
        shown["p (equivalent)"], shown["p (not worse)"] = p_value(row["p_equivalent"]), p_value(row["p_not_worse"])
    return {**shown, "conclusion": _conclusion(row)}


def _equal_length_cells(found: Mapping[str, Any] | None) -> dict[str, str]:
    if found is None:
        return {"at equal length": "-"}
    low, high = found["ci95"]
    mark = "*" if found["extrapolated"] else ""
    return {"at equal length": f"{signed(found['difference'])}{mark} ({signed(low)} to {signed(high)})"}


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
