"""The numbers of a report, each against the rows that it comes from."""

import json
from pathlib import Path
from typing import Any

import pytest

from kollm.core.errors import InputError
from kollm.core.hashing import text_sha256
from kollm.judge.pairwise import PairVerdict
from kollm.judge.rubric_file import load_rubric
from kollm.report import write_report
from kollm.report.folder import gather, read_judged
from kollm.report.published import PUBLISHED, SIX_AXES
from kollm.report.summary import summarize
from tests.report.fabricate import make_work_folder


def _summary(*folders: Path) -> dict[str, Any]:
    read = [read_judged(folder) for folder in folders]
    return summarize(read, gather(read))


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_means_counts_and_statuses_are_those_of_the_rows(tmp_path: Path) -> None:
    folder = make_work_folder(tmp_path / "run", tasks=60, failures=0.3)
    verdicts = [row for row in _rows(folder / "verdicts.jsonl") if row["system"] == "base"]
    scored = [row["scores"]["coherence"] for row in verdicts if row["status"] == "ok"]
    (judging,) = _summary(folder)["judgings"]
    base = next(system for system in judging["systems"] if system["system"] == "base")
    axis = base["axes"]["coherence"]
    assert (base["n"], base["verdicts"], base["unjudged"]) == (60, 60, 0)
    assert sum(base["statuses"].values()) == 60 and base["statuses"]["ok"] == len(scored) < 60
    assert axis["mean"] == pytest.approx(sum(scored) / len(scored))
    assert axis["n_scored"] == len(scored)
    missing = 60 - len(scored)
    assert axis["bounds"] == pytest.approx([(sum(scored) + missing * 1) / 60, (sum(scored) + missing * 3) / 60])
    assert axis["ci95"][0] < axis["mean"] < axis["ci95"][1]
    assert sum(count for _, count in axis["distribution"]) == len(scored)


def test_an_answer_without_a_verdict_is_missing_not_zero(tmp_path: Path) -> None:
    folder = make_work_folder(tmp_path / "run", tasks=10, systems={"adapter": 0.9}, failures=0.0)
    lines = (folder / "verdicts.jsonl").read_text().splitlines(keepends=True)
    (folder / "verdicts.jsonl").write_text("".join(lines[:6]))
    system = _summary(folder)["judgings"][0]["systems"][0]
    assert (system["n"], system["verdicts"], system["unjudged"]) == (10, 6, 4)
    assert system["axes"]["overall_quality"]["n_scored"] == 6


def test_a_verdict_on_an_older_answer_does_not_count(tmp_path: Path) -> None:
    folder = make_work_folder(tmp_path / "run", tasks=10, systems={"adapter": 0.9}, failures=0.0)
    rows = _rows(folder / "generations.jsonl")
    rows[2]["response"] = "새 답변입니다."
    (folder / "generations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = _summary(folder)
    assert summary["runs"][0]["outdated_verdicts"] == 1
    assert summary["judgings"][0]["systems"][0]["unjudged"] == 1
    assert summary["answers"][0]["n"] == 10


def test_several_answers_to_a_task_all_count(tmp_path: Path) -> None:
    """Answers sampled from one system: each is judged, none is outdated, and they are no independent tasks."""
    folder = make_work_folder(tmp_path / "run", tasks=10, systems={"adapter": 0.9}, failures=0.0)
    rows, verdicts = _rows(folder / "generations.jsonl"), _rows(folder / "verdicts.jsonl")
    texts = {row["id"]: f"또 다른 답 {row['id']}" for row in rows}
    second = [{**row, "response": texts[row["id"]]} for row in rows]
    judged = [{**v, "response_sha256": text_sha256(texts[v["id"]]), "answer": 1} for v in verdicts]
    (folder / "generations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows + second))
    (folder / "verdicts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in verdicts + judged))
    summary = _summary(folder)
    system = summary["judgings"][0]["systems"][0]
    assert summary["runs"][0]["outdated_verdicts"] == 0 and summary["answers"][0]["n"] == 20
    assert (system["verdicts"], system["answers"], system["n"]) == (20, 2, 10)
    (folder / "generations.jsonl").unlink()
    assert _summary(folder)["judgings"][0]["systems"][0]["verdicts"] == 20


def test_systems_of_one_name_are_told_apart(tmp_path: Path) -> None:
    first = make_work_folder(tmp_path / "a", tasks=5)
    second = make_work_folder(tmp_path / "b", tasks=5, systems={"adapter": 0.5})
    names = [row["system"] for row in _summary(first, second)["answers"]]
    assert names == ["adapter (a)", "base", "adapter (b)"]
    same_name = make_work_folder(tmp_path / "c" / "a", tasks=5, systems={"adapter": 0.5})
    names = [row["system"] for row in _summary(first, same_name)["answers"]]
    assert names == [f"adapter ({first})", "base", f"adapter ({same_name})"]


def test_order_is_that_of_the_answers_and_of_the_stages(tmp_path: Path) -> None:
    folder = make_work_folder(tmp_path / "run", tasks=4)
    lines = (folder / "verdicts.jsonl").read_text().splitlines(keepends=True)
    (folder / "verdicts.jsonl").write_text("".join(reversed(lines)))
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(run, sort_keys=True))
    summary = _summary(folder)
    (judging,) = summary["judgings"]
    assert [(system["system"], system["place"]) for system in judging["systems"]] == [("adapter", 0), ("base", 1)]
    assert {(c["first"], c["second"]) for c in judging["comparisons"]} == {("adapter", "base")}
    stages = list(summary["runs"][0]["stages"])
    assert stages == ["dataset", "evaluation", "base", "adapter", "answers", "verdicts"]


def test_flags_are_counted_by_system(tmp_path: Path) -> None:
    answers = {("adapter", 0): "네, 알겠습니다. " * 30, ("adapter", 1): "I do not know.", ("adapter", 2): " "}
    folder = make_work_folder(tmp_path / "run", tasks=4, systems={"adapter": 1.0}, answers=answers)
    flags = _summary(folder)["answers"][0]["flags"]
    assert {name: flag["n"] for name, flag in flags.items()} == {
        "empty": 1,
        "truncated": 0,
        "no_hangul": 1,
        "repetition": 1,
    }
    assert flags["empty"]["share"] == 0.25


def test_a_judge_that_hardly_thought_of_a_score_is_warned_of(tmp_path: Path) -> None:
    folder = make_work_folder(tmp_path / "run", tasks=4, failures=0.0)
    rows = _rows(folder / "verdicts.jsonl")
    for row in rows:
        row["usage"] = {"mass": dict.fromkeys(row["scores"], 0.0007)}
    (folder / "verdicts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = write_report([folder])
    assert "less than half of its probability" in page.read_text(encoding="utf-8")
    assert "less than half of its probability" in page.with_suffix(".md").read_text(encoding="utf-8")
    assert _summary(folder)["judgings"][0]["systems"][0]["axes"]["coherence"]["mass"] == pytest.approx(0.0007)


def test_published_rows_stand_beside_their_rubric_alone(tmp_path: Path) -> None:
    by_rubric = {}
    for rubric in ("kullm2023", "kullm3"):
        (judging,) = _summary(make_work_folder(tmp_path / rubric, tasks=3, rubric=rubric))["judgings"]
        by_rubric[rubric] = {row["system"]: row["scores"] for row in judging["published"]}
    assert by_rubric["kullm2023"]["KULLM 5.8B"]["overall_quality"] == 3.028
    assert by_rubric["kullm3"]["KULLM3"] == {
        "fluency": 4.83,
        "coherence": 4.78,
        "accuracy": 4.17,
        "completeness": 4.23,
        "overall_quality": 4.36,
    }


def test_published_means_are_multiples_of_one_in_252() -> None:
    """As the facts say: so a digit that was mistyped shows."""
    for row in PUBLISHED["kullm2023"]:
        assert tuple(row.scores) == SIX_AXES
        for axis, mean in row.scores.items():
            assert abs(mean * 252 - round(mean * 252)) <= 0.0005 * 252 + 1e-9, f"{row.system}, {axis}"
            assert round(round(mean * 252) / 252, 3) == mean, f"{row.system}, {axis}"


def test_settings_name_versions_and_origins(tmp_path: Path) -> None:
    folder = make_work_folder(tmp_path / "run", tasks=3)
    run = json.loads((folder / "run.json").read_text())
    run["recipe"]["origins"] = {"adapter.r": "paper"}
    (folder / "run.json").write_text(json.dumps(run))
    settings = {item["key"]: item for item in _summary(folder)["runs"][0]["settings"]}
    assert settings["adapter.r"] == {"key": "adapter.r", "value": 16, "origin": "paper"}
    assert settings["versions.torch"]["value"] == "2.13.0"
    assert settings["data.sources.0.name"]["value"] == "dolly"


def test_pairs_show_wins_and_position_bias(tmp_path: Path) -> None:
    folder = make_work_folder(tmp_path / "run", tasks=3)
    choices = [("first", "second"), ("first", "first"), ("second", "first"), (None, "tie")]
    rows = [
        PairVerdict(
            f"t-{n}", "adapter", "base", "sha256:a", "sha256:b", "sha256:p", "m", "m", *choice, None, ("", "")
        ).to_row()
        for n, choice in enumerate(choices)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (found,) = _summary(folder)["pairwise"]
    assert (found["first"], found["second"], found["n"], found["n_failed"]) == ("adapter", "base", 3, 1)
    assert (found["wins"], found["ties"], found["losses"], found["win_rate"]) == (1, 1, 1, 0.5)
    assert found["first_preferred"] == pytest.approx(1 / 3)
    assert "맞대결 판정" in write_report([folder]).read_text()
    (folder / "pairs.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match="missing backward"):
        _summary(folder)


def test_dataset_counts(tmp_path: Path) -> None:
    dataset = _summary(make_work_folder(tmp_path / "run", tasks=3))["runs"][0]["dataset"]
    assert [(source["name"], source["read"], source["kept"]) for source in dataset["sources"]] == [
        ("dolly", 75, 71),
        ("gpt4_llm", 115, 109),
    ]
    assert dataset["dropped"] == {"instruction_not_korean": 4, "output_empty": 6}


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("verdicts.jsonl", {"scores": {"coherence": float("nan")}}, "NaN is no number that JSON has"),
        ("verdicts.jsonl", {"scores": {"coherence": "3"}}, "coherence is '3' - a score is a number or null"),
        ("verdicts.jsonl", {"status": "fine"}, "unknown status 'fine'"),
        ("verdicts.jsonl", {"raw": None}, "raw is None - it must be text"),
        ("generations.jsonl", {"system": "\ud800"}, r"the system '\\ud800' cannot be shown"),
        ("generations.jsonl", {"response": None}, "response is None - it must be text"),
        ("generations.jsonl", {"extra": 1}, "not a Generation row: unknown extra"),
    ],
)
def test_rows_that_cannot_be_right_get_one_sentence(
    tmp_path: Path, file: str, change: dict[str, Any], message: str
) -> None:
    folder = make_work_folder(tmp_path / "run", tasks=3)
    rows = _rows(folder / file)
    (folder / file).write_text("".join(json.dumps({**row, **change}) + "\n" for row in rows))
    with pytest.raises(InputError, match=message):
        _summary(folder)


def test_differences_at_equal_length_stand_in_the_report_as_in_compare(tmp_path: Path) -> None:
    """The base is judged worse and answers longer: at equal length more of the difference is left."""
    answers = {(s, n): "가" * (40 + n % 7 * (30 if s == "base" else 5)) for s in ("adapter", "base") for n in range(40)}
    folder = make_work_folder(tmp_path / "run", tasks=40, systems={"adapter": 0.8, "base": 0.3}, answers=answers)
    (judging,) = _summary(folder)["judgings"]
    found = next(c for c in judging["comparisons"] if c["axis"] == "overall_quality")["equal_length"]
    assert 0 < found["ratio"] < 1 and found["ci95"][0] < found["difference"] < found["ci95"][1]
    page = write_report([folder]).read_text(encoding="utf-8")
    assert "같은 길이에서" in page and f"{found['difference']:+.3f}" in page


def test_another_judge_of_the_same_answers_is_no_other_system(tmp_path: Path) -> None:
    folder = make_work_folder(tmp_path / "run", tasks=6)
    other = make_work_folder(tmp_path / "other", tasks=6, model="another") / "verdicts.jsonl"
    (tmp_path / "other" / "generations.jsonl").unlink()
    read = [read_judged(folder), read_judged(other)]
    summary = summarize(read, gather(read))
    assert [[s["system"] for s in j["systems"]] for j in summary["judgings"]] == [["adapter", "base"]] * 2
    rows = _rows(other)
    rows[0]["response_sha256"] = text_sha256("another answer")
    other.write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = [read_judged(folder), read_judged(other)]
    names = {s["system"] for j in summarize(read, gather(read))["judgings"] for s in j["systems"]}
    assert names == {"adapter (run)", "adapter (verdicts)", "base"}


def test_a_panel_stands_beside_its_judges_and_their_families_are_told(tmp_path: Path) -> None:
    systems = {"gpt-5.4-mini": 0.8, "base": 0.3}
    texts = {(system, number): f"답 {number}" for system in systems for number in range(20)}
    more: dict[str, Any] = {"tasks": 20, "systems": systems, "answers": texts}
    folder = make_work_folder(tmp_path / "run", failures=0.1, **more)
    other = make_work_folder(tmp_path / "other", model="claude-5", failures=0.0, **more)
    summary = _summary(folder, other)
    (panel,) = summary["panels"]
    assert panel["panel"]["judges"] == ["gpt-5.5-2026-04-23", "claude-5"] and panel["published"] == []
    assert [judging["own_family"] for judging in summary["judgings"]] == [["gpt-5.4-mini"], []]
    one, two = (judging["systems"][0]["axes"]["overall_quality"] for judging in summary["judgings"])
    mean = panel["systems"][0]["axes"]["overall_quality"]
    assert mean["n_scored"] == one["n_scored"] < two["n_scored"] == 20
    assert {row["axis"] for row in panel["panel"]["agreement"]} == {axis["key"] for axis in panel["axes"]}
    assert panel["comparisons"] and panel["panel"]["self_preference"][0]["own"] == ("gpt-5.4-mini",)
    write_report([folder, other / "verdicts.jsonl"], tmp_path / "report.html")
    assert "gpt-5.5-2026-04-23 + claude-5" in (tmp_path / "report.md").read_text(encoding="utf-8").replace("\\", "")


def test_bridged_means_are_marked(tmp_path: Path) -> None:
    folder = make_work_folder(tmp_path / "run", tasks=5)
    judging = {"rubric": "kullm2023", "mode": "text", "rubric_sha256": load_rubric("kullm2023").sha256}
    mean = {"axis": "overall_quality", "first": "old <i>", "bridged": 3.25, "ci95": [3.0, 3.5], "n": 252}
    found = {"old": {**judging, "model": "gpt-4-0613"}, "new": {**judging, "model": "gpt-5.5-2026-04-23"}}
    (folder / "bridge.json").write_text(json.dumps({**found, "means": [mean]}))
    (row,) = _summary(folder)["judgings"][0]["bridged"]
    assert (row["system"], row["judge"], row["axes"]["overall_quality"]["mean"]) == ("old <i>", "gpt-4-0613", 3.25)
    page = write_report([folder]).read_text(encoding="utf-8")
    assert "이어 붙인 값" in page and "old &lt;i&gt;" in page and "3.250" in page
    assert "bridged from gpt-4-0613) | 252 |" in (folder / "report.md").read_text(encoding="utf-8").replace("\\", "")
    (folder / "bridge.json").write_text('{"old": 1}')
    with pytest.raises(InputError, match=r"bridge\.json"):
        _summary(folder)


def test_systems_of_two_snapshots_under_one_name_are_not_compared(tmp_path: Path) -> None:
    folder = make_work_folder(tmp_path / "run", tasks=12)
    rows = _rows(folder / "verdicts.jsonl")
    for row in rows:
        row["model_returned"] = "gpt-5.5-2026-09-01" if row["system"] == "base" else row["model_returned"]
    (folder / "verdicts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (judging,) = _summary(folder)["judgings"]
    assert judging["comparisons"] == [] and judging["across"]["judges"] == ("gpt-5.5-2026-04-23", "gpt-5.5-2026-09-01")
    assert "was not the same for all systems" in write_report([folder]).read_text(encoding="utf-8")


def test_means_corrected_by_labels_are_marked(tmp_path: Path) -> None:
    """People give each third answer a point less than the judge."""
    folder = make_work_folder(tmp_path / "run", tasks=60, systems={"adapter": 0.9}, failures=0.0)
    labels = tmp_path / "people.csv"
    rows = [row for n, row in enumerate(_rows(folder / "verdicts.jsonl")) if n % 3 == 0]
    lines = [f"{row['id']},adapter,{max(1, row['scores']['overall_quality'] - 1):g}" for row in rows]
    labels.write_text("\n".join(["id,system,overall_quality", *lines]) + "\n")
    page = write_report([folder], labels=labels).read_text(encoding="utf-8")
    (judging,) = json.loads((folder / "report.json").read_text())["judgings"]
    (row,) = judging["corrected"]
    judged = judging["systems"][0]["axes"]["overall_quality"]["mean"]
    assert row["n"] == 20 and list(row["axes"]) == ["overall_quality"]
    assert 0.6 < judged - row["axes"]["overall_quality"]["mean"] < 1.1
    assert "사람 점수로 바로잡은 값" in page and f"{row['axes']['overall_quality']['mean']:.3f}" in page
    assert "corrected by labels) | 20 |" in (folder / "report.md").read_text(encoding="utf-8").replace("\\", "")
    labels.write_text("id,system,overall_quality\nhuman_eval-0,adapter,3\n")
    with pytest.raises(InputError, match="a correction needs 10"):
        write_report([folder], labels=labels)
