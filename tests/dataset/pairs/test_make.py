"""`kollm data pairs`: from answers with verdicts, pairwise verdicts or labels, and from files, to a dataset folder."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset

from kollm.cli import main
from kollm.core.errors import InputError
from kollm.core.files import json_line
from kollm.core.generations import Generation
from kollm.core.hashing import text_sha256
from kollm.core.preferences import Preference
from kollm.core.verdicts import Verdict
from kollm.dataset.folder import read_manifest
from kollm.dataset.pairs.choosing import Limits
from kollm.dataset.pairs.make import make_pairs
from kollm.dataset.pairs.settings import PairSettings, PairsReport
from kollm.dataset.pairs.translation import PairTranslation
from kollm.dataset.preferences import read_preferences
from kollm.judge.pairwise import PairVerdict
from kollm.services.ledger import Ledger
from kollm.sources.own import OwnOptions
from kollm.translate.deepl import DeepLTranslator
from tests.servers.deepl import KEY, DeepLServer


def write(path: Path, rows: Sequence[Any]) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(
        "".join(json_line(row if isinstance(row, Mapping) else row.to_row()) for row in rows), encoding="utf-8"
    )
    return path


def generation(task: int, sample: int, **more: Any) -> Generation:
    values = {
        "instruction": f"질문 {task}번입니다",
        "response": f"{task}번에 대한 {'긴 ' * sample}답",
        "system": "sft",
        **more,
    }
    return Generation(
        f"t-{task}",
        values.pop("instruction"),
        "",
        values.pop("response"),
        "m",
        "",
        {},
        "stop",
        values.pop("system"),
        **values,
        sample=sample,
    )


def verdict(answer: Generation, score: float | None, sample: int = 0, **more: Any) -> Verdict:
    values: dict[str, Any] = {
        "rubric": "own", "rubric_sha256": "sha256:own", "mode": "text", "model": "judge-1", **more,
    }  # fmt: skip
    return Verdict(
        answer.id, answer.system, text_sha256(answer.response), values["rubric"], values["rubric_sha256"], values["mode"], sample,
        values["model"], values["model"], {"quality": score}, "ok" if score is not None else "parse_error", "", {},
        task_sha256=answer.task_sha256(),
    )  # fmt: skip


@pytest.fixture
def judged(tmp_path: Path) -> list[Path]:
    """Four tasks with two samples each: a clear pair, a pair the other way round, a tie, and one without scores."""
    answers = [generation(task, sample) for task in range(4) for sample in range(2)]
    scores = [(1, 4), (5, 2), (3, 3), (2, None)]
    verdicts = [
        verdict(answers[2 * task + sample], score, k)
        for task, two in enumerate(scores)
        for sample, score in enumerate(two)
        for k in range(2)
    ]
    return [write(tmp_path / "generations.jsonl", answers), write(tmp_path / "verdicts.jsonl", verdicts)]


def test_samples_and_their_verdicts_make_a_dataset(judged: list[Path], tmp_path: Path) -> None:
    report = make_pairs(judged, tmp_path / "prefs")
    assert report.rows == {"train": 2}
    assert report.left_out == {"tie": 1, "unscored": 1}
    assert report.failed == {"parse_error": 2}
    first, second = read_preferences(tmp_path / "prefs")
    assert (first.id, first.chosen, first.rejected) == ("own-t-0", "0번에 대한 긴 답", "0번에 대한 답")
    assert (second.chosen, second.provenance.margin, second.provenance.agreement) == ("1번에 대한 답", 3.0, 1.0)
    about = first.provenance
    assert (about.task, about.judge, about.rubric, about.rubric_sha256) == ("t-0", "judge-1", "own", "sha256:own")
    assert (about.axis, about.origin, about.verdicts, about.chosen_score) == ("quality", "verdicts", 2, 4.0)
    assert first.lang == "ko"


def test_load_dataset_reads_it_and_the_card_tells_the_judge(judged: list[Path], tmp_path: Path) -> None:
    make_pairs(judged, tmp_path / "prefs", PairSettings(test=0.5))
    rows = load_dataset(str(tmp_path / "prefs"), "preferences", cache_dir=str(tmp_path / "cache"))
    assert {split: len(of) for split, of in rows.items()} == {"train": 1, "test": 1}
    assert rows["train"][0]["provenance"]["rubric_sha256"] == "sha256:own"
    card = (tmp_path / "prefs" / "README.md").read_text(encoding="utf-8")
    for said in (
        "`judge-1`, scored each answer by the rubric `own` (`sha256:own`), on `quality`",
        "3.000 better",
        "100% of the verdicts",
        "chosen in 50%",
        "equal scores | 1",
    ):
        assert said in card


def test_the_same_inputs_give_the_same_bytes(judged: list[Path], tmp_path: Path) -> None:
    def fingerprint(folder: Path) -> str:
        make_pairs(judged, folder)
        return hashlib.sha256(
            b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())
        ).hexdigest()

    assert fingerprint(tmp_path / "one") == fingerprint(tmp_path / "two") == fingerprint(tmp_path / "one")


def test_bad_input_is_one_sentence(judged: list[Path], tmp_path: Path) -> None:
    answers, verdicts = judged
    rows = [json.loads(line) for line in verdicts.read_text(encoding="utf-8").splitlines()]
    other = write(
        tmp_path / "other.jsonl", [*rows, {**rows[0], "rubric": "another", "rubric_sha256": "sha256:another"}]
    )
    moved = write(tmp_path / "moved.jsonl", [{**row, "task_sha256": "sha256:else"} for row in rows])
    foreign = write(tmp_path / "foreign.jsonl", [{**row, "response_sha256": "sha256:else"} for row in rows])
    asked = write(tmp_path / "asked.jsonl", [generation(0, 3, instruction="다른 질문", system="other")])
    tied = write(tmp_path / "tied.jsonl", [{**row, "scores": {"quality": 1}} for row in rows])
    for inputs, message in (
        ([answers], "nothing says which are better"),
        ([verdicts], "does not hold them - name generations.jsonl too"),
        (
            [answers, other],
            "are of 2 judges or rubrics \\(own by judge-1 .*; another by judge-1 .*choose one with --rubric or --judge",
        ),
        ([answers, moved], "judges the same answer to another question"),
        ([answers, foreign], "None of the 16 verdicts is on these answers"),
        ([answers, asked, verdicts], "Task t-0 of 'sft' asks another question than task t-0 of 'other'"),
        ([answers, tied], "No pair is left of 4 tasks \\(4: equal scores\\) - lower --margin"),
        ([tmp_path / "nowhere.jsonl"], "nowhere.jsonl"),
    ):
        with pytest.raises(InputError, match=message):
            make_pairs(inputs, tmp_path / "prefs")
        assert not (tmp_path / "prefs").exists()


def test_one_of_several_rubrics_is_chosen(judged: list[Path], tmp_path: Path) -> None:
    answers, verdicts = judged
    rows = [json.loads(line) for line in verdicts.read_text(encoding="utf-8").splitlines()]
    both = write(tmp_path / "both.jsonl", [*rows, {**rows[0], "rubric": "another", "rubric_sha256": "sha256:another"}])
    assert make_pairs([answers, both], tmp_path / "prefs", PairSettings(rubric="own")).rows == {"train": 2}
    with pytest.raises(InputError, match="There are no such verdicts - there is own by judge-1"):
        make_pairs([answers, both], tmp_path / "prefs", PairSettings(judge="judge-2"))


def test_evaluation_tasks_never_make_pairs(judged: list[Path], tmp_path: Path) -> None:
    tasks = write(
        tmp_path / "tasks.jsonl",
        [{"instruction": "이것은 평가에 쓰이는 아주 긴 질문입니다", "input": "", "output": "답"}],
    )
    answers = [
        generation(task, sample, instruction=text)
        for task, text in enumerate(("이것은 평가에 쓰이는 아주 긴 질문입니다", "다른 질문"))
        for sample in range(2)
    ]
    inputs = [
        write(tmp_path / "g.jsonl", answers),
        write(tmp_path / "v.jsonl", [verdict(item, item.sample) for item in answers]),
    ]
    with pytest.raises(
        InputError, match=r"Of 2 pairs, 1 holds an evaluation task of sha256:.*\(own-t-0: .*a model must not be tuned"
    ):
        make_pairs(inputs, tmp_path / "prefs", PairSettings(against=(str(tasks),)))
    report = make_pairs(inputs, tmp_path / "prefs", PairSettings(against=(str(tasks),), leaks="drop"))
    assert (report.rows, report.left_out) == ({"train": 1}, {"evaluation_task": 1})


def test_a_runs_answers_to_its_evaluation_tasks_are_refused(judged: list[Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    write(run / "generations.jsonl", [generation(0, 0)])
    (run / "run.json").write_text('{"stages": {}}', encoding="utf-8")
    with pytest.raises(InputError, match="evaluation tasks never make pairs - answer some: kollm generate"):
        make_pairs([run], tmp_path / "prefs")
    (run / "samples").mkdir()
    for path in judged:
        path.rename(run / "samples" / path.name)
    assert make_pairs([run], tmp_path / "prefs").rows == {"train": 2}


def pair_verdict(a: Generation, b: Generation, outcome: str | None) -> PairVerdict:
    choices: dict[Any, Any] = {
        "a": ("first", "second"),
        "b": ("second", "first"),
        "inconsistent": ("first", "first"),
        None: (None, None),
    }
    return PairVerdict(
        a.id,
        a.system,
        b.system,
        text_sha256(a.response),
        text_sha256(b.response),
        "p",
        "judge-2",
        "judge-2",
        choices[outcome][0],
        choices[outcome][1],
        outcome,
        ("", ""),
    )


def test_pairwise_verdicts_make_pairs_where_both_orders_agree(tmp_path: Path) -> None:
    sides = [
        [generation(task, 0, system=name, response=f"{name} {task}의 답") for task in range(4)]
        for name in ("base", "sft")
    ]
    verdicts = [
        pair_verdict(a, b, outcome) for a, b, outcome in zip(*sides, ("b", "a", "inconsistent", None), strict=True)
    ]
    inputs = [write(tmp_path / "g.jsonl", [*sides[0], *sides[1]]), write(tmp_path / "p.jsonl", verdicts)]
    report = make_pairs(inputs, tmp_path / "prefs")
    assert report.left_out == {"orders_disagree": 1, "unscored": 1}
    first, second = read_preferences(tmp_path / "prefs")
    assert (first.chosen, second.chosen) == ("sft 0의 답", "base 1의 답")
    assert (first.provenance.origin, first.provenance.judge, first.provenance.agreement) == ("pairwise", "judge-2", 1.0)
    assert read_manifest(tmp_path / "prefs")["pairs"]["systems"]["sft"] == {"chosen": 1, "rejected": 1}


def test_peoples_labels_make_pairs(tmp_path: Path) -> None:
    answers = [
        generation(task, 0, system=name, response=f"{name} {task}의 답")
        for task in range(2)
        for name in ("base", "sft")
    ]
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "id,system,rater,preference\nt-0,base,kim,0\nt-0,sft,kim,1\nt-0,base,lee,0\nt-0,sft,lee,1\nt-1,base,kim,1\nt-1,sft,kim,0\n"
        "t-1,base,lee,0\nt-1,sft,lee,1\n",
        encoding="utf-8",
    )
    report = make_pairs([write(tmp_path / "g.jsonl", answers), labels], tmp_path / "prefs")
    (pair,) = read_preferences(tmp_path / "prefs")
    assert (pair.chosen, pair.provenance.judge, pair.provenance.agreement, pair.provenance.axis) == (
        "sft 0의 답",
        "people",
        1.0,
        "preference",
    )
    assert report.left_out == {"tie": 1}
    assert "kim" not in (tmp_path / "prefs" / "manifest.json").read_text(encoding="utf-8")


OWN: list[tuple[dict[str, Any], str]] = [
    ({"prompt": "인사해 줘", "chosen": "안녕하세요.", "rejected": "뭐"}, "인사해 줘"),
    ({"instruction": "번역해 줘", "input": "hello", "chosen": "안녕", "rejected": "헬로"}, "번역해 줘"),
    (
        {
            "prompt": "몇 시야?",
            "chosen": [{"role": "user", "content": "몇 시야?"}, {"role": "assistant", "content": "세 시입니다."}],
            "rejected": [{"role": "user", "content": "몇 시야?"}, {"role": "assistant", "content": "몰라"}],
            "score_chosen": 8.0,
            "score_rejected": 3.0,
        },
        "몇 시야?",
    ),
    (
        {
            "conversations": [{"from": "system", "value": "짧게."}, {"from": "human", "value": "이름이 뭐야?"}],
            "chosen": {"from": "gpt", "value": "저는 쿨름입니다."},
            "rejected": {"from": "gpt", "value": "없어"},
        },
        "이름이 뭐야?",
    ),
    (
        {
            "prompt": [{"role": "user", "content": "왜?"}],
            "chosen": [{"role": "assistant", "content": "그렇기 때문입니다."}],
            "rejected": [{"role": "assistant", "content": "그냥"}],
            "model": "m", "who": "kim",
        },
        "왜?",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("row", "instruction"), OWN)
def test_pairs_of_ones_own_in_every_usual_form(row: dict[str, Any], instruction: str, tmp_path: Path) -> None:
    make_pairs(
        [write(tmp_path / "pairs.jsonl", [row])], tmp_path / "prefs", PairSettings(own=OwnOptions(licence="cc0-1.0"))
    )
    (pair,) = read_preferences(tmp_path / "prefs")
    assert (pair.instruction, pair.licence, pair.lang, pair.provenance.origin) == (instruction, "cc0-1.0", "ko", "file")
    assert pair.chosen != pair.rejected
    assert pair.input == row.get("input", "")
    assert pair.provenance.margin == (5.0 if "score_chosen" in row else None)


def test_rows_that_are_no_pairs_are_counted_and_none_left_is_an_error(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "왜?"}, {"role": "assistant", "content": "네"}]
    bad = [
        {"prompt": "하나", "chosen": "같은 답", "rejected": "같은 답"},
        {"prompt": "둘", "chosen": "", "rejected": "답"},
        {"prompt": "셋", "chosen": "답", "rejected": " "},
        {"prompt": "", "chosen": "답", "rejected": "대답"},
        {
            "prompt": "다른 질문",
            "chosen": messages,
            "rejected": [messages[0], {"role": "assistant", "content": "아니요"}],
        },
        {"prompt": "왜?", "chosen": messages, "rejected": [{"role": "user", "content": "뭐?"}, messages[1]]},
    ]
    with pytest.raises(
        InputError, match=r"No pair is left of 6 rows \(2: empty_output; 2: prompt_is_none_of_the_pair; 1: .*"
    ):
        make_pairs([write(tmp_path / "bad.jsonl", bad)], tmp_path / "prefs")
    good = {"prompt": "왜?", "chosen": "그래서요", "rejected": "몰라"}
    report = make_pairs([write(tmp_path / "some.jsonl", [*bad, good, good])], tmp_path / "prefs")
    assert report.left_out == {
        "chosen_and_rejected_are_equal": 1, "duplicate": 1, "empty_instruction": 1, "empty_output": 2, "prompt_is_none_of_the_pair": 2,
    }  # fmt: skip
    with pytest.raises(InputError, match="are Alpaca, not pairs"):
        make_pairs([write(tmp_path / "rows.jsonl", [{"instruction": "왜?", "output": "답"}])], tmp_path / "prefs")


def test_both_answers_are_translated_in_one_document_and_paid_once(tmp_path: Path) -> None:
    rows = [
        {"prompt": "What is one and one?", "chosen": "It is two.\nSurely.", "rejected": "Call 010-1234-5678."},
        {"prompt": "Which word rhymes with cat?", "chosen": "Hat does.", "rejected": "It is dog."},
    ]
    english = write(tmp_path / "en.jsonl", rows)
    with DeepLServer() as server, Ledger.open(tmp_path / "ledger.sqlite3") as ledger:

        def make(folder: str) -> PairsReport:
            engine = DeepLTranslator(KEY, server.url)
            return make_pairs(
                [english], tmp_path / folder, None, PairTranslation("deepl", translator=engine, ledger=ledger)
            )

        report = make("prefs")
        (request,) = server.state.requests
        again = make("again")
        assert len(server.state.requests) == 1
    assert request["text"] == [
        '<d><t n="0">What is one and one?</t><t n="1"><l n="0">It is two.</l><l n="1">Surely.</l></t><t n="2">Call '
        "000-0000-0000.</t></d>"
    ]
    (pair,) = read_preferences(tmp_path / "prefs")
    assert re.fullmatch(r"[가-힣 ]+습니다\.\n[가-힣]+습니다\.", pair.chosen)
    assert pair.lang == "ko" and "010" not in pair.rejected
    assert pair.original is not None
    assert (pair.original.chosen, pair.original.instruction) == ("It is two.\nSurely.", "What is one and one?")
    assert report.left_out == {"route": 1}
    assert pair.provenance.characters == report.characters == again.characters == server.state.used
    assert (tmp_path / "again" / "manifest.json").read_bytes() == (tmp_path / "prefs" / "manifest.json").read_bytes()


def run(*arguments: object) -> int:
    try:
        main(["data", "pairs", *map(str, arguments)])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_the_command_tells_what_it_made(judged: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*judged, "-o", tmp_path / "prefs") == 0
    said = capsys.readouterr().out
    for line in (
        "train: 2 pairs",
        "no pair, equal scores: 1",
        "verdicts without a score: 2 parse_error",
        "100% of the verdicts agree",
        "the longer one is chosen in 50%",
    ):
        assert line in said
    assert run(*judged, "-o", tmp_path / "other", "--dry-run", "--margin", "4") == 0
    assert "0 pairs would be made." in capsys.readouterr().out
    assert run(*judged, "-o", tmp_path / "other", "--margin", "4") == 1
    assert "No pair is left of 4 tasks" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_a_limit_on_length_and_all_pairs_of_a_prompt(tmp_path: Path) -> None:
    answers = [generation(0, sample) for sample in range(3)]
    inputs = [
        write(tmp_path / "g.jsonl", answers),
        write(tmp_path / "v.jsonl", [verdict(item, item.sample) for item in answers]),
    ]
    make_pairs(inputs, tmp_path / "prefs", PairSettings(limits=Limits(take="all")))
    pairs: list[Preference] = list(read_preferences(tmp_path / "prefs"))
    assert [pair.id for pair in pairs] == ["own-t-0", "own-t-0-2", "own-t-0-3"]
    report = make_pairs(inputs, tmp_path / "prefs", PairSettings(limits=Limits(length_ratio=1.3)))
    assert report.length.longer == 1
