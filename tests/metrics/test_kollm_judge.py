"""The metric through `evaluate`: from the checkout, from a copy, from a Space; odd rows; a notebook's loop."""

from __future__ import annotations

import asyncio
import json
import re
import runpy
import shutil
from pathlib import Path
from typing import Any

import evaluate
import pytest
import yaml
from llmock.pytest_plugin import LLMock

import kollm
from kollm.core.errors import InputError, MissingKeyError
from kollm.report import write_report
from tests.judge.conftest import REPLY, SCORES

FOLDER = Path(kollm.metric_path())
MODEL = "gpt-5.4-mini-2026-03-17"


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOLLM_LEDGER", str(tmp_path / "ledger.sqlite3"))


@pytest.fixture
def metric(llmock: LLMock, tmp_path: Path) -> Any:
    llmock.reply(REPLY, times=None)
    return evaluate.load(kollm.metric_path(), "kullm2023", model=MODEL, cache_dir=str(tmp_path / "cache"))


def rows(count: int) -> dict[str, list[Any]]:
    return {
        "predictions": [f"답 {n}" for n in range(count)],
        "instructions": [f"지시 {n}" for n in range(count)],
        "inputs": ["" if n % 2 else "입력" for n in range(count)],
    }


def test_the_result_is_what_the_architecture_promises(llmock: LLMock, metric: Any) -> None:
    result = metric.compute(**rows(4))
    assert {axis: result[axis] for axis in SCORES} == SCORES
    assert (result["n"], result["n_scored"], result["n_failed"], result["parse_rate"]) == (4, 4, 0, 1.0)
    low, high = result["ci95"]["naturalness"]
    assert 1.0 <= low < 2.0 < high <= 3.0, "four equal scores leave room for others"
    assert result["bounds"]["naturalness"] == [2.0, 2.0]
    assert result["rubric_sha256"].startswith("sha256:") and result["models_returned"] == [MODEL]
    assert [verdict["id"] for verdict in result["verdicts"]] == ["row-0", "row-1", "row-2", "row-3"]
    json.dumps(result, allow_nan=False)
    assert metric.compute(**rows(4)) == result and len(llmock.requests) == 4


def test_odd_rows_are_statuses_and_never_raise(llmock: LLMock, metric: Any) -> None:
    result = metric.compute(
        predictions=[None, "답", "\ud83d", "가" * 100_000, "", 7],
        instructions=["지시", None, "지시", "지시", "지시", "지시"],
        inputs=["", "", None, "", "", ""],
    )
    assert [verdict["status"] for verdict in result["verdicts"]] == ["parse_error", "parse_error", *["ok"] * 4]
    assert result["bounds"]["naturalness"] == pytest.approx([(2 + 8) / 6, (6 + 8) / 6])
    assert len(llmock.requests) == 4


def test_a_service_that_is_down_gives_statuses_and_null_means(llmock: LLMock, tmp_path: Path) -> None:
    llmock.fail(400, times=None)
    metric = evaluate.load(kollm.metric_path(), "kullm3", model=MODEL, cache_dir=str(tmp_path))
    result = metric.compute(**rows(2))
    assert result["fluency"] is None and result["ci95"]["fluency"] is None and result["bounds"]["fluency"] == [1.0, 5.0]
    assert result["statuses"] == {"api_error": 2} and result["parse_rate"] is None


def cells_by_column(html: str) -> dict[str, str]:
    """The one system's row in the report's table of statuses, by the English names of its columns."""
    (table,) = (table for table in re.findall(r"<table[^>]*>.*?</table>", html, re.DOTALL) if ">parse rate<" in table)
    names = re.findall(r'<th scope="col">.*?<span class="en" lang="en">(.*?)</span>', table)
    (row,) = re.findall(r'<tr><th scope="row">.*?</tr>', table, re.DOTALL)
    return dict(zip(names[1:], re.findall(r"<td[^>]*>(.*?)</td>", row), strict=True))


def test_the_parse_rate_is_that_of_the_report(llmock: LLMock, tmp_path: Path) -> None:
    llmock.fail(400, times=35)
    llmock.reply("점수 없음", times=13)
    llmock.reply(REPLY, times=None)
    metric = evaluate.load(kollm.metric_path(), "kullm2023", model=MODEL, concurrency=1, cache_dir=str(tmp_path))
    result = metric.compute(**rows(100))
    assert result["statuses"] == {"api_error": 35, "ok": 52, "parse_error": 13} and result["parse_rate"] == 0.8
    (tmp_path / "run").mkdir()
    lines = "".join(json.dumps(verdict) + "\n" for verdict in result["verdicts"])
    (tmp_path / "run" / "verdicts.jsonl").write_text(lines, encoding="utf-8")
    page = write_report([tmp_path / "run"])
    (judging,) = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))["judgings"]
    (system,) = judging["systems"]
    assert (system["parse_rate"], system["without_reply"]) == (0.8, 35)
    html = page.read_text(encoding="utf-8")
    tile = (
        r'<span class="figure">(.*?)</span><span class="what">'
        r'<span class="ko">(.*?)</span> <span class="en" lang="en">(.*?)</span></span>'
    )
    assert re.findall(tile, html) == [
        ("100", "판정", "verdicts"),
        ("80.0%", "해석률", "parse rate"),
        ("35", "답 없음", "without a reply"),
    ]
    assert cells_by_column(html)["parse rate"] == "80.0%" and cells_by_column(html)["without a reply"] == "35"


def test_without_any_reply_there_is_no_parse_rate(llmock: LLMock, tmp_path: Path) -> None:
    llmock.fail(400, times=None)
    metric = evaluate.load(kollm.metric_path(), "kullm2023", model=MODEL, cache_dir=str(tmp_path))
    result = metric.compute(**rows(2))
    (tmp_path / "verdicts.jsonl").write_text("".join(json.dumps(verdict) + "\n" for verdict in result["verdicts"]))
    html = write_report([tmp_path]).read_text(encoding="utf-8")
    assert cells_by_column(html)["parse rate"] == "–" and cells_by_column(html)["without a reply"] == "2"
    assert result["parse_rate"] is None


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"predictions": [], "instructions": [], "inputs": []}, "the lists are empty"),
        ({"predictions": ["a"], "instructions": ["b", "c"]}, r"length \(predictions 1, instructions 2\) - give"),
        (
            {"predictions": ["a"], "instructions": ["b"], "inputs": ["c", "d"]},
            r"length \(predictions 1, instructions 1, inputs 2\) - give",
        ),
        ({"predictions": ["a"]}, "needs instructions"),
        ({"predictions": "abc", "instructions": ["b"]}, "predictions is a str"),
        ({}, "needs predictions"),
    ],
)
def test_wrong_lists_get_one_sentence_and_leave_no_lock(
    llmock: LLMock, metric: Any, tmp_path: Path, columns: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        metric.compute(**columns)
    assert metric.compute(**rows(1))["n"] == 1
    assert not list((tmp_path / "cache").rglob("*.lock")) and not list((tmp_path / "cache").rglob("*.arrow"))


def test_no_key_is_an_error_that_names_the_variable(
    metric: Any, llmock: LLMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(MissingKeyError, match="OPENAI_API_KEY"):
        metric.compute(**rows(2))
    assert llmock.requests == []


def test_inside_a_running_loop(metric: Any) -> None:
    async def cell() -> Any:
        return metric.compute(**rows(2))

    assert asyncio.run(cell())["n"] == 2


def test_add_add_batch_combine_and_save(metric: Any, llmock: LLMock, tmp_path: Path) -> None:
    metric.add(prediction="답", instructions="지시", inputs="")
    metric.add_batch(**rows(2), references=["r", "r"])
    assert metric.compute()["n"] == 3
    other = evaluate.load(kollm.metric_path(), "kullm3", model=MODEL, mode="structured", cache_dir=str(tmp_path))
    both = evaluate.combine([metric, other])
    result = both.compute(**rows(2))
    assert (
        result["naturalness"] == 2.0
        and "fluency" in result
        and result["kollm_judge_0_n"] == result["kollm_judge_1_n"] == 2
    )
    saved = evaluate.save(tmp_path / "result.json", **result)
    assert json.loads(saved.read_text(encoding="utf-8"))["naturalness"] == 2.0


def test_from_a_copy_and_with_a_rubric_of_ones_own(llmock: LLMock, tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "kollm_judge")
    rubric = tmp_path / "mine.yaml"
    source = FOLDER.parents[1] / "judge" / "rubrics" / "kullm3.yaml"
    rubric.write_text(source.read_text(encoding="utf-8").replace("name: kullm3", "name: mine"), encoding="utf-8")
    metric = evaluate.load(
        str(tmp_path / "kollm_judge"), rubric=str(rubric), model=MODEL, cache_dir=str(tmp_path / "c")
    )
    assert metric.compute(**rows(1))["rubric"] == "mine"


def test_the_spaces_own_test_cases_hold(llmock: LLMock, metric: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    for case in runpy.run_path(str(FOLDER / "tests.py"))["test_cases"]:
        expected = case.pop("result")
        result = metric.compute(**case)
        assert {key: result[key] for key in expected} == expected
    assert llmock.requests == []


def test_the_card_follows_the_conventions_of_metric_spaces() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(text.split("---")[1])
    assert head["sdk"] == "gradio" and head["app_file"] == "app.py" and {"evaluate", "metric"} <= set(head["tags"])
    assert head["title"] and head["description"]
    for section in (
        "Description",
        "How to use",
        "Inputs",
        "Output values",
        "Examples",
        "Limitations and bias",
        "Citation",
    ):
        assert f"\n## {section}\n" in text
    assert (FOLDER / "requirements.txt").read_text(encoding="utf-8").startswith("kollm[")
