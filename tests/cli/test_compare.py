"""`kollm compare` as a user calls it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kollm.cli import cli
from kollm.core.errors import InputError
from tests.report.fabricate import make_work_folder


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["compare", *map(str, arguments)])


def test_systems_of_one_folder(tmp_path: Path) -> None:
    folder = make_work_folder(tmp_path / "run", tasks=80, systems={"adapter": 0.8, "twin": 0.8, "base": 0.2})
    result = run(folder, "--axis", "overall_quality")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "Rubric kullm2023, mode text, judge gpt-5.5-2026-04-23"
    assert len(lines) == 2 + 3
    assert "not distinguishable / 구별되지 않음" in next(line for line in lines if "adapter - twin" in line)
    assert "adapter higher" in next(line for line in lines if "adapter - base" in line)
    assert run(folder / "verdicts.jsonl", "--axis", "overall_quality").output == result.output


def test_two_files_that_judge_a_system_of_one_name(tmp_path: Path) -> None:
    first = make_work_folder(tmp_path / "run1", systems={"adapter": 0.8})
    second = make_work_folder(tmp_path / "run2", systems={"adapter": 0.3}, seed=1)
    result = run(first, second, "--json")
    (judging,) = json.loads(result.output)
    assert {(c["first"], c["second"]) for c in judging["comparisons"]} == {("adapter (run1)", "adapter (run2)")}
    assert len(judging["comparisons"]) == 6
    twice = json.loads(run(first / "verdicts.jsonl", second / "verdicts.jsonl", "--json").output)
    assert twice[0]["comparisons"][0]["first"] == "adapter (run1)"


def test_each_table_is_corrected_by_itself_as_the_documents_say(tmp_path: Path) -> None:
    texts = {(system, number): f"답 {number}" for system in ("adapter", "base") for number in range(24)}
    folders = [make_work_folder(tmp_path / name, rubric=name, answers=texts) for name in ("kullm2023", "kullm3")]
    both = tmp_path / "verdicts.jsonl"
    both.write_text("".join((folder / "verdicts.jsonl").read_text() for folder in folders))
    alone = [json.loads(run(folder / "verdicts.jsonl", "--json").output)[0] for folder in folders]
    assert json.loads(run(both, "--json").output) == alone
    root = Path(__file__).resolve().parents[2]
    assert "over all rows of one table" in (root / "docs" / "report.md").read_text(encoding="utf-8")
    assert "한 표의 모든 줄에 걸쳐" in (root / "docs" / "report.ko.md").read_text(encoding="utf-8")


def test_agreement_with_people(tmp_path: Path) -> None:
    folder = make_work_folder(tmp_path / "run", tasks=30, failures=0.0)
    rows = [json.loads(line) for line in (folder / "verdicts.jsonl").read_text().splitlines()]
    labels = tmp_path / "people.csv"
    labels.write_text(
        "\ufeffid,system,overall_quality,coherence\n"
        + "".join(f"{row['id']},{row['system']},{row['scores']['overall_quality']:g},\n" for row in rows)
    )
    result = run(folder, labels, "--agreement", "--json")
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.output)
    assert (row["axis"], row["n"], row["exact"], row["kappa"]) == ("overall_quality", 60, 1.0, 1.0)
    table = run(folder, labels, "--agreement").output
    assert table.splitlines()[0].split()[:2] == ["axis", "n"]


def test_agreement_leaves_out_answers_that_changed(tmp_path: Path) -> None:
    first = make_work_folder(tmp_path / "a", systems={"adapter": 0.7}, answers={("adapter", 0): "다른 답"})
    second = make_work_folder(tmp_path / "b", systems={"adapter": 0.7}, answers={("adapter", 0): "또 다른 답"})
    whole = json.loads(run(first, first, "--agreement", "--axis", "coherence", "--json").output)[0]
    changed = json.loads(run(first, second, "--agreement", "--axis", "coherence", "--json").output)[0]
    assert changed["n"] < whole["n"]


def test_verdicts_on_an_answer_that_changed_since_are_left_out(tmp_path: Path) -> None:
    """A file that judged old answers, then new ones, says what a file says that judged the new ones alone."""
    systems = {"adapter": 0.9, "base": 0.1}
    texts = {(system, number): f"옛 답 {number}" for system in systems for number in range(24)}
    old = make_work_folder(tmp_path / "old", systems=systems, answers=texts)
    new = make_work_folder(tmp_path / "new", systems={"adapter": 0.2, "base": 0.8}, seed=1)
    both = make_work_folder(tmp_path / "both") / "verdicts.jsonl"
    both.write_text((old / "verdicts.jsonl").read_text() + (new / "verdicts.jsonl").read_text())
    for folder in (both.parent, new, old):
        (folder / "generations.jsonl").unlink()
    there = run(both)
    assert there.stdout == run(new / "verdicts.jsonl").stdout != run(old / "verdicts.jsonl").stdout
    assert "verdicts: 48 verdicts left out, since their answer was replaced by another" in there.stderr
    agreed = json.loads(run(both, new, "--agreement", "--json").output)
    assert {(row["n_one_sided"], row["exact"]) for row in agreed} == {(0, 1.0)}
    assert run(both.parent).stdout == run(new).stdout


def test_agreement_of_a_file_that_two_judges_wrote_is_not_their_mean(tmp_path: Path) -> None:
    first = make_work_folder(tmp_path / "a") / "verdicts.jsonl"
    second = make_work_folder(tmp_path / "b", model="another") / "verdicts.jsonl"
    first.write_text(first.read_text() + second.read_text())
    result = run(first, second, "--agreement")
    assert isinstance(result.exception, InputError)
    assert "scores of 2 judges (kullm2023 text gpt-5.5-2026-04-23; kullm2023 text another)" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["alone"], "No two systems were judged"),
        (["both", "--axis", "beauty"], "There is no axis 'beauty'"),
        (["both", "--agreement"], "takes two paths"),
        (["both", "bad.csv", "--agreement"], r"row 1: overall_quality is 'good', not a number"),
        (["both", "noid.csv", "--agreement"], r"row 1: needs id, system and scores"),
        (["both", "other.csv", "--agreement"], "share no axis"),
        (["both", "far.csv", "--agreement"], "score no answer both"),
        (["missing.jsonl"], "does not exist"),
    ],
)
def test_bad_input_gets_one_sentence(tmp_path: Path, arguments: list[str], message: str) -> None:
    make_work_folder(tmp_path / "alone", tasks=3, systems={"adapter": 0.5})
    make_work_folder(tmp_path / "both", tasks=3)
    (tmp_path / "bad.csv").write_text("id,system,overall_quality\nhuman_eval-0,adapter,good\n")
    (tmp_path / "noid.csv").write_text("name,overall_quality\nx,3\n")
    (tmp_path / "other.csv").write_text("id,system,beauty\nhuman_eval-0,adapter,3\n")
    (tmp_path / "far.csv").write_text("id,system,overall_quality\nelsewhere-0,adapter,3\n")
    result = run(*(a if a.startswith("-") or a == "beauty" else tmp_path / a for a in arguments))
    assert isinstance(result.exception, InputError)
    with pytest.raises(InputError, match=message):
        raise result.exception


def two_judges(tmp_path: Path, **more: object) -> tuple[Path, Path]:
    """A folder, and a file of another judge on the same answers."""
    folder = make_work_folder(tmp_path / "run", tasks=30, failures=0.0, **more)  # type: ignore[arg-type]
    other = make_work_folder(tmp_path / "other", tasks=30, failures=0.0, model="claude-5", **more)  # type: ignore[arg-type]
    return folder, (other / "verdicts.jsonl").rename(tmp_path / "claude.jsonl")


def test_a_panel_of_two_files(tmp_path: Path) -> None:
    folder, other = two_judges(tmp_path)
    rows = [json.loads(line) for line in other.read_text().splitlines()]
    rows[0]["scores"]["overall_quality"] = 5.0 if rows[0]["scores"]["overall_quality"] < 3 else 1.0
    other.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = run(folder, other, "--panel", "--axis", "overall_quality")
    assert result.exit_code == 0, result.output
    assert "Panel of 2 judges: gpt-5.5-2026-04-23, claude-5" in result.output
    assert "The judges differ most on:" in result.output and rows[0]["id"] in result.output
    assert "mode panel, judge gpt-5.5-2026-04-23 + claude-5" in result.output and "adapter - base" in result.output
    (panel,) = json.loads(run(folder, other, "--panel", "--axis", "overall_quality", "--json").output)
    assert [row["task"] for row in panel["disputed"]] == [rows[0]["id"]]
    assert 0.9 < panel["agreement"][0]["alpha"]["value"] < 1
    assert panel["results"][0]["comparisons"][0]["n"] == 30


def test_labels_correct_the_judge(tmp_path: Path) -> None:
    folder = make_work_folder(tmp_path / "run", tasks=80, failures=0.0)
    rows = [json.loads(line) for line in (folder / "verdicts.jsonl").read_text().splitlines()]
    labels = tmp_path / "people.csv"
    labels.write_text(
        "id,system,overall_quality\n"
        + "".join(
            f"{row['id']},{row['system']},{max(1, row['scores']['overall_quality'] - 1):g}\n"
            for row in rows
            if int(row["id"].split("-")[1]) % 3 == 0
        )
    )
    result = run(folder, "--labels", labels, "--axis", "overall_quality")
    assert result.exit_code == 0, result.output
    assert "corrected" in result.output and "adapter - base" in result.output and "drawn at random" in result.output
    found = json.loads(run(folder, "--labels", labels, "--axis", "overall_quality", "--json").output)
    assert [(row["first"], row["second"]) for row in found] == [("adapter", ""), ("base", ""), ("adapter", "base")]
    assert 0.5 < found[0]["judged"] - found[0]["corrected"] <= 1.1 and found[0]["n_labels"] == 27


def test_labels_of_an_answer_that_changed_do_not_count(tmp_path: Path) -> None:
    folder = make_work_folder(tmp_path / "run", tasks=30, failures=0.0)
    rows = [json.loads(line) for line in (folder / "verdicts.jsonl").read_text().splitlines()]
    labels = tmp_path / "labels.jsonl"
    changed = [{**row, "model_requested": "people"} for row in rows]
    for row in changed[:5]:
        row["response_sha256"] = "sha256:of-another-text"
    labels.write_text("".join(json.dumps(row) + "\n" for row in changed))
    found = json.loads(run(folder, "--labels", labels, "--axis", "overall_quality", "--json").output)
    assert sum(row["n_labels"] for row in found if not row["second"]) == 55


def test_biases_and_the_note_on_the_judges_family(tmp_path: Path) -> None:
    folder, other = two_judges(tmp_path, systems={"gpt-5.4-mini": 0.7, "base": 0.4})
    result = run(folder, other)
    assert "Note: gpt-5.4-mini: of the family of the judge gpt-5.5-2026-04-23, which may favour it" in result.stderr
    result = run(folder, other, "--bias", "--axis", "overall_quality")
    assert result.exit_code == 0, result.output
    assert "position: no pairs in both orders" in result.output
    assert "length and score (Spearman)" in result.output
    assert "own family (gpt-5.4-mini), overall_quality: +0.000 above what the other judges say" in result.output
    alone = run(folder, "--bias", "--axis", "overall_quality").output
    assert "own family: gpt-5.4-mini is of the judge's - a second judge of the same answers measures it" in alone


def test_across_judges_is_refused_unless_told(tmp_path: Path) -> None:
    first = make_work_folder(tmp_path / "a", systems={"adapter": 0.8})
    second = make_work_folder(tmp_path / "b", systems={"base": 0.3}, model="another")
    assert "--across-judges" in str(run(first, second).exception)
    told = run(first, second, "--across-judges", "--axis", "overall_quality")
    assert "judge gpt-5.5-2026-04-23 / another" in told.output and "adapter - base" in told.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--panel"], "No two judges scored the same answers"),
        (["--panel", "--bias"], "give one of them"),
        (["--panel", "--agreement"], "leave out the options that compare systems"),
        (["--labels", "none.csv"], "does not exist"),
    ],
)
def test_options_that_do_not_go_together_get_one_sentence(tmp_path: Path, options: list[str], message: str) -> None:
    folder = make_work_folder(tmp_path / "run", tasks=12)
    result = run(folder, *options)
    assert isinstance(result.exception, InputError) and message in str(result.exception)
