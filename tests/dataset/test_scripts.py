"""The runs of record are thin: each hands its sources to `kollm data build`."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

from kollm.dataset.folder import read_manifest

SCRIPTS = sorted((Path(__file__).parents[2] / "dataset_scripts").glob("ko_*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_builds_its_dataset(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data"
    monkeypatch.setattr(sys, "argv", [str(script), "--input", "sample", "--limit", "5", "-o", str(folder)])
    runpy.run_path(str(script), run_name="__main__")
    sources = [item["name"] for item in read_manifest(folder)["sources"]]
    assert sources == (["gpt4_llm", "dolly", "sharegpt"] if script.stem == "ko_instruct" else [script.stem[3:]])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_its_docstring_is_its_command(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert re.search(rf"^    python dataset_scripts/{script.name} --translator deepl .*-o [\w-]+$", text, re.MULTILINE)
