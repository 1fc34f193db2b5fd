from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from kollm.app.decisions import Decisions, person_name
from kollm.app.suspicion import SuspicionIndex, is_control, score_dataset, suspect
from kollm.core.errors import InputError
from kollm.quality.review import read_review, replay
from tests.app.conftest import translated


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        self.now += 10
        return self.now


def test_decisions_are_replayed_by_a_build(tmp_path: Path) -> None:
    decisions = Decisions(tmp_path / "decisions", Clock())
    keep, correct, drop = (translated(number) for number in (1, 2, 3))
    decisions.decide(keep, "kim", "keep", {})
    decisions.decide(correct, "kim", "correct", {"output": "고친 답", "instruction": correct.instruction})
    decisions.decide(drop, "lee", "drop", {})
    corrections = read_review(tmp_path / "decisions")
    assert [replay(row, corrections[row.id]).what for row in (keep, correct, drop)] == ["", "corrected", "dropped"]
    assert replay(correct, corrections[correct.id]).record.output == "고친 답"


def test_an_undone_decision_is_none(tmp_path: Path) -> None:
    decisions = Decisions(tmp_path, Clock())
    decisions.decide(translated(1), "kim", "drop", {})
    decisions.decide(translated(2), "kim", "keep", {})
    last = decisions.last_of("kim")
    assert last is not None and last.id == "dolly-2"
    decisions.decide(translated(2), "kim", "", {})
    last = decisions.last_of("kim")
    assert last is not None and last.id == "dolly-1"
    assert decisions.decided() == {"dolly-1"} and set(read_review(tmp_path)) == {"dolly-1"}


def test_two_people_do_not_overwrite_each_other_and_their_conflicts_show(tmp_path: Path) -> None:
    clock = Clock()
    here, there = Decisions(tmp_path, clock), Decisions(tmp_path, clock)  # two servers on one folder
    for number in range(4):
        here.decide(translated(number), "kim", "keep", {})
        there.decide(translated(number), "lee", "drop" if number == 3 else "keep", {})
    assert [conflict.id for conflict in here.conflicts()] == ["dolly-3"]
    assert here.conflicts()[0].kinds == {"kim": "keep", "lee": "drop"}
    rows, alpha = there.agreement()
    assert rows == 4 and alpha is not None and alpha < 1
    assert read_review(tmp_path)["dolly-3"].decision == "drop"  # the latest


def test_a_line_cut_off_by_a_kill_harms_no_other(tmp_path: Path) -> None:
    Decisions(tmp_path, Clock()).decide(translated(1), "kim", "keep", {})
    with (tmp_path / "kim.jsonl").open("a") as file:
        file.write('{"id": "dolly-2", "deci')
    again = Decisions(tmp_path, Clock())
    assert again.decided() == {"dolly-1"}
    again.decide(translated(3), "kim", "drop", {})
    assert again.decided() == {"dolly-1", "dolly-3"} == Decisions(tmp_path).decided() == set(read_review(tmp_path))


def test_progress_and_the_error_rate_of_what_nobody_suspected(tmp_path: Path) -> None:
    decisions = Decisions(tmp_path, Clock())
    for number in range(10):
        decisions.decide(translated(number), "kim", "drop" if number == 0 else "keep", {})
    progress = decisions.progress("kim", {"dolly-1", "dolly-50"}, {f"dolly-{number}" for number in range(20)})
    assert (progress.decided, progress.waiting, progress.pace, progress.left) == (10, 1, 10.0, 10.0)
    assert (progress.control, progress.control_errors) == (10, 1) and progress.error_rate is not None
    rate, low, high = progress.error_rate
    assert rate == 0.1 and low == pytest.approx(0.0025, abs=1e-3) and high == pytest.approx(0.445, abs=1e-3)


@pytest.mark.parametrize(("kind", "texts"), [("maybe", {}), ("correct", {}), ("correct", {"nothing": "x"})])
def test_what_is_no_decision_is_refused(tmp_path: Path, kind: str, texts: dict[str, str]) -> None:
    with pytest.raises(InputError):
        Decisions(tmp_path).decide(translated(1), "kim", kind, texts)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Nothing was written"):
        Decisions(tmp_path / "file" / "decisions").decide(translated(1), "kim", "keep", {})


def test_names_become_files(tmp_path: Path) -> None:
    assert person_name(" 김 선생/../x ") == "김-선생-x"
    with pytest.raises(InputError):
        person_name("../..")


def test_faults_weigh_more_than_doubts_and_sound_rows_nothing() -> None:
    assert suspect(translated(1)).score == 0
    lost = suspect(translated(5, "Pi is 3.14159 and e is 2.71828.", "파이는 무리수입니다."))
    assert lost.score >= 1 and "decimals" in lost.reasons


def test_the_scores_are_counted_once_and_resumed(dataset: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    index = SuspicionIndex(dataset, notes)
    notes.mkdir()
    index.prepare()
    score_dataset(dataset, notes / "suspicion.sqlite3")
    assert index.counts() == (302, True)
    worst = index.queue(3, set())
    assert {"dolly-5", "dolly-6", "dolly-7"} & {item.id for item in worst} and worst[0].score >= worst[1].score
    assert worst[0].id not in {item.id for item in index.queue(3, {worst[0].id})}
    control = index.ids(control=True)
    assert control and all(is_control(id) for id in control) and not control & index.ids()
    assert SuspicionIndex(dataset, notes).prepare() is False


def test_two_first_requests_start_one_scoring(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    class Scoring:
        def __init__(self, **_: object) -> None:
            started.append(self)

        def start(self) -> None:
            time.sleep(0.05)

        def is_alive(self) -> bool:
            return True

    monkeypatch.setattr(multiprocessing, "get_context", lambda kind: SimpleNamespace(Process=Scoring))
    index = SuspicionIndex(dataset, tmp_path / "notes")
    with ThreadPoolExecutor(4) as threads:
        for asked in [threads.submit(index.start) for _ in range(4)]:
            asked.result()
    assert len(started) == 1
