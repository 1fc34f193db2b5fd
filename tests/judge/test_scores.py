"""Verdicts as tables: samples averaged, failures kept apart from numbers, judgings kept apart from each other."""

from kollm.core.verdicts import Status, Verdict
from kollm.judge.rubric_file import load_rubric
from kollm.judge.scores import Judging, axis_limits, find_rubric, score_tables


def _verdict(id: str, score: float | None, *, sample: int = 0, model: str = "m", status: Status = "ok") -> Verdict:
    return Verdict(
        id, "s", "sha256:x", "kullm3", "sha256:r", "text", sample, model, model, {"fluency": score}, status, "", {}
    )


def test_samples_are_averaged_over_those_with_a_number() -> None:
    verdicts = [_verdict("1", 2), _verdict("1", 5, sample=1), _verdict("1", None, sample=2, status="parse_error")]
    (table,) = score_tables(("s", verdict) for verdict in [*verdicts, _verdict("2", None, status="refusal")])
    assert table.scores == {"fluency": {"s": {"1": 3.5, "2": None}}}
    assert table.statuses["s"] == {"ok": 2, "parse_error": 1, "refusal": 1}


def test_another_judge_is_another_table() -> None:
    tables = score_tables([("s", _verdict("1", 2)), ("s", _verdict("1", 3, model="n"))])
    assert [table.judging.model for table in tables] == ["m", "n"]


def test_limits_come_from_the_rubric_where_it_is_known(tmp_path) -> None:
    shipped = Judging("kullm2023", "", "text", "m")
    assert axis_limits(shipped)["overall_quality"] == (1.0, 5.0)
    assert axis_limits(shipped._replace(rubric="mine")) == {}
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: mine\nlanguage: ko\naxes: [{key: wit, label: 재치, low: 0, high: 9}]\n"
        "prompt: '{instruction} {input} {response}'\nreply_form: '- 재치:'\n"
    )
    mine = Judging("mine", load_rubric(file).sha256, "text", "m")
    assert find_rubric(mine) is None
    assert axis_limits(mine, [file]) == {"wit": (0.0, 9.0)}
