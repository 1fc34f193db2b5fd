"""From a work folder to the three files: what they hold, and what bad input gets."""

import json
from pathlib import Path

import pytest

from kollm.errors import InputError
from kollm.report import write_report
from tests.report.fabricate import make_work_folder


def test_three_files_with_the_same_numbers(tmp_path: Path) -> None:
    page = write_report([make_work_folder(tmp_path / "run")])
    assert page == tmp_path / "run" / "report.html"
    summary = json.loads(page.with_suffix(".json").read_text())
    html, table = page.read_text(), page.with_suffix(".md").read_text()
    mean = summary["judgings"][0]["systems"][0]["axes"]["overall_quality"]["mean"]
    assert f"<b>{mean:.3f}</b>" in html
    assert f"| {mean:.3f} [" in table or f" {mean:.3f} [" in table
    assert "4.4120" in html and "1.8670" in html


def test_a_toy_run_says_that_its_scores_mean_nothing(tmp_path: Path) -> None:
    toy = write_report([make_work_folder(tmp_path / "toy", toy=True)])
    real = write_report([make_work_folder(tmp_path / "real")])
    for sentence in ("이 점수에는 아무 뜻이 없습니다", "These scores mean nothing"):
        for suffix in (".html", ".md"):
            assert sentence in toy.with_suffix(suffix).read_text()
            assert sentence not in real.with_suffix(suffix).read_text()


def test_bytes_are_the_same_for_the_same_folder(tmp_path: Path) -> None:
    folder = make_work_folder(tmp_path / "run")
    first = write_report([folder]).read_bytes()
    assert write_report([folder]).read_bytes() == first


def test_bad_input_gets_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder to report"):
        write_report([])
    with pytest.raises(InputError, match="is not a folder"):
        write_report([tmp_path / "missing"])
    with pytest.raises(InputError, match="holds nothing to report"):
        write_report([tmp_path])
    (tmp_path / "verdicts.jsonl").write_text('{"id": 1\n')
    with pytest.raises(InputError, match=r"verdicts\.jsonl, line 1"):
        write_report([tmp_path])
