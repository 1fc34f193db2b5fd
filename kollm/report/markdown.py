"""The score table in markdown, for model and dataset cards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kollm.report.words import LOW_MASS, STEP_WARNINGS, TOY, axis_words, low_mass

UNSCORED: Mapping[str, Any] = {"mean": None, "ci95": None}


def markdown_tables(summary: Mapping[str, Any]) -> str:
    """One table for each way of judging: means with 95 % intervals, then the published rows."""
    parts = [f"> **{TOY.ko}** {TOY.en}\n"] if summary["toy"] else []
    parts += [_table(judging) for judging in (*summary["judgings"], *summary.get("panels", ()))]
    parts += [_steps(run) for run in summary.get("steps", ())]
    parts += [_benchmarks(summary["benchmarks"])] if summary.get("benchmarks") else []  # none in older reports
    return "\n".join(parts) or "No verdicts. 판정이 없습니다.\n"


def _table(judging: Mapping[str, Any]) -> str:
    names = [axis_words(axis) for axis in judging["axes"]]
    head = ["시스템 / System", "n", *(f"{words.ko} / {words.en}" for words in names)]
    rows = [
        [table_cell(s["system"]), _scored(s), *(_score(s["axes"][a["key"]]) for a in judging["axes"])]
        for s in judging["systems"]
    ]
    rows += [
        [
            f"{table_cell(row['system'])} (사람 점수로 바로잡은 값 / corrected by labels)",
            str(row["n"]),
            *(_score(row["axes"].get(axis["key"], UNSCORED)) for axis in judging["axes"]),
        ]
        for row in judging.get("corrected", ())  # reports of earlier versions have none
    ]
    rows += [
        [
            f"{table_cell(row['system'])} (이어 붙인 값 / bridged from {table_cell(row['judge'])})",
            str(row["n"]),
            *(_score(row["axes"].get(axis["key"], UNSCORED)) for axis in judging["axes"]),
        ]
        for row in judging.get("bridged", ())  # reports of earlier versions have none
    ]
    rows += [
        [
            f"{table_cell(row['system'])} (공개된 값 / published: {row['origin']}"
            + (f", {row['judge']}" if "judge" in row else "")  # reports of earlier versions do not say whose it was
            + ("" if row.get("same_words", True) else ", 다른 글로 물음 / asked in other words")
            + ")",
            "-",
            *(_number(row["scores"].get(axis["key"])) for axis in judging["axes"]),
        ]
        for row in judging["published"]
    ]
    lines = [_line(head), _line([":--", *["--:"] * (len(head) - 1)]), *map(_line, rows)]
    return f"{_caption(judging)}\n\n" + "\n".join(lines) + "\n"


def _steps(run: Mapping[str, Any]) -> str:
    """What each training did: score, length, truncation, Hangul and divergence, and what is to be doubted."""
    head = [
        "단계 / Step",
        table_cell(run["axis"]) or "-",
        "차이 / gain",
        "글자 / characters",
        "잘림 / truncated",
        "한글 / Hangul",
        "KL",
        "",
    ]
    lines = [_line(head), _line([":--", *["--:"] * 6, ":--"])]
    for row in run["steps"]:
        gain, hangul, kl = row["gain"], row["hangul"], row["kl"]
        lines.append(
            _line(
                [
                    table_cell(row["step"]),
                    _score(row["score"] or UNSCORED),
                    "-" if gain is None else f"{gain['difference']:+.3f} (p {gain['p_holm']:.4f})",
                    f"{row['characters']:.0f}",
                    f"{row['truncated']:.1%}",
                    "-" if hangul is None else f"{hangul:.1%}",
                    "-" if kl is None else f"{kl:.3f}",
                    "; ".join(f"{STEP_WARNINGS[name].ko} / {STEP_WARNINGS[name].en}" for name in row["warnings"]),
                ]
            )
        )
    return f"{table_cell(run['run'])}: {table_cell(run['method'])}\n\n" + "\n".join(lines) + "\n"


def _benchmarks(rows: Sequence[Mapping[str, Any]]) -> str:
    """Groups, and tasks without one; the tasks of a group stand on the page."""
    shown = [row for row in rows if not row["group"]]
    systems = list(dict.fromkeys(name for row in shown for name in row["systems"]))
    head = ["벤치마크 / Benchmark", "지표 / metric", "n", "shots", *map(table_cell, systems)]
    lines = [_line(head), _line([":--", ":--", *["--:"] * (len(head) - 2)])]
    for row in shown:
        limited = " (일부 / part)" if row["limit"] else ""
        cells = [_benchmark(row["systems"].get(name)) for name in systems]
        name = f"{table_cell(row['task'])} v{table_cell(row['version'])}{limited}"
        lines.append(_line([name, table_cell(row["metric"]), str(row["documents"]), str(row["shots"]), *cells]))
    harness = ", ".join(dict.fromkeys(table_cell(row["harness"]) for row in shown))
    prompts = {name: cell["prompt"] for row in shown for name, cell in row["systems"].items()}
    said = ", ".join(f"{table_cell(name)}: {table_cell(prompt)}" for name, prompt in prompts.items())
    return f"{harness}; value [95 % interval by the standard error]; prompt of {said}.\n\n" + "\n".join(lines) + "\n"


def _benchmark(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return "-"
    if cell["ci95"] is None:
        return f"{cell['value']:.4f}"
    return f"{cell['value']:.4f} [{cell['ci95'][0]:.3f}, {cell['ci95'][1]:.3f}]"


def _caption(judging: Mapping[str, Any]) -> str:
    judge = judging["model"] or "-"
    warning = " " + LOW_MASS.en if low_mass(judging) else ""
    return (
        f"Rubric {table_cell(judging['rubric'])} ({judging['rubric_sha256'][:19]}), mode {table_cell(judging['mode'])}, judge "
        f"{table_cell(judge)};{warning} mean [95 % interval]; n: scored of answered. Published rows were judged by others and have no interval."
    )


def _scored(system: Mapping[str, Any]) -> str:
    scored = min((axis["n_scored"] for axis in system["axes"].values()), default=0)
    return f"{scored}/{system['n']}"


def _score(axis: Mapping[str, Any]) -> str:
    if axis["ci95"] is None:
        return _number(axis["mean"])
    return f"{_number(axis['mean'])} [{axis['ci95'][0]:.2f}, {axis['ci95'][1]:.2f}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def table_cell(value: str) -> str:
    """A text as table cell: one line, its markup inert."""
    for sign in "\\|`<>[]()*_!#~&":
        value = value.replace(sign, f"\\{sign}")
    return " ".join(value.split())
