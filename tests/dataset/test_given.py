"""`--dataset` takes a dataset folder, or rows of a user's own, which become one once and are used again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from kollm.cli import cli
from kollm.core.errors import InputError
from kollm.dataset.folder import read_manifest, read_records
from kollm.dataset.given import FOLDER, given_dataset, given_records
from kollm.sources.own import OwnOptions

ROWS = [
    {"messages": [{"role": "system", "content": "상담원"}, {"role": "user", "content": f"물음 {n}"}, {"role": "assistant", "content": f"대답 {n}"}]}
    for n in range(5)
]  # fmt: skip


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "my.jsonl"
    broken = {"messages": [{"role": "user", "content": "물음"}]}
    path.write_text("".join(json.dumps(row) + "\n" for row in [*ROWS, broken]), encoding="utf-8")
    return path


def test_own_rows_become_a_dataset_once(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = OwnOptions(name="support")
    first = given_dataset(rows, tmp_path / "out", options)
    assert Path(first).parent == tmp_path / "out" / FOLDER
    records = list(read_records(first))
    assert [(row.system, row.instruction, row.output) for row in records] == [
        ("상담원", f"물음 {n}", f"대답 {n}") for n in range(5)
    ]
    assert {row.lang for row in records} == {"ko"}
    assert {row.licence for row in records} == {""}
    said = capsys.readouterr().err
    assert "6 rows, read as OpenAI messages; 1 row left out: no_question_with_an_answer 1" in said
    before = (Path(first) / "manifest.json").stat().st_mtime_ns
    assert given_dataset(rows, tmp_path / "out", options) == first
    assert (Path(first) / "manifest.json").stat().st_mtime_ns == before
    assert "as read before" in capsys.readouterr().err
    rows.write_text(rows.read_text() + json.dumps(ROWS[0]).replace("0", "9") + "\n", encoding="utf-8")
    assert given_dataset(rows, tmp_path / "out", options) != first
    assert given_dataset(first, tmp_path / "out") == first, "what kollm made is taken as it is"
    with pytest.raises(InputError, match="--map is for rows of your own"):
        given_dataset(first, tmp_path / "out", OwnOptions(mapping=("instruction=a",)))


def test_the_card_says_what_the_rows_are(rows: Path, tmp_path: Path) -> None:
    command = ["data", "build", "own", "--input", str(rows), "--source-name", "support", "--against", "none"]
    result = CliRunner().invoke(cli, [*command, "-o", str(tmp_path / "D")])
    assert result.exit_code == 0, result.output
    card = (tmp_path / "D" / "README.md").read_text(encoding="utf-8")
    assert "# support\n" in card
    assert "license:" not in card
    assert "No licence was named" in card
    assert "- ko\n" in card
    manifest = read_manifest(tmp_path / "D")
    assert manifest["sources"][0]["form"] == "OpenAI messages"
    assert manifest["rows"] == {"support": 5}
    assert manifest["dropped"] == {"no_question_with_an_answer": 1}
    result = CliRunner().invoke(cli, [*command, "--licence", "CC-BY-4.0", "-o", str(tmp_path / "E")])
    assert result.exit_code == 0, result.output
    assert "license: cc-by-4.0" in (tmp_path / "E" / "README.md").read_text(encoding="utf-8")


def test_a_push_needs_a_licence(rows: Path, tmp_path: Path) -> None:
    from kollm.hub.preparation import _check_row_licences

    folder = Path(given_dataset(rows, tmp_path))
    with pytest.raises(
        InputError, match="name no licence, which a push needs - build the dataset again with --licence"
    ):
        _check_row_licences({}, folder, list(read_manifest(folder)["files"]))


def test_questions_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "prompts.csv"
    path.write_text("질문\n하나\n둘\n", encoding="cp949")
    records = list(given_records(path, OwnOptions(asked=True)))
    assert [(row.id, row.instruction, row.output) for row in records] == [("own-0", "하나", ""), ("own-1", "둘", "")]
    result = CliRunner().invoke(cli, ["generate", "M", "--dataset", str(path), "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "would answer 2 tasks" in result.output


def test_leaks_of_ones_own_rows(rows: Path) -> None:
    result = CliRunner().invoke(cli, ["data", "leaks", str(rows)])
    assert result.exit_code == 0, result.output
    assert "0 rows hold one of the 252 tasks" in result.output


@pytest.mark.parametrize(
    "command", [["data", "leaks"], ["generate", "M", "--dry-run", "--dataset"], ["preview", "demo", "--dataset"]]
)
def test_what_is_not_there_is_one_sentence(command: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, [*command, str(tmp_path / "none.jsonl")])
    assert isinstance(result.exception, InputError)
    assert "There is no file or folder" in str(result.exception)
