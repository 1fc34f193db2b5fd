"""What each training of a run did to the model: base, adapter, and what was trained on preferences, beside each other.

Preference tuning moves more than the score that it aims at: answers grow longer, run to the limit, drift away from the
adapter they began as. So scores stand beside length, truncation, Hangul and the divergence, and a gain that the judge
cannot tell from none, or that is gone at equal length, is said to be so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kollm.core.files import read_object
from kollm.report.folder import Answered, Material, WorkFolder

FIRST = ("base", "adapter")
WHOLE = "overall_quality"
_LETTER, _HANGUL = re.compile(r"[^\W\d_]"), re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]")


def step_rows(folders: Sequence[WorkFolder], material: Material, summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A table for each run that trained on preferences.

    Args:
        folders: what is reported.
        material: their answers.
        summary: `judgings` and `pairwise` as the report has them.
    """
    return [row for folder in folders if (row := _run(folder, material, summary)) is not None]


def _run(folder: WorkFolder, material: Material, summary: Mapping[str, Any]) -> dict[str, Any] | None:
    step = (folder.run.get("recipe") or {}).get("preference")
    if not isinstance(step, Mapping):
        return None
    method = str(step.get("method"))
    names = {
        name: next((n for n in (name, f"{name} ({folder.name})") if n in material.answers), None)
        for name in (*FIRST, method)
    }
    judging = summary["judgings"][0] if summary["judgings"] else None
    axis = _axis(judging)
    rows, before = [], None
    for name, shown in names.items():
        if shown is None:
            continue
        answers = [answer for given in material.answers[shown].values() for answer in given]
        row = {"step": name, "system": shown, **_state(answers), "score": _score(judging, shown, axis)}
        row["kl"] = _divergence(folder) if name == method else None
        row["gain"] = None if before is None else _gain(judging, shown, before["system"], axis)
        row["win_rate"] = None if before is None else _win_rate(summary["pairwise"], shown, before["system"])
        row["warnings"] = _warnings(row, before)
        rows.append(row)
        before = row
    return (
        {"run": folder.name, "method": method, "axis": axis, "steps": rows, "pairs": _pairs(folder)} if rows else None
    )


def _axis(judging: Mapping[str, Any] | None) -> str:
    """The axis that stands for the whole, else the last."""
    keys = [axis["key"] for axis in judging["axes"]] if judging else []
    return WHOLE if WHOLE in keys else keys[-1] if keys else ""


def _state(answers: Sequence[Answered]) -> dict[str, Any]:
    texts = [answer.generation.response for answer in answers]
    letters = sum(len(_LETTER.findall(text)) for text in texts)
    return {
        "n": len(texts),
        "characters": float(np.mean([len(text) for text in texts])),
        "truncated": sum("truncated" in answer.flags for answer in answers) / len(texts),
        "hangul": sum(len(_HANGUL.findall(text)) for text in texts) / letters if letters else None,
    }


def _score(judging: Mapping[str, Any] | None, system: str, axis: str) -> dict[str, Any] | None:
    found = next((item for item in judging["systems"] if item["system"] == system), None) if judging else None
    return {key: found["axes"][axis][key] for key in ("mean", "ci95", "n_scored")} if found else None


def _gain(judging: Mapping[str, Any] | None, system: str, before: str, axis: str) -> dict[str, Any] | None:
    """The difference to the step before, in the direction of the training; None where the two were not compared."""
    for item in judging["comparisons"] if judging else ():
        if item["axis"] == axis and {item["first"], item["second"]} == {system, before}:
            sign = 1 if item["first"] == system else -1
            equal = item["equal_length"]
            return {
                "difference": sign * item["difference"],
                "ci95": _turned(item["ci95"], sign),
                "p_holm": item["p_holm"],
                "distinguishable": item["distinguishable"],
                "wins": item["wins"] if sign > 0 else item["losses"],
                "ties": item["ties"],
                "losses": item["losses"] if sign > 0 else item["wins"],
                "equal_length": equal
                and {"difference": sign * equal["difference"], "ci95": _turned(equal["ci95"], sign)},
            }
    return None


def _turned(interval: Sequence[float] | None, sign: int) -> tuple[float, float] | None:
    if interval is None:
        return None
    low, high = interval
    return (low, high) if sign > 0 else (-high, -low)


def _win_rate(pairwise: Sequence[Mapping[str, Any]], system: str, before: str) -> dict[str, Any] | None:
    """Of a judge that saw both answers in both orders."""
    for row in pairwise:
        if row["win_rate"] is not None and {row["first"], row["second"]} == {system, before}:
            sign = row["first"] == system
            ci = row["ci95"]
            return {
                "value": row["win_rate"] if sign else 1 - row["win_rate"],
                "ci95": ci if sign or ci is None else (1 - ci[1], 1 - ci[0]),
                "n": row["n"],
                "consistent": row["consistent"],
            }
    return None


def _warnings(row: Mapping[str, Any], before: Mapping[str, Any] | None) -> list[str]:
    """Names of `kollm.report.words.STEP_WARNINGS`."""
    gain, found = row["gain"], []
    if before is None:
        return []
    if gain is not None and not gain["distinguishable"]:
        found.append("doubt")
    elif gain is not None and gain["difference"] < 0:
        found.append("worse")
    elif gain is not None and gain["equal_length"] is not None:
        interval = gain["equal_length"]["ci95"]
        if interval is None or interval[0] <= 0:
            found.append("length")
    if row["truncated"] > before["truncated"] + 0.05:
        found.append("truncated")
    return found


def _divergence(folder: WorkFolder) -> float | None:
    """KL to the reference on held-out prompts, as training measured it."""
    path = folder.path / "preferred" / "metrics.json"
    value = read_object(path).get("kl_to_reference") if path.is_file() else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _pairs(folder: WorkFolder) -> dict[str, Any] | None:
    """What the pairs were, as their manifest says."""
    path = folder.path / "pairs" / "manifest.json"
    if not path.is_file():
        return None
    manifest = read_object(path)
    facts = manifest.get("pairs")
    if not isinstance(facts, Mapping):
        return None
    kept = {key: facts.get(key) for key in ("judge", "rubric", "axis", "margin", "agreement", "length")}
    return {"n": (manifest.get("rows") or {}).get("preferences"), "left_out": manifest.get("dropped") or {}, **kept}
