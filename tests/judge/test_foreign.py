"""Recorded judgments of others: small files in each form, their means, and failures apart from scores."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from kollm.cli import main
from kollm.judge.pairwise import read_pairs
from kollm.judge.scores import axis_limits, score_tables
from kollm.judge.verdicts import read_verdicts
from kollm.report import write_report


def kollm(*args: object) -> int:
    try:
        main(["verdicts", *map(str, args)])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def lines(path: Path, rows: list[Any], mark: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(mark + text, encoding="utf-8")
    return path


def means(path: Path) -> dict[str, dict[str, float]]:
    (table,) = score_tables((v.system, v) for v in read_verdicts(path))
    return {
        system: {
            axis: sum(s for s in of[system].values() if s is not None)
            / max(1, sum(s is not None for s in of[system].values()))
            for axis, of in table.scores.items()
        }
        for system in table.systems
    }


def logickor(id: int, first: float, second: float) -> dict[str, Any]:
    return {
        "id": id,
        "category": "글쓰기(Writing)",
        "questions": [f"질문 {id}", "이어서"],
        "outputs": [f"답 {id}", "이어진 답"],
        "references": [None, "정답"],
        "query_single": {"judge_message": "좋다", "judge_score": first},
        "query_multi": {"judge_message": "좋다", "judge_score": second},
    }


def test_logickor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "evaluated"
    lines(folder / "org" / "one" / "default.jsonl", [logickor(1, 8.0, 6.0), logickor(2, 0.0, 10.0)], "\ufeff")
    lines(folder / "org" / "two" / "default.jsonl", [logickor(1, 4.0, 2.0), logickor(2, 3.0, 5.0)])
    output = tmp_path / "out" / "verdicts.jsonl"
    answers = output.with_name("generations.jsonl")
    assert kollm("import", folder, "-o", output, "--answers", answers, "--judge", "gpt-4") == 0
    out = capsys.readouterr().out
    assert "8 verdicts" in out and "1 failure" in out and "org/one/default: score 8.000 (3)" in out
    verdicts = read_verdicts(output)
    failed = [v for v in verdicts if v.status != "ok"]
    assert [(v.id, v.scores, v.usage["recorded"]) for v in failed] == [
        ("logickor-2-t1", {"score": None}, {"score": 0.0})
    ]
    assert {v.cluster for v in verdicts} == {"logickor-1", "logickor-2"} and {v.model_requested for v in verdicts} == {
        "gpt-4"
    }
    second = json.loads(answers.read_text(encoding="utf-8").splitlines()[1])
    assert second["history"] == [["질문 1", "답 1"]] and second["reference"] == "정답"
    (table,) = score_tables((v.system, v) for v in verdicts)
    assert axis_limits(table.judging) == {"score": (1.0, 10.0)}
    (comparison,) = table.compare()
    assert (comparison.n, comparison.n_clusters, comparison.n_dropped) == (3, 2, 1)
    assert (write_report([output.parent], tmp_path / "report")).exists()


def test_kullm3(tmp_path: Path) -> None:
    replies = [
        "- Fluency (1-5): 5\n- Coherence (1-5): 4\n- Accuracy (1-5): 3\n- Completeness (1-5): 2\n- Overall Quality (1-5): 3",
        "- Fluency (4): fine\n- Coherence (4): so\n- Accuracy (5): x\n- Completeness (4): y\n- Overall Quality (5): z",
    ]
    path = tmp_path / "kullm3.json"
    path.write_text(json.dumps(replies), encoding="utf-8")
    assert kollm("import", path, "-o", tmp_path / "v.jsonl") == 0
    assert means(tmp_path / "v.jsonl")["kullm3"]["overall_quality"] == 4.0


def test_komt(tmp_path: Path) -> None:
    rows = [{"id": n, "instruction": "질문", "answer": "답</s>", "chatgpt": f"Score: {n}", "score": n} for n in (0, 4)]
    path = lines(tmp_path / "score_result_komt-7b.jsonl", rows)
    assert kollm("import", path, "-o", tmp_path / "v.jsonl") == 0
    assert means(tmp_path / "v.jsonl") == {"komt-7b": {"score": 2.0}}


def test_alpaca_eval(tmp_path: Path) -> None:
    rows = [
        {"instruction": f"q{n}", "output_1": "a", "generator_1": "base", "output_2": "b", "generator_2": "mine",
         "annotator": "judge", "preference": preference, "price_per_example": 0.01}
        for n, preference in enumerate([1.75, 1.25, 0, None, 2])
    ]  # fmt: skip
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    assert kollm("import", path, "-o", tmp_path / "v.jsonl") == 0
    assert means(tmp_path / "v.jsonl")["mine"]["win_rate"] == pytest.approx((0.75 + 0.25 + 0.5 + 1) / 4)
    assert sum(v.status == "parse_error" for v in read_verdicts(tmp_path / "v.jsonl")) == 1


def test_mt_bench(tmp_path: Path) -> None:
    single = [
        {"question_id": 81, "model": "m", "judge": ["gpt-4", "single-v1"], "user_prompt": "", "judgment": "[[9]]",
         "score": score, "turn": turn}
        for turn, score in ((1, 9), (2, -1))
    ]  # fmt: skip
    pair = [
        {"question_id": 81, "model_1": "a", "model_2": "b", "g1_winner": g1, "g2_winner": g2, "judge": ["gpt-4", "pair-v2"],
         "g1_judgment": "", "g2_judgment": "", "turn": turn}
        for turn, g1, g2 in ((1, "model_1", "model_1"), (2, "model_1", "model_2"), (3, "error", "tie"))
    ]  # fmt: skip
    path = lines(tmp_path / "gpt-4_single.jsonl", single)
    assert kollm("import", path, lines(tmp_path / "gpt-4_pair.jsonl", pair), "-o", tmp_path / "verdicts.jsonl") == 0
    assert means(tmp_path / "verdicts.jsonl") == {"m": {"rating": 9.0}}
    assert [p.outcome for p in read_pairs(tmp_path / "pairs.jsonl")] == ["a", "inconsistent", None]


def test_lm_eval(tmp_path: Path) -> None:
    rows = [
        {"doc_id": n, "doc": {}, "target": "1", "arguments": {}, "resps": [["답"]], "filtered_resps": ["답"], "filter": f,
         "metrics": ["exact_match"], "doc_hash": "x", "exact_match": float(n % 2)}
        for n in range(4)
        for f in ("strict-match", "flexible-extract")
    ]  # fmt: skip
    path = lines(tmp_path / "org__model" / "samples_hrm8k_2026-01-02T03-04-05.678.jsonl", rows)
    assert kollm("import", path, "-o", tmp_path / "v.jsonl") == 0
    (verdict, *_) = read_verdicts(tmp_path / "v.jsonl")
    assert verdict.rubric == "lm-eval hrm8k" and verdict.system == "org/model"
    assert means(tmp_path / "v.jsonl")["org/model"]["exact_match (strict-match)"] == 0.5


def test_inspect(tmp_path: Path) -> None:
    samples = [
        {"id": n, "epoch": epoch, "input": "질문", "target": "", "output": {"completion": f"답 {epoch}"},
         "scores": {"grader": {"value": value}}}
        for n, epoch, value in ((1, 1, "C"), (1, 2, "I"), (2, 1, "P"), (2, 2, "no grade"))
    ]  # fmt: skip
    log = {"version": 2, "status": "success", "eval": {"task": "t", "model": "org/m"}}
    (tmp_path / "log.json").write_text(json.dumps({**log, "samples": samples}), encoding="utf-8")
    with zipfile.ZipFile(tmp_path / "log.eval", "w") as archive:
        archive.writestr("header.json", json.dumps(log))
        for number, sample in enumerate(samples):
            archive.writestr(f"samples/{number}.json", json.dumps(sample))
    for name in ("log.json", "log.eval"):
        output = tmp_path / f"{name}.verdicts.jsonl"
        assert kollm("import", tmp_path / name, "-o", output) == 0
        verdicts = read_verdicts(output)
        assert [v.scores["grader"] for v in verdicts] == [1.0, 0.0, 0.5, None] and verdicts[1].answer == 1


def test_any_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "people.csv"
    path.write_bytes("번호,모델,사람,점수,메모\n1,a,김,4,좋음\n1,a,이,,\n2,a,김,5,\n".encode("cp949"))
    options = ("--map", "id=번호", "--map", "system=모델", "--map", "judge=사람", "--axis", "quality=점수:1-5")
    assert kollm("import", path, "-o", tmp_path / "v.jsonl", *options) == 0
    verdicts = read_verdicts(tmp_path / "v.jsonl")
    assert [(v.id, v.model_requested, v.scores["quality"]) for v in verdicts] == [
        ("1", "김", 4),
        ("1", "이", None),
        ("2", "김", 5),
    ]
    path.write_text("번호,모델,사람,점수\n1,a,김,55\n", encoding="utf-8")
    assert kollm("import", path, "-o", tmp_path / "w.jsonl", *options) == 1
    assert "점수 is '55', and the scale goes from 1 to 5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "holds no judgments"),
        ("[1, 2]", "row 1: a int, not an object"),
        ('{"a": 1}', "in no form that kollm knows"),
        ("[" * 5000, "not valid JSON"),
        ('{"question_id": 1, "judge": 1, "score": ' + "9" * 5000 + ', "turn": 1}', "not valid JSON"),
        ('{"questions": 1, "query_single": {}}', "is not as the form 'logickor' has it"),
        ("\x00\ufffd", "not valid JSON"),
    ],
)
def test_other_files_get_one_sentence(
    tmp_path: Path, content: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(content, encoding="utf-8")
    assert kollm("import", path, "-o", tmp_path / "v.jsonl") == 1
    err = capsys.readouterr().err
    assert words in err and "Traceback" not in err and not (tmp_path / "v.jsonl").exists()


def test_a_plan_from_earlier_verdicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": str(n), "s": system, "q": (n * 7 + k) % 5 + 1} for k, system in enumerate("ab") for n in range(40)]
    path = lines(tmp_path / "t.jsonl", rows)
    assert kollm("import", path, "-o", tmp_path / "v.jsonl", "--map", "system=s", "--axis", "q:1-5") == 0
    assert kollm("plan", tmp_path / "v.jsonl", "--difference", 0.5, "--cost", 0.01) == 0
    assert "1 pair of systems, 40 tasks" in capsys.readouterr().out
    assert kollm("plan", "--difference", 0.5) == 1
    assert "Give earlier verdicts of two systems or more, or --spread" in capsys.readouterr().err
