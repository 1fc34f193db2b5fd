"""Public benchmarks in a report: side by side where they were asked in one way, apart where not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kollm.core.benchmarks import BenchmarkScore, Score, write_benchmarks
from kollm.core.errors import InputError
from kollm.report import write_report


def score(system: str, task: str, value: float, **changes: object) -> BenchmarkScore:
    values = {
        **{"system": system, "model": "ORG/m", "weights": f"sha256:{system}", "prompt": "kullm-2023", "task": task},
        **{"version": "2.0", "documents_sha256": f"sha256:{task}", "shots": 5, "documents": 100},
        **{"harness": "lm-evaluation-harness 0.4.13", "scores": (Score(metric="acc", value=value, stderr=0.02),)},
    }
    return BenchmarkScore.model_validate({**values, **changes})


def test_systems_stand_side_by_side_and_other_ways_apart(tmp_path: Path) -> None:
    rows = [score(system, task, 0.3) for system in ("base", "adapter") for task in ("kmmlu_law", "kmmlu_math")]
    rows += [score("base", "kmmlu", 0.31, members=("kmmlu_law", "kmmlu_math"), documents=200)]
    rows += [score("adapter", "kmmlu", 0.4, members=("kmmlu_law", "kmmlu_math"), documents=200)]
    rows += [score("base", "haerae", 0.2), score("adapter", "haerae", 0.5, shots=0, limit=10)]
    write_benchmarks(tmp_path / "benchmarks.jsonl", rows)
    page = write_report([tmp_path])
    report = json.loads(page.with_suffix(".json").read_text(encoding="utf-8").partition("<!--")[0])
    shown = [(row["task"], row["group"], row["shots"], sorted(row["systems"])) for row in report["benchmarks"]]
    assert shown == [
        ("haerae", "", 5, ["base"]),
        ("haerae", "", 0, ["adapter"]),
        ("kmmlu", "", 5, ["adapter", "base"]),
        ("kmmlu_law", "kmmlu", 5, ["adapter", "base"]),
        ("kmmlu_math", "kmmlu", 5, ["adapter", "base"]),
    ]
    assert report["benchmarks"][2]["systems"]["adapter"]["ci95"] == pytest.approx([0.4 - 0.0392, 0.4 + 0.0392])
    table = page.with_suffix(".md").read_text(encoding="utf-8")
    assert "| kmmlu v2.0 | acc | 200 | 5 | 0.3100 [0.271, 0.349] | 0.4000 [0.361, 0.439] |" in table
    assert "| haerae v2.0 (일부 / part) | acc | 100 | 0 | - | 0.5000 [0.461, 0.539] |" in table and "law" not in table
    assert "공개 벤치마크" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("bad", [{"value": float("nan")}, {"value": "0.3"}, {"value": 0.3, "stderr": -1.0}])
def test_a_value_that_is_none_is_refused(bad: dict[str, object], tmp_path: Path) -> None:
    row = score("base", "kmmlu", 0.3).model_dump(mode="json")
    row["scores"] = [{"metric": "acc", **bad}]
    (tmp_path / "benchmarks.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"benchmarks.jsonl, (row|line) 1"):
        write_report([tmp_path])
