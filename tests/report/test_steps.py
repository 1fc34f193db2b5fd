"""What each training did to the model: scores beside length, truncation, Hangul and divergence, and what is to be doubted."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from kollm.core.files import read_json, write_json
from kollm.core.hashing import text_sha256
from kollm.report import write_report
from kollm.report.folder import gather, read_judged
from kollm.report.summary import summarize
from tests.report.fabricate import make_work_folder


def make_run(folder: Path, strengths: dict[str, float], answers: dict[tuple[str, int], str] | None = None) -> Path:
    """A work folder of a run with preferences, judged on 40 tasks."""
    make_work_folder(folder, tasks=40, systems=strengths, failures=0.0, answers=answers)
    run = read_json(folder / "run.json")
    run["recipe"] = {**run["recipe"], "preference": {"method": "dpo", "samples": 4}}
    write_json(folder / "run.json", run)
    for name in ("preferred", "pairs"):
        (folder / name).mkdir()
    write_json(folder / "preferred" / "metrics.json", {"kl_to_reference": 0.125})
    length = {"chosen": 90.0, "rejected": 60.0, "longer": 30, "shorter": 10, "equal": 0, "longer_wins": 0.75}
    pairs = {"judge": "j", "rubric": "r", "axis": "a", "margin": 1.5, "agreement": 0.9, "length": length}
    write_json(folder / "pairs" / "manifest.json", {"rows": {"preferences": 40}, "dropped": {"tie": 3}, "pairs": pairs})
    return folder


def steps(folder: Path) -> dict[str, Any]:
    read = [read_judged(folder)]
    (found,) = summarize(read, gather(read))["steps"]
    return dict(found)


def test_each_step_has_its_numbers_and_its_gain_over_the_one_before(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", {"dpo": 0.95, "adapter": 0.5, "base": 0.1})
    found = steps(folder)
    assert [row["step"] for row in found["steps"]] == ["base", "adapter", "dpo"]
    assert (found["method"], found["axis"]) == ("dpo", "overall_quality")
    base, adapter, dpo = found["steps"]
    assert base["gain"] is None and base["warnings"] == []
    scores = [row["score"]["mean"] for row in found["steps"]]
    assert scores == sorted(scores)
    assert adapter["gain"]["difference"] == pytest.approx(scores[1] - scores[0])
    assert dpo["gain"]["difference"] == pytest.approx(scores[2] - scores[1])
    assert dpo["gain"]["ci95"][0] < dpo["gain"]["difference"] < dpo["gain"]["ci95"][1]
    assert dpo["gain"]["distinguishable"] and "doubt" not in dpo["warnings"]
    assert dpo["gain"]["wins"] + dpo["gain"]["ties"] + dpo["gain"]["losses"] == 40
    assert (base["kl"], adapter["kl"], dpo["kl"]) == (None, None, 0.125)
    assert 0 < dpo["hangul"] <= 1 and dpo["characters"] > 0
    assert found["pairs"]["n"] == 40 and found["pairs"]["length"]["longer_wins"] == 0.75


def test_a_gain_that_the_judge_cannot_tell_is_said_to_be_one(tmp_path: Path) -> None:
    found = steps(make_run(tmp_path / "run", {"adapter": 0.6, "dpo": 0.6, "base": 0.1}))
    assert found["steps"][2]["warnings"][0] == "doubt"


def test_a_gain_that_is_gone_at_equal_length_is_said_to_be_one(tmp_path: Path) -> None:
    """The judge pays for length alone, a longer answer more and a shorter one less; most answers of one system are longer."""
    folder = make_run(tmp_path / "run", {"adapter": 0.5, "dpo": 0.5})
    answers = [json.loads(line) for line in (folder / "generations.jsonl").read_text().splitlines()]
    verdicts = [json.loads(line) for line in (folder / "verdicts.jsonl").read_text().splitlines()]
    for answer, verdict in zip(answers, verdicts, strict=True):
        number = int(answer["id"].rpartition("-")[2])
        ratio = -0.6 + 2 * number / 39 if answer["system"] == "dpo" else 0.0
        answer["response"] = ("가나다라마 바사아자차 " * 40)[: round(100 * math.exp(ratio))]
        noise = 0.2 * (-1) ** number
        verdict["response_sha256"] = text_sha256(answer["response"])
        verdict["scores"]["overall_quality"] = 3 + (1.4 * math.tanh(ratio / 0.6) + noise if ratio else 0)
        verdict["status"] = "ok"
    for name, rows in (("generations", answers), ("verdicts", verdicts)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    row = steps(folder)["steps"][-1]
    assert row["gain"]["distinguishable"] and row["gain"]["difference"] > 0.3
    assert "length" in row["warnings"]


def test_page_and_markdown_show_them_and_other_runs_have_none(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", {"adapter": 0.6, "dpo": 0.6, "base": 0.1})
    write_report([folder])
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert 'id="steps"' in page and "within the judge&#39;s doubt" in page and "the longer one wins" in page
    assert "| dpo |" in (folder / "report.md").read_text(encoding="utf-8")
    plain = make_work_folder(tmp_path / "plain")
    read = [read_judged(plain)]
    assert summarize(read, gather(read))["steps"] == []
