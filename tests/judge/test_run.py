"""Runs: every answer one verdict, kept at once, never asked for twice, whatever killed the run before."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from kollm.core.errors import InputError
from kollm.core.generations import Generation
from kollm.core.verdicts import Status, Verdict
from kollm.judge.rubric_file import load_rubric
from kollm.judge.run import Outcome, Question, _key, judge_generations, mean_scores, questions_on, verdict_of
from kollm.judge.verdicts import read_verdicts


class StubJudge:
    """Scores by the length of the answer; `fail` names tasks that get no answer, `die_after` ends the process's luck."""

    mode, name, samples = "text", "stub", 1
    rubric = load_rubric("kullm2023")

    def __init__(self, fail: Sequence[str] = (), die_after: int | None = None, samples: int = 1) -> None:
        self.fail, self.die_after, self.samples = fail, die_after, samples
        self.asked: list[tuple[str, int]] = []

    def run(self, questions: Sequence[Question], emit: Callable[[Verdict], None]) -> None:
        for number, question in enumerate(questions):
            if number == self.die_after:
                raise KeyboardInterrupt
            self.asked.append((question.generation.id, question.sample))
            failed = question.generation.id in self.fail
            status: Status = "api_error" if failed else "ok"
            scores = {axis.key: None if failed else float(axis.high) for axis in self.rubric.axes}
            emit(verdict_of(self, question, Outcome(scores, status, "stub-1")))


def answers(count: int, system: str = "adapter", text: str = "답") -> list[Generation]:
    return [Generation(f"task-{n}", "지시", "", f"{text} {n}", "m", "", {}, "stop", system) for n in range(count)]


def test_every_answer_gets_one_verdict(tmp_path: Path) -> None:
    output = tmp_path / "new" / "verdicts.jsonl"
    report = judge_generations(answers(3) + answers(3, "base"), StubJudge(), output)
    assert (report.verdicts, report.reused, report.statuses) == (6, 0, {"ok": 6})
    assert report.scores["adapter"]["overall_quality"] == 5.0 and set(report.scores) == {"adapter", "base"}
    assert len(read_verdicts(output)) == 6
    json.dumps(report.to_row(), allow_nan=False)


def test_tools_that_a_judge_does_not_see_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [replace(answer, tools='[{"function": {"name": "f"}}]') for answer in answers(2)]
    judge_generations([*given, *answers(1, "base")], StubJudge(), tmp_path / "v.jsonl")
    assert "2 answers had tools that the judge does not see, since the rubric 'kullm2023'" in capsys.readouterr().err
    judge = StubJudge()
    judge.rubric = replace(judge.rubric, template="{tools} {instruction} {response}")
    judge_generations(given, judge, tmp_path / "w.jsonl")
    judge_generations(answers(1), StubJudge(), tmp_path / "x.jsonl")
    assert "tools" not in capsys.readouterr().err


@pytest.mark.parametrize("tear", [b"", b'{"id": "task-9", "sys'])
def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path, tear: bytes) -> None:
    output = tmp_path / "verdicts.jsonl"
    with pytest.raises(KeyboardInterrupt):
        judge_generations(answers(5), StubJudge(die_after=2), output)
    with output.open("ab") as file:
        file.write(tear)
    second = StubJudge()
    report = judge_generations(answers(5), second, output)
    assert report.reused == 2 and [task for task, _ in second.asked] == ["task-2", "task-3", "task-4"]
    assert [verdict.id for verdict in read_verdicts(output)] == [f"task-{n}" for n in range(5)]


def test_an_answer_that_changed_is_judged_anew(tmp_path: Path) -> None:
    output = tmp_path / "verdicts.jsonl"
    judge_generations(answers(2), StubJudge(), output)
    changed = StubJudge()
    report = judge_generations([answers(2)[0], answers(2, text="새 답")[1]], changed, output)
    assert changed.asked == [("task-1", 0)] and report.verdicts == 2


def test_a_failed_request_is_asked_again_and_leaves_one_verdict(tmp_path: Path) -> None:
    output = tmp_path / "verdicts.jsonl"
    first = judge_generations(answers(3), StubJudge(fail=["task-1"]), output)
    assert first.statuses == {"api_error": 1, "ok": 2}
    again = StubJudge()
    assert judge_generations(answers(3), again, output).statuses == {"ok": 3}
    assert again.asked == [("task-1", 0)] and len(read_verdicts(output)) == 3


def test_samples_and_duplicates(tmp_path: Path) -> None:
    judge = StubJudge(samples=2)
    report = judge_generations(answers(1) + answers(1), judge, tmp_path / "verdicts.jsonl")
    assert judge.asked == [("task-0", 0), ("task-0", 1)] and report.verdicts == 2


def test_means_leave_failures_out(tmp_path: Path) -> None:
    output = tmp_path / "verdicts.jsonl"
    judge_generations(answers(3), StubJudge(fail=["task-1"]), output)
    verdicts = read_verdicts(output)
    assert mean_scores(verdicts, StubJudge.rubric)["overall_quality"] == 5.0
    failed = [verdict for verdict in verdicts if verdict.status != "ok"]
    assert set(mean_scores(failed, StubJudge.rubric).values()) == {None}


def test_nothing_to_judge_and_a_file_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no answers to judge"):
        judge_generations([], StubJudge(), tmp_path / "verdicts.jsonl")
    other = tmp_path / "other.jsonl"
    other.write_text('{"a": 1}\n', encoding="utf-8")
    with pytest.raises(InputError, match="not a Verdict row"):
        judge_generations(answers(1), StubJudge(), other)


def test_a_name_that_no_report_can_show_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    judge = StubJudge()
    with pytest.raises(InputError, match=r"the id 'a\\nb' cannot be shown"):
        judge_generations([*answers(2), replace(answers(1)[0], id="a\nb")], judge, tmp_path / "verdicts.jsonl")
    assert not judge.asked and not (tmp_path / "verdicts.jsonl").exists()


def test_the_key_of_a_question_is_that_of_its_verdict() -> None:
    judge = StubJudge()
    (question, *_) = questions_on(answers(1), 1)
    assert _key(judge, question) == verdict_of(judge, question, Outcome({}, "ok")).key()
