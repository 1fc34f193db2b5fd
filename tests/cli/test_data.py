"""`kollm data plan | build | leaks` as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kollm.cli import main


def run(*arguments: str) -> int:
    try:
        main(["data", *arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def tasks_file(path: Path, name: str = "human_eval.en.jsonl") -> Path:
    sample = Path(__file__).parents[2] / "kollm" / "sources" / "sample_rows" / name
    path.write_bytes(sample.read_bytes())
    return path


def test_a_build_tells_rows_and_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "data"
    assert run("build", "gpt4_llm", "dolly", "--input", "sample", "--limit", "20", "-o", str(folder)) == 0
    out = capsys.readouterr().out
    assert "gpt4-llm: 20 rows" in out
    assert "of 40 rows compared, --filters paper-all would drop " in out
    assert out.splitlines()[-1] == str(folder)


def test_fields_that_a_translator_left_in_english_are_counted_in_evaluation_sets_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    english = tasks_file(tmp_path / "en.jsonl")
    korean = tasks_file(tmp_path / "ko.jsonl", "human_eval.ko.jsonl")
    sources = [json.loads(line) for line in english.read_text(encoding="utf-8").splitlines()]
    memory = [json.loads(line) for line in korean.read_text(encoding="utf-8").splitlines()]
    for source, row, output in zip(
        sources[:4], memory, ["Three words here.", "Another answer.", "12", "`code()`"], strict=False
    ):
        source["instances"][0]["output"] = row["instances"][0]["output"] = output
    english.write_text("".join(json.dumps(row) + "\n" for row in sources), encoding="utf-8")
    korean.write_text("".join(json.dumps(row) + "\n" for row in memory), encoding="utf-8")
    folder = tmp_path / "data"
    options = ["--memory", str(korean), "--limit", "4", "-o", str(folder)]
    assert run("build", "human_eval", "--input", str(english), *options) == 0
    flags = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["flags"]
    assert flags["untranslated_output"] == 2
    assert "kept as in English although they hold words: output of 2 rows" in capsys.readouterr().out


def test_a_plan_counts_and_keeps_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plan", "gpt4_llm", "sharegpt", "--input", "sample") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == [
        "source",
        "read",
        "unusable",
        "duplicates",
        "leaks",
        "routed",
        "out",
        "rows",
        "characters",
        "requests",
        "time",
        "USD",
    ]
    cells = out[1].split()
    assert cells[:2] == ["gpt4_llm", "115"]
    assert any(line.startswith("The text leaves this machine for DeepL: https://api") for line in out)
    assert any(line.startswith("sharegpt may carry personal data; masked before sending:") for line in out)
    assert list(tmp_path.iterdir()) == []


def test_a_plan_counts_source_rows_and_beside_them_the_records_that_they_split_into(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = [{"from": speaker, "value": f"{speaker} says {n}"} for n in range(3) for speaker in ("human", "gpt")]
    path = tmp_path / "talks.json"
    path.write_text(json.dumps([{"id": "a", "conversations": turns}, {"id": "b", "conversations": []}]))
    assert run("plan", "sharegpt", "dolly", "--input", f"sharegpt={path}", "--input", "sample", "--turns", "pairs") == 0
    head, *lines = (line.split() for line in capsys.readouterr().out.splitlines()[:3])
    assert head[:4] == ["source", "read", "records", "unusable"]
    assert [line[:4] for line in lines] == [["sharegpt", "2", "4", "1"], ["dolly", "75", "75", "0"]]


def test_the_price_is_that_of_the_characters(capsys: pytest.CaptureFixture[str]) -> None:
    for price in ("10", "20"):
        assert run("plan", "dolly", "--input", "sample", "--price", price) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("dolly ")]
    characters, cost = int(lines[0].split()[7].replace(",", "")), [float(line.split()[-1]) for line in lines]
    assert cost[0] == pytest.approx(characters * 10 / 1e6, abs=0.006)
    assert cost[1] == pytest.approx(characters * 20 / 1e6, abs=0.006)


def test_a_dry_run_is_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "data"
    assert run("build", "dolly", "--input", "sample", "--translator", "deepl", "--dry-run", "-o", str(folder)) == 0
    assert "Cost in all: USD" in capsys.readouterr().out
    assert not folder.exists()


def test_the_evaluation_set_under_another_name_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, folder = tasks_file(tmp_path / "mine.jsonl"), tmp_path / "data"
    build = ["build", "self_instruct", "--input", str(path), "--translator", "none", "--against", "sample"]
    assert run(*build, "-o", str(folder)) == 1
    message = capsys.readouterr().err
    assert "24 rows hold a task of the evaluation set (self_instruct-sample_task_0: human_eval-sample_task_0" in message
    assert not folder.exists()
    assert run(*build, "--leaks", "drop", "-o", str(folder)) == 0
    assert "left out, leak: 24" in capsys.readouterr().out
    assert run("leaks", str(folder), "--against", "sample") == 1
    assert "has no rows" in capsys.readouterr().err


def test_leaks_of_a_finished_dataset_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, folder = tasks_file(tmp_path / "ko.jsonl", "human_eval.ko.jsonl"), tmp_path / "data"
    build = ["build", "self_instruct", "--input", str(path), "--translator", "none", "--leaks", "keep"]
    assert run(*build, "--filters", "none", "-o", str(folder)) == 0
    capsys.readouterr()
    assert run("leaks", str(folder)) == 0
    assert "0 rows hold one of the 252 tasks of human_eval" in capsys.readouterr().out
    assert run("leaks", str(folder), "--against", str(path), "--show", "2") == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("24 rows hold one of the 24 tasks")
    assert out[1] == "self_instruct-sample_task_0: human_eval-sample_task_0 (100%)"
    assert out[-1] == "... and 22 more (--show)"


def test_an_evaluation_source_in_the_same_build_is_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tasks_file(tmp_path / "mine.jsonl")
    arguments = [
        "--input",
        "human_eval=sample",
        "--input",
        f"self_instruct={path}",
        "--memory",
        f"self_instruct={path}",
    ]
    assert run("build", "human_eval", "self_instruct", *arguments, "-o", str(tmp_path / "data")) == 1
    assert "24 rows hold a task" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["build", "dollly", "--input", "sample"], 1, "There is no source 'dollly'"),
        (
            ["build", "dolly", "--input", "missing.jsonl", "--translator", "none"],
            1,
            "The file 'missing.jsonl' does not exist",
        ),
        (["build", "dolly", "dolly", "--input", "sample"], 1, "named twice"),
        (["build", "dolly", "alpaca", "--input", "x.jsonl"], 2, "with several sources write --input NAME=x.jsonl"),
        (
            ["build", "dolly", "--input", "sample", "--filters", "strict"],
            1,
            "filters is 'strict' - input should be 'default'",
        ),
        (["build", "kullm_v2", "--input", "sample"], 1, "The bundled sample has no rows of 'kullm_v2'"),
        (["build", "dolly", "--input", "sample", "--translator", "deeple"], 2, "Invalid value"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments, "-o", str(tmp_path / "data")) == code
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_bad_rows_are_each_kept_or_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"instruction": "Say hello to me.", "input": "", "output": "Hello to you, my friend."},
        {"instruction": "", "input": "", "output": "x"},
        {"instruction": "a\ud800", "input": "", "output": "x"},
        {"instruction": "Read this.", "input": "x" * 2_000_000, "output": "Done."},
        {"instruction": 'Nested "quotes \\"in\\" quotes" and <t n="0"><x id="3"/></t> & ]]>', "input": "", "output": "Fine."},
        {"instruction": "No output."},
        ["a list"],
    ]  # fmt: skip
    path, folder = tmp_path / "rows.jsonl", tmp_path / "data"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert run("build", "gpt4_llm", "--input", str(path), "--translator", "none", "--filters", "none", "-o", str(folder)) == 0  # fmt: skip
    out = capsys.readouterr().out
    assert "gpt4-llm: 2 rows" in out
    for reason in ("empty_instruction", "lone_surrogate", "field_too_long", "no_column_output", "not_an_object"):
        assert f"left out, {reason}: 1" in out
