"""benchmarks/gpu.py on a processor: so that the first minute on a card is not spent on typing errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.processes import Starter, finish

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


@pytest.mark.slow
def test_every_part_runs_through_on_a_processor(tmp_path: Path, training_starter: Starter) -> None:
    def run(*options: str) -> tuple[list[str], str]:
        arguments = ["--out", tmp_path / "out", *options]
        said = finish([training_starter.start(arguments, tmp_path, {"CUDA_VISIBLE_DEVICES": ""}, SCRIPT)])
        return (tmp_path / "out" / "parts.jsonl").read_text().splitlines(), said

    ((first,), said) = run("--only", "losses")
    part = json.loads(first)
    assert part["part"] == "losses compiled" and "apart by" in part["lines"][0] and part["fault"] == ""
    section = (tmp_path / "out" / "RESULTS.md").read_text()
    assert "figures mean nothing" in section and "Not reached: tests; train 5.8b; " in section and section in said
    rows, _ = run("--skip", "tests")
    assert rows[0] == first and not any(json.loads(row)["fault"] for row in rows)
    section = (tmp_path / "out" / "RESULTS.md").read_text()
    assert "Not reached: tests." in section and "Failed" not in section
    assert section.count("| 5.8b | bf16 |") == 8 and section.count("| transformers |") == 4
    assert run("--skip", "tests")[0] == rows
