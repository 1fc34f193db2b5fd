"""`kollm judge` as a user runs it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import llmock.routers.batch as batches
import pytest
from llmock.pytest_plugin import LLMock

from kollm.cli import main
from kollm.core.address import origin
from kollm.core.files import json_line
from kollm.core.generations import Generation
from kollm.core.verdicts import Verdict
from kollm.judge import run as run_module
from kollm.judge.rubric import Rubric
from kollm.judge.verdicts import read_verdicts
from kollm.services.ledger import Ledger
from tests.judge.conftest import REPLY, answers


@pytest.fixture
def generations(tmp_path: Path, ledger: Ledger) -> Path:
    return write(tmp_path / "generations.jsonl", answers(5))


def write(path: Path, rows: list[Generation]) -> Path:
    path.write_text("".join(json_line(row.to_row()) for row in rows), encoding="utf-8")
    return path


def row(**changes: object) -> str:
    """A line of generations.jsonl with these values."""
    return json.dumps({**answers(1)[0].to_row(), **changes})


def kollm(*args: object) -> int:
    try:
        main(["judge", *map(str, args)])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_judge_again_and_replay(
    llmock: LLMock, generations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    llmock.reply(REPLY, times=None)
    output = tmp_path / "verdicts.jsonl"
    assert kollm(generations, "-o", output, "--max-cost", 1) == 0
    first = capsys.readouterr()
    assert "5 requests, 0 answered before" in first.err and "USD" in first.err
    assert "5 verdicts" in first.out and "understandability" in first.out and "4.000" in first.out
    assert kollm(generations, "-o", output) == 0
    again = capsys.readouterr().out
    assert "(5 were there before)" in again and len(llmock.requests) == 5
    assert again.rpartition("USD")[2] == first.out.rpartition("USD")[2] != " 0.0000 in all\n"


def test_dry_run_and_limit_ask_nobody(
    llmock: LLMock, generations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kollm(generations, "-o", tmp_path / "v.jsonl", "--dry-run", "--limit", 3) == 0
    assert "3 requests" in capsys.readouterr().err and llmock.requests == [] and not (tmp_path / "v.jsonl").exists()


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # llmock leaves uploads to the collector
def test_who_gets_the_text_is_said_once(
    llmock: LLMock,
    generations: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kollm.services.endpoint._announced", set())
    assert kollm(generations, "-o", tmp_path / "v.jsonl", "--limit", 1) == 0
    said = capsys.readouterr()
    assert said.err.count(origin(os.environ["OPENAI_BASE_URL"])) == 1
    assert "1 request, 0 answered before; to ask: about " in said.err
    assert "1 verdict in " in said.out


def test_batch_is_submitted_and_then_collected(
    llmock: LLMock,
    generations: Path,
    ledger: Ledger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(batches, "_BATCH_DELAY", 0.0)
    output = tmp_path / "verdicts.jsonl"
    assert kollm(generations, "-o", output, "--batch") == 0
    assert "Run the same command again" in capsys.readouterr().out and not output.exists()
    assert kollm(generations, "-o", output, "--batch") == 0
    verdicts = read_verdicts(output)
    assert len(verdicts) == 5 and {verdict.status for verdict in verdicts} == {"parse_error"}
    assert not list(tmp_path.glob("*.batch.json"))
    paid = ledger.stats()[0].cost
    assert paid > 0 and f"they cost USD {paid:.4f} in all" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # llmock leaves uploads to the collector
def test_a_failed_batch_is_told_each_time_and_submitted_once(
    llmock: LLMock,
    generations: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(batches, "_BATCH_DELAY", 0.0)
    output = tmp_path / "verdicts.jsonl"
    assert kollm(generations, "-o", output, "--batch") == 0
    batches._files.clear()  # the service cannot read the requests
    for again in (["--batch"], ["--batch"], []):
        assert kollm(generations, "-o", output, *again) == 1
        assert "brought no answer: missing_file: Input file not found." in capsys.readouterr().err
    assert sum(r.path == "/v1/batches" and r.method == "POST" for r in llmock.requests) == 1 and not output.exists()
    (tmp_path / "verdicts.jsonl.batch.json").unlink()
    assert kollm(generations, "-o", output, "--batch") == 0 and "Run the same command again" in capsys.readouterr().out


def test_pairs(llmock: LLMock, generations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    llmock.reply("판정: 무승부", times=None)
    other = write(tmp_path / "other.jsonl", answers(5, "base", "다른 답"))
    assert kollm(generations, "--against", other, "-o", tmp_path / "pairs.jsonl") == 0
    out = capsys.readouterr().out
    assert "adapter against base: 0 won, 5 tied, 0 lost, of 5" in out and "same choice in both orders: 1.000" in out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--rubric", "nope"], "There is no rubric 'nope'"),
        (["--model", "unknown", "--max-cost", "1"], "No price of the model 'unknown'"),
        (["--temperature", "nan"], "The temperature is nan - give a number from 0 to 2"),
        (["--engine", "local"], "has no default model"),
        (["--engine", "local", "--dry-run"], "has no default model"),
        (["--engine", "local", "--model", "x", "--samples", "2"], "costs nothing - leave out --samples, or use"),
        (["--engine", "local", "--model", "x", "--price", "1", "1"], "costs nothing - leave out --price, or use"),
        (["--engine", "local", "--model", "x", "--concurrency", "32"], "leave out --concurrency, or use"),
        (["--engine", "local", "--model", "x", "--max-cost", "0", "--dry-run"], "leave out --max-cost, or use"),
        (["--engine", "local", "--model", "x", "--mode", "text"], "leave out --mode, or use"),
        (
            ["--engine", "local", "--model", "x", "--base-url", "http://h", "--temperature", "0"],
            "--base-url, --temperature,",
        ),
        (["--engine", "local", "--model", "x", "--batch"], "--batch needs a service"),
        (["--against", "GENERATIONS", "--samples", "2"], "--against judges pairs in one way"),
        (["--against", "GENERATIONS", "--rubric", "kullm3"], "--against has a question of its own"),
        (["--engine", "rules"], "has axes that need a judge"),
        (["--engine", "rules", "--model", "x"], "asks no service and costs nothing - leave out --model"),
        (["--tasks", "GENERATIONS"], "unknown key 'adapter' - a task has id and any of reference"),
    ],
)
def test_mistakes_get_one_sentence(
    llmock: LLMock, generations: Path, args: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kollm(generations, *[str(generations) if arg == "GENERATIONS" else arg for arg in args]) == 1
    err = capsys.readouterr().err
    assert words in err and "Traceback" not in err and llmock.requests == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"id": 1}', "row 2: This is not a Generation row: missing adapter"),
        (row(id=1), "row 2: Generation 1: id is 1 - it must be text"),
        (row(response=None), "row 2: Generation 'task-0': response is None - it must be text"),
        (row(finish_reason=None), "row 2: Generation 'task-0': finish_reason is None - it must be text"),
        (row(history=["지난 말"]), "history is ['지난 말'] - give pairs of texts, [user, assistant]"),
        (row(checklist="x"), "checklist is 'x' - give a list of texts"),
        (row(id="a\nb"), r"row 2: the id 'a\nb' cannot be shown - use letters that can be printed"),
        (row(system="\x1b[2J"), r"row 2: the system '\x1b[2J' cannot be shown"),
        ('{"id": "a"}', "This is not a Generation row"),
        ('{"id": ', "line 2: not valid JSON"),
        ("[]", "line 2: a list, not an object"),
    ],
)
def test_a_wrong_row_is_named_before_anything_is_asked(
    llmock: LLMock, generations: Path, line: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = generations.read_text(encoding="utf-8").splitlines()[0]
    generations.write_text(f"{first}\n{line}\n", encoding="utf-8")
    for against in ([], ["--against", generations]):
        assert kollm(generations, *against) == 1
        err = capsys.readouterr().err
        assert words in err and "Traceback" not in err and llmock.requests == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            row(history=[["앞", "뒤"]]),
            "Task task-0 has earlier turns, which the rubric 'kullm2023-fixed' does not show",
        ),
        (row(system_message="반말로"), "Task task-0 has a system message, which the rubric 'kullm2023-fixed'"),
        (row(rules=[{"rule": "poem"}]), "Task task-0: there is no rule 'poem'"),
    ],
)
def test_what_the_judge_could_not_see_is_no_score(
    llmock: LLMock, generations: Path, line: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    generations.write_text(f"{line}\n", encoding="utf-8")
    assert kollm(generations) == 1
    assert words in capsys.readouterr().err and llmock.requests == []


def test_the_second_turn_is_judged_with_the_first(llmock: LLMock, tmp_path: Path, ledger: Ledger) -> None:
    answer = json.loads(row(history=[["다음 문장을 고쳐줘.", "고쳤습니다."]], system_message="짧게", reference="정답"))
    generations = tmp_path / "g.jsonl"
    generations.write_text(json.dumps(answer), encoding="utf-8")
    llmock.reply("평가: 좋습니다.\n점수: 8", times=None)
    assert kollm(generations, "--rubric", "logickor", "-o", tmp_path / "v.jsonl") == 0
    (verdict,) = read_verdicts(tmp_path / "v.jsonl")
    assert verdict.scores == {"score": 8.0} and verdict.status == "ok"
    asked = llmock.requests[0].body["messages"][0]["content"]
    assert all(text in asked for text in ("다음 문장을 고쳐줘.", "고쳤습니다.", "짧게", "정답"))
    answer["history"] = [["다른 말", "고쳤습니다."]]
    generations.write_text(json.dumps(answer), encoding="utf-8")
    assert kollm(generations, "--rubric", "logickor", "-o", tmp_path / "v.jsonl") == 0
    assert len(llmock.requests) == 2 and len(read_verdicts(tmp_path / "v.jsonl")) == 1, "another question, judged anew"


def test_a_checklist_and_rules_that_tasks_bring(llmock: LLMock, generations: Path, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.jsonl"
    rules = [{"rule": "max_characters", "value": 5}, {"rule": "includes", "value": ["없는 말"]}]
    rows = [{"id": f"task-{n}", "checklist": ["답이 맞나요?", "짧나요?"], "rules": rules} for n in range(5)]
    tasks.write_text("".join(json_line(row) for row in rows), encoding="utf-8")
    llmock.reply("1. 예\n2. 아니오", times=None)
    output = tmp_path / "v.jsonl"
    assert kollm(generations, "--rubric", "checklist", "--tasks", tasks, "-o", output) == 0
    for verdict in read_verdicts(output):
        assert verdict.scores == {"checklist": 0.5, "rules": 0.5} and verdict.status == "ok"
        assert verdict.usage["checklist"] == [True, False]
    assert "1. 답이 맞나요?\n2. 짧나요?" in llmock.requests[0].body["messages"][0]["content"]


def test_rules_ask_nobody(llmock: LLMock, generations: Path, tmp_path: Path) -> None:
    rubric = tmp_path / "short.yaml"
    rubric.write_text(
        "name: short\nlanguage: ko\naxes:\n- {key: short, label: 짧음, kind: rules, rules: "
        "[{rule: max_characters, value: 100}, {rule: language, value: ko}]}\n",
        encoding="utf-8",
    )
    output = tmp_path / "v.jsonl"
    assert kollm(generations, "--rubric", rubric, "--engine", "rules", "-o", output) == 0
    assert {v.scores["short"] for v in read_verdicts(output)} == {1.0} and llmock.requests == []


def test_a_judge_that_gives_no_scores_is_stopped(
    llmock: LLMock, tmp_path: Path, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    generations = write(tmp_path / "many.jsonl", answers(60))
    llmock.reply("잘 모르겠습니다.", times=None)
    output = tmp_path / "v.jsonl"
    assert kollm(generations, "-o", output, "--concurrency", 4) == 1
    err = capsys.readouterr().err
    assert "10 of the first 10 replies" in err and "--mode" in err and "--keep-going" in err
    assert len(llmock.requests) < 20 and len(read_verdicts(output)) == 10
    assert kollm(generations, "-o", output, "--keep-going") == 0
    assert len(read_verdicts(output)) == 60 and len(llmock.requests) == 60


def test_no_key_no_answers_and_a_dead_server(
    llmock: LLMock,
    generations: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    empty = write(tmp_path / "empty.jsonl", [])
    assert kollm(empty) == 1 and "no answers to judge" in capsys.readouterr().err
    llmock.fail(400, times=None)
    assert kollm(generations, "-o", tmp_path / "v.jsonl") == 1
    assert "No answer was judged: Error code: 400" in capsys.readouterr().err
    monkeypatch.delenv("OPENAI_API_KEY")
    assert kollm(generations, "-o", tmp_path / "unasked.jsonl") == 1
    assert "OPENAI_API_KEY is not set" in capsys.readouterr().err and not (tmp_path / "unasked.jsonl").exists()


def test_a_panel_of_judges_in_one_file_under_one_cap(
    llmock: LLMock, generations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    llmock.reply(REPLY, times=None)
    output = tmp_path / "verdicts.jsonl"
    models = ["--model", "gpt-5.5-2026-04-23", "--model", "gpt-4.1-2025-04-14"]
    assert kollm(generations, "-o", output, *models, "--max-cost", 1) == 0
    assert {v.model_requested for v in read_verdicts(output)} == set(models[1::2]) and len(read_verdicts(output)) == 10
    lines = [line for line in capsys.readouterr().out.splitlines() if "they cost" in line]
    assert len(lines) == 2 and lines[0].rpartition("USD")[2] < lines[1].rpartition("USD")[2]
    assert kollm(generations, "-o", output, *models) == 0 and len(llmock.requests) == 10
    for more, words in ((["--batch"], "are for one --model"), (["--against", generations], "give one --model")):
        assert kollm(generations, "-o", output, *models, *more) == 1
        assert words in capsys.readouterr().err


def test_several_judges_read_their_file_once_and_write_each_prompt_once(
    llmock: LLMock, generations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llmock.reply(REPLY, times=None)
    models = ["--model", "gpt-5.5-2026-04-23", "--model", "gpt-4.1-2025-04-14", "--model", "gpt-5.4-mini-2026-03-17"]
    output = tmp_path / "verdicts.jsonl"
    read, asked = [], []
    question = Rubric.question
    monkeypatch.setattr(run_module, "read_verdicts", lambda path: read.append(path) or read_verdicts(path))
    monkeypatch.setattr(Rubric, "question", lambda self, *given: asked.append(given) or question(self, *given))
    assert kollm(generations, "-o", output, *models) == 0
    assert (len(read_verdicts(output)), read, len(asked)) == (15, [], 5)
    assert kollm(generations, "-o", output, *models) == 0
    assert (len(read_verdicts(output)), read, len(asked)) == (15, [output], 10)


def test_a_file_that_another_changed_is_read_again(tmp_path: Path) -> None:
    written, path = run_module.Written(), tmp_path / "verdicts.jsonl"
    assert written.read(path) == []
    written.close(path)
    path.write_text("", encoding="utf-8")
    (kept := written.read(path)).append(verdict := stub_verdict())
    path.write_text(json_line(verdict.to_row()), encoding="utf-8")
    written.close(path)
    assert written.read(path) is kept and kept == [verdict]
    with path.open("a", encoding="utf-8") as file:
        file.write(json_line(replace(verdict, id="other").to_row()))
    assert [verdict.id for verdict in written.read(path)] == [verdict.id, "other"]


def stub_verdict() -> Verdict:
    return Verdict(
        "task-0", "adapter", "sha256:0", "mine", "sha256:1", "text", 0, "m", "m", {"score": 1.0}, "ok", "1", {}
    )


def test_several_systems_are_ranked_and_their_tests_corrected(
    llmock: LLMock, generations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    llmock.reply("판정: 무승부", times=None)
    others = write(tmp_path / "other.jsonl", answers(5, "base", "다른 답") + answers(5, "third", "또 다른 답"))
    assert kollm(generations, "--against", others, "-o", tmp_path / "pairs.jsonl") == 0
    out = capsys.readouterr().out
    assert "corrected over these 2 pairs of systems (Holm)" in out and "Bradley-Terry strength" in out
    assert "All equally strong (Wald test by cluster): p -" in out


def test_a_judge_of_the_judged_family_is_warned_of(
    llmock: LLMock, tmp_path: Path, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    own = write(tmp_path / "own.jsonl", answers(2, "gpt-5.4-mini"))
    assert kollm(own, "-o", tmp_path / "v.jsonl", "--dry-run") == 0
    assert "Note: gpt-5.4-mini: of the family of the judge gpt-5.5" in capsys.readouterr().err
