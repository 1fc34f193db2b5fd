"""benchmarks/gpu.py on a processor: so that the first minute on a card is not spent on typing errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(out: Path, *more: str, compiling: bool = False) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--out", str(out), *more]
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "CUDA_VISIBLE_DEVICES": ""}
    environment["TORCHDYNAMO_DISABLE"] = str(int(not compiling))
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_a_part_is_written_when_it_ends_and_not_done_again(tmp_path: Path) -> None:
    done = run(tmp_path, "--only", "losses", compiling=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (part,) = [json.loads(row) for row in (tmp_path / "parts.jsonl").read_text().splitlines()]
    assert part["part"] == "losses compiled" and "apart by" in part["lines"][0] and part["fault"] == ""
    section = (tmp_path / "RESULTS.md").read_text()
    assert "figures mean nothing" in section and "Not reached: tests; train 5.8b; " in section
    assert section in done.stdout


@pytest.mark.slow
def test_every_part_runs_through_on_a_processor(tmp_path: Path) -> None:
    done = run(tmp_path, "--skip", "tests")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = (tmp_path / "parts.jsonl").read_text().splitlines()
    assert not any(json.loads(row)["fault"] for row in rows)
    section = (tmp_path / "RESULTS.md").read_text()
    assert "Not reached: tests." in section and "Failed" not in section
    assert section.count("| 5.8b | bf16 |") == 8 and section.count("| transformers |") == 4
    again = run(tmp_path, "--skip", "tests")
    assert (tmp_path / "parts.jsonl").read_text().splitlines() == rows and again.returncode == 0
