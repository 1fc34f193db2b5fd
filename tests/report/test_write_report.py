"""From a work folder to the three files: what they hold, and what bad input gets."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from kollm.cli import cli
from kollm.core.errors import InputError
from kollm.judge.rubric_file import load_rubric
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
    assert "30 (75.0%)" in html and "1,400 (70.0%)" in html, "shares of the mixture"
    assert html.count("&lt;b&gt;수도&lt;/b&gt;는?") == 1
    assert "20&lt;script&gt;" in html and "40&lt;script&gt;" in html and "40<script>" not in html


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


def test_the_command_names_what_it_wrote(tmp_path: Path) -> None:
    folders = [make_work_folder(tmp_path / name, tasks=3) for name in ("a", "b")]
    output = tmp_path / "new" / "both.html"
    result = CliRunner().invoke(cli, ["report", *map(str, folders), "-o", str(output), "--samples", "4"])
    assert result.exit_code == 0, result.output
    assert result.output.split() == [str(output.with_suffix(suffix)) for suffix in (".html", ".json", ".md")]
    assert "4/12" in output.read_text()
    assert not (folders[0] / "report.html").exists()


@pytest.mark.parametrize(
    "left", ["run.json", "generations.jsonl", "verdicts.jsonl", "adapter/metrics.json", "dataset/manifest.json"]
)
def test_one_file_of_a_work_folder_is_enough(tmp_path: Path, left: str) -> None:
    folder = make_work_folder(tmp_path / "run", tasks=3)
    for path in [path for path in folder.rglob("*") if path.is_file() and path != folder / left]:
        path.unlink()
    assert "kollm 보고서" in write_report([folder]).read_text()
    assert write_report([folder]).with_suffix(".md").read_text()


def test_answers_and_verdicts_alone_make_no_empty_section(tmp_path: Path) -> None:
    folder = make_work_folder(tmp_path / "run", tasks=3)
    assert 'href="#run"' in write_report([folder]).read_text()
    for part in ("run.json", "adapter/metrics.json", "adapter/training.json", "dataset/manifest.json"):
        (folder / part).unlink()
    page = write_report([folder]).read_text()
    assert 'href="#run"' not in page and 'id="run"' not in page and 'href="#samples"' in page


def test_names_with_markup_are_escaped_everywhere(tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)>|`x`"
    page = write_report([make_work_folder(tmp_path / "run", tasks=3, systems={name: 0.5, "base": 0.4})])
    assert "<img" not in page.read_text()
    row = next(line for line in page.with_suffix(".md").read_text().splitlines() if "onerror" in line)
    assert row.startswith("| \\<img src=x onerror=alert\\(1\\)\\>\\|\\`x\\` |")


def test_many_systems_are_not_compared_in_pairs(tmp_path: Path) -> None:
    systems = {f"s{number}": 0.5 for number in range(9)}
    page = write_report([make_work_folder(tmp_path / "run", tasks=4, systems=systems)])
    assert "use kollm compare" in page.read_text()


def test_a_rubric_of_ones_own_lends_its_ranges(tmp_path: Path) -> None:
    rubric = tmp_path / "mine.yaml"
    rubric.write_text(
        "name: mine\nlanguage: ko\naxes: [{key: wit, label: 재치, low: 0, high: 9}]\n"
        "prompt: '{instruction} {input} {response}'\nreply_form: '- 재치:'\n"
    )
    folder = make_work_folder(tmp_path / "run", tasks=8, rubric=str(rubric))
    unknown = json.loads(write_report([folder]).with_suffix(".json").read_text())["judgings"][0]
    known = json.loads(write_report([folder], rubrics=[rubric]).with_suffix(".json").read_text())["judgings"][0]
    assert (unknown["axes"][0]["high"], unknown["systems"][0]["axes"]["wit"]["bounds"]) == (None, None)
    assert known["axes"] == [{"key": "wit", "label": "재치", "korean": "재치", "low": 0, "high": 9}]
    assert known["systems"][0]["axes"]["wit"]["mean"] == unknown["systems"][0]["axes"]["wit"]["mean"]


@pytest.mark.parametrize("rubric", ["kullm2023", "kullm3"])
def test_axes_have_the_words_of_the_rubric_file_in_the_report_and_in_the_documents(tmp_path: Path, rubric: str) -> None:
    page = write_report([make_work_folder(tmp_path / "run", tasks=4, rubric=rubric)])
    labels = [(axis.label, *axis.also) for axis in load_rubric(rubric).axes]
    html = page.read_text()
    shown = re.findall(
        r'<th scope="col"><span class="ko">([^<]*)</span> <span class="en" lang="en">[^<]*</span> <span class="range">',
        html,
    )
    assert len(shown) == len(labels) and all(word in of_file for word, of_file in zip(shown, labels, strict=True))
    assert all(f"{word} / " in page.with_suffix(".md").read_text() and html.count(word) > 2 for word in shown)
    document = (Path(__file__).resolve().parents[2] / "docs" / "judge.ko.md").read_text(encoding="utf-8")
    row = next(line for line in document.splitlines() if line.startswith(f"| `{rubric}` |"))
    named = [re.sub(r" \d-\d$", "", name) for name in row.split(" | ")[1].removesuffix(", 각각 1-5").split(", ")]
    assert named == shown


def test_an_output_that_cannot_be_written_gets_one_sentence(tmp_path: Path) -> None:
    folder = make_work_folder(tmp_path / "run", tasks=3)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_report([folder], tmp_path / "file" / "report.html")


def test_bad_input_gets_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder to report"):
        write_report([])
    with pytest.raises(InputError, match="is not a folder"):
        write_report([tmp_path / "missing"])
    with pytest.raises(InputError, match="holds nothing to report"):
        write_report([tmp_path])
    (tmp_path / "none.jsonl").write_text("")
    with pytest.raises(InputError, match=r"none\.jsonl' holds no verdicts"):
        write_report([tmp_path / "none.jsonl"])
    (tmp_path / "verdicts.jsonl").write_text('{"id": 1\n')
    with pytest.raises(InputError, match=r"verdicts\.jsonl, line 1"):
        write_report([tmp_path])


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("run.json", "[]", "holds a list, not keys and values"),
        ("run.json", '{"stages": []}', "'stages' is a list"),
        ("dataset/manifest.json", '{"dropped": 3}', "'dropped' is 3"),
        ("adapter/metrics.json", '{"history": {}}', "'history' is an object"),
        ("run.json", '{"toy": ', r"run\.json, line 1: not valid JSON"),
    ],
)
def test_a_file_of_another_shape_gets_one_sentence(tmp_path: Path, file: str, content: str, message: str) -> None:
    folder = make_work_folder(tmp_path / "run", tasks=3)
    (folder / file).write_text(content)
    with pytest.raises(InputError, match=message):
        write_report([folder])
