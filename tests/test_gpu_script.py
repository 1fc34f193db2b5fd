"""benchmarks/gpu.py on a processor: so that the first minute on a card is not spent on typing errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import Starter, finish

ROOT = Path(__file__).parents[1]


SCRIPT = ROOT / "benchmarks" / "gpu.py"


def test_a_part_is_written_when_it_ends_and_not_done_again(tmp_path: Path) -> None:
    """With compiled layers, in a Python of its own, since torch reads this variable when it is imported."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TORCHDYNAMO_DISABLE": "0"}
    command = [sys.executable, str(SCRIPT), "--out", str(tmp_path), "--only", "losses"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    (part,) = [json.loads(row) for row in (tmp_path / "parts.jsonl").read_text().splitlines()]
    assert part["part"] == "losses compiled" and "apart by" in part["lines"][0] and part["fault"] == ""
    section = (tmp_path / "RESULTS.md").read_text()
    assert "figures mean nothing" in section and "Not reached: tests; train 5.8b; " in section
    assert section in done.stdout


@pytest.mark.slow
def test_every_part_runs_through_on_a_processor(tmp_path: Path, training_starter: Starter) -> None:
    def run() -> list[str]:
        arguments = ["--out", tmp_path / "out", "--skip", "tests"]
        finish([training_starter.start(arguments, tmp_path, {"CUDA_VISIBLE_DEVICES": ""}, SCRIPT)])
        return (tmp_path / "out" / "parts.jsonl").read_text().splitlines()

    rows = run()
    assert not any(json.loads(row)["fault"] for row in rows)
    section = (tmp_path / "out" / "RESULTS.md").read_text()
    assert "Not reached: tests." in section and "Failed" not in section
    assert section.count("| 5.8b | bf16 |") == 8 and section.count("| transformers |") == 4
    assert run() == rows
