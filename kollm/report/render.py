"""The page: the template filled, style and script inside, and a policy that lets nothing else run."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from kollm.judge.scores import parse_rate, without_reply
from kollm.report import figures, words
from kollm.report.samples import Samples

PAGE = Path(__file__).resolve().parent / "page"


def render_page(summary: Mapping[str, Any], samples: Samples) -> str:
    """The whole HTML file.

    Everything from a run passes the template's escaping; samples are packed and set by the script as text. The content
    policy names style and script by hash, so that no other script, handler, style or address is ever used.
    """
    style, script = _style(), (PAGE / "page.js").read_text(encoding="utf-8")
    page = (
        _environment()
        .get_template("page.html.jinja")
        .render(
            s=summary,
            samples=samples,
            words=words,
            axis_words=words.axis_words,
            low_mass=words.low_mass,
            sections=_sections(summary),
            tiles=_tiles(summary),
            length_rho=_length_rho(summary),
            figures=[_figures(judging) for judging in (*summary["judgings"], *summary["panels"])],
            runs=[(run, figures.curve(run["training"])) for run in summary["runs"] if _tells(run)],
            labels=json_for_script(_labels(summary)),
            style=Markup(style),
            script=Markup(script),
            style_hash=_hash(style),
            script_hash=_hash(script),
        )
    )
    return page.encode("utf-8", "replace").decode("utf-8")


@functools.cache
def _environment() -> Environment:
    """The page's templates, compiled once."""
    environment = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["groupby_pair"] = _by_pair
    return environment


def json_for_script(value: Any) -> Markup:
    """JSON that cannot end a script element or begin a comment: ASCII, with <, > and & escaped."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def _style() -> str:
    """The style sheet, with the font that Korean falls back on where the machine has none."""
    font = base64.b64encode((PAGE / "font" / "kollm-gothic.woff2").read_bytes()).decode("ascii")
    face = f'@font-face{{font-family:"Kollm Gothic";src:url(data:font/woff2;base64,{font}) format("woff2");}}'
    return face + (PAGE / "page.css").read_text(encoding="utf-8")


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode("utf-8")).digest()).decode("ascii")


def _figures(judging: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "radars": figures.radars(judging),
        "bars": [figures.bars(judging, axis) for axis in judging["axes"]],
        "distributions": [figures.distribution(judging, axis) for axis in judging["axes"]],
    }


def _sections(summary: Mapping[str, Any]) -> list[tuple[str, words.Words]]:
    found = [("scores", words.Words("점수", "Scores"))]
    if summary["panels"]:
        found.append(("panels", words.Words("판정자 패널", "Panel")))
    if summary["steps"]:
        found.append(("steps", words.Words("학습 단계", "Steps")))
    if summary["benchmarks"]:
        found.append(("benchmarks", words.Words("공개 벤치마크", "Public benchmarks")))
    if summary["answers"]:
        found.append(("answers", words.Words("답변의 상태", "Answers")))
    if any(map(_tells, summary["runs"])):
        found.append(("run", words.Words("실행", "Run")))
    return [*found, ("samples", words.Words("답변과 판정", "Samples"))]


def _tells(run: Mapping[str, Any]) -> bool:
    """Whether a folder says how its answers came about; one of answers and verdicts alone does not."""
    return any(run[part] for part in ("training", "dataset", "stages", "settings", "outdated_verdicts"))


def _tiles(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The handful of numbers at the top."""
    found = []
    systems = [system for judging in summary["judgings"] for system in judging["systems"]]
    if summary["answers"]:
        found.append((str(len(summary["answers"])), words.Words("시스템", "systems")))
        found.append((f"{max(row['n'] for row in summary['answers']):,}", words.Words("과제", "tasks")))
    if systems:
        statuses: Counter[str] = Counter()
        for system in systems:
            statuses.update(system["statuses"])
        rate = parse_rate(statuses)
        found.append((f"{statuses.total():,}", words.Words("판정", "verdicts")))
        found.append(("–" if rate is None else f"{rate:.1%}", words.PARSE_RATE))
        found.append((f"{without_reply(statuses):,}", words.WITHOUT_REPLY))
    for run in summary["runs"]:
        heldout = run["training"].get("heldout") or {}
        if heldout.get("before") is not None and heldout.get("after") is not None:
            of_run = f" ({run['name']})" if len(summary["runs"]) > 1 else ""
            label = words.Words("떼어 둔 대화의 손실", f"held-out loss{of_run}")
            found.append((f"{heldout['before']:.2f} → {heldout['after']:.2f}", label))
    return [{"value": value, "words": label} for value, label in found]


def _by_pair(comparisons: Sequence[Mapping[str, Any]]) -> list[tuple[tuple[str, str], dict[str, Mapping[str, Any]]]]:
    """Each pair of systems with its comparisons by axis."""
    pairs: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for comparison in comparisons:
        pairs.setdefault((comparison["first"], comparison["second"]), {})[comparison["axis"]] = comparison
    return list(pairs.items())


def _length_rho(summary: Mapping[str, Any]) -> dict[str, float | None]:
    """Length-score correlation of each system on the last axis of the first judging."""
    if not summary["judgings"] or not summary["judgings"][0]["axes"]:
        return {}
    judging = summary["judgings"][0]
    last = judging["axes"][-1]["key"]
    return {system["system"]: system["axes"][last]["length_correlation"] for system in judging["systems"]}


def _labels(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What the script writes beside the samples."""
    return {
        "flags": list(words.FLAGS.values()),
        "statuses": words.STATUSES,
        "judgings": [
            {
                "name": " · ".join(filter(None, (judging["rubric"], judging["mode"], judging["model"]))),
                "axes": [words.axis_words(axis) for axis in judging["axes"]],
            }
            for judging in summary["judgings"]
        ],
        "shown": ("보이는 답변", "shown"),
        "instruction": ("지시어", "Instruction"),
        "input": ("입력", "Input"),
        "system": ("시스템 메시지", "System message"),
        "tools": ("도구", "Tools"),
        "user": ("앞선 사용자", "Earlier user turn"),
        "assistant": ("앞선 어시스턴트", "Earlier assistant turn"),
        "reference": ("참고 답안", "Reference"),
        "response": ("응답", "Response"),
        "raw": ("판정 원문", "Raw reply"),
        "too_old": (
            "이 브라우저는 압축된 답변을 열지 못합니다.",
            "This browser cannot open packed samples; use a newer one.",
        ),
    }
