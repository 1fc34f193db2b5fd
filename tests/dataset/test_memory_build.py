"""Builds from a memory: ids decide, a shifted file stops the build, joined lines are a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kollm.core.errors import InputError
from kollm.dataset.folder import read_records
from kollm.dataset.memory import misaligned
from kollm.dataset.pipeline import BuildReport, SourceInput, build_dataset

COUNT = 60


def english(number: int) -> dict[str, Any]:
    tail = " It was a long day at the wide sea." * (number * 7 % 11)
    return {
        "instruction": f"Tell me about {17 * number} boats.",
        "input": "",
        "output": f"There were {17 * number} boats.{tail}",
    }


def korean(number: int) -> dict[str, Any]:
    tail = " 넓은 바다에서 긴 하루였습니다." * (number * 7 % 11)
    return {
        "instruction": f"배 {17 * number}척을 말해 주세요.",
        "input": "",
        "output": f"배가 {17 * number}척 있었습니다.{tail}",
    }


def build(tmp_path: Path, rows: list[Any], memory: list[Any]) -> BuildReport:
    for name, content in (("en.json", rows), ("ko.json", memory)):
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    source = SourceInput("gpt4_llm", tmp_path / "en.json", memory=tmp_path / "ko.json")
    return build_dataset([source], translator="memory", output=tmp_path / "out", against=(), near=1.1)


def test_a_shifted_memory_stops_the_build(tmp_path: Path) -> None:
    rows, memory = [english(n) for n in range(COUNT)], [korean(n + 1) for n in range(COUNT)]
    with pytest.raises(
        InputError, match=r"gpt4_llm: the memory is misaligned .* lengths do not correlate, .* same order\."
    ):
        build(tmp_path, rows, memory)
    assert not (tmp_path / "out").exists()


def test_a_memory_of_another_form_stops_the_build(tmp_path: Path) -> None:
    for memory in ([{"질문": "왜?", "답변": "그래서요."}], []):
        with pytest.raises(
            InputError, match=r"the memory holds no row that can be read as .* form of the English rows"
        ):
            build(tmp_path, [english(0)], memory)
        assert not (tmp_path / "out").exists()


def test_ids_decide_where_both_sides_have_them(tmp_path: Path) -> None:
    rows = [{"id": f"r{n}", **english(n)} for n in range(COUNT)]
    memory = [{"id": f"r{n}", **korean(n)} for n in reversed(range(1, COUNT))]
    report = build(tmp_path, rows, memory)
    assert report.rows == {"gpt4-llm": COUNT - 1} and report.dropped == {"memory": 1}
    by_id = {record.id: record for record in read_records(tmp_path / "out")}
    assert by_id["gpt4_llm-r7"].instruction == korean(7)["instruction"]


def test_places_decide_where_one_side_has_no_ids(tmp_path: Path) -> None:
    report = build(tmp_path, [english(n) for n in range(COUNT)], [{"id": n + 1, **korean(n)} for n in range(COUNT)])
    assert report.rows == {"gpt4-llm": COUNT} and report.dropped == {}


def test_a_memory_that_joins_lines(tmp_path: Path) -> None:
    rows = [{**english(n), "output": f"- boat {n}\n- sea of the south\n- harbour of {n} fish"} for n in range(COUNT)]
    joins = [
        {
            **korean(n),
            "output": f"- 배 {n}척\n- 남쪽의 바다입니다\n- 물고기 {n}마리의 항구".replace("\n", "\n" if n % 2 else " "),
        }
        for n in range(COUNT)
    ]
    report = build(tmp_path, rows, joins)
    assert report.rows == {"gpt4-llm": COUNT // 2} and report.dropped == {"line_structure": COUNT // 2}


def own_build(tmp_path: Path, rows: list[Any], memory: list[Any], *extra: str) -> Any:
    from click.testing import CliRunner

    from kollm.cli import cli

    for name, content in (("en.jsonl", rows), ("ko.jsonl", memory)):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    line = ["data", "build", "own", "--input", str(tmp_path / "en.jsonl"), "--memory", str(tmp_path / "ko.jsonl")]
    options = ["--translator", "memory", "--source-name", "mine", "--against", "none", "--near", "1.01"]
    return CliRunner().invoke(cli, [*line, *options, "-o", str(tmp_path / "out"), *extra])


@pytest.mark.parametrize("with_ids", [True, False])
def test_own_rows_are_found_in_a_memory_by_id_else_by_place(with_ids: bool, tmp_path: Path) -> None:
    named = [{"id": f"r{n}"} if with_ids else {} for n in range(COUNT)]
    rows = [{**named[n], **english(n)} for n in range(COUNT)]
    memory = [{**named[n], **korean(n)} for n in range(COUNT)]
    result = own_build(tmp_path, rows, memory[::-1] if with_ids else memory)
    assert result.exit_code == 0, result.output
    by_id = {record.id: record for record in read_records(tmp_path / "out")}
    assert len(by_id) == COUNT
    found = by_id["mine-r7" if with_ids else "mine-7"]
    assert (found.instruction, found.output) == (korean(7)["instruction"], korean(7)["output"])
    assert found.original is not None and found.original.instruction == english(7)["instruction"]
    assert (found.lang, found.provenance.engine) == ("ko", "memory")


def test_own_conversations_are_found_turn_by_turn(tmp_path: Path) -> None:
    def talk(make: Any, number: int) -> dict[str, Any]:
        turns = [make(number), make(number + 1)]
        return {"messages": [{"role": role, "content": turn[key]} for turn in turns for role, key in (("user", "instruction"), ("assistant", "output"))]}  # fmt: skip

    rows, memory = ([talk(make, n) for n in range(COUNT)] for make in (english, korean))
    result = own_build(tmp_path, rows, memory, "--turns", "pairs")
    assert result.exit_code == 0, result.output
    by_id = {record.id: record for record in read_records(tmp_path / "out")}
    assert by_id["mine-3-t2"].output == korean(4)["output"]


def test_own_rows_without_a_memory_are_one_sentence(tmp_path: Path) -> None:
    result = own_build(tmp_path, [english(0)], [], "--limit", "1")
    assert isinstance(result.exception, InputError)
    assert "ko.jsonl' holds no rows" in str(result.exception)


def columns(count: int) -> tuple[list[str], list[str]]:
    """English of very different lengths with numbers, and a Korean half as long."""
    words = [
        f"Tell me about {17 * number % 89} things" + " of the great sea" * (number * 7 % 11) for number in range(count)
    ]
    korean = [f"{17 * number % 89}가지를 말해 주세요" + " 큰 바다의" * (number * 7 % 11) for number in range(count)]
    return words, korean


@pytest.mark.parametrize("count", [20, 100, 500])
def test_columns_that_belong_together_and_shifted_ones(count: int) -> None:
    words, told = columns(count)
    assert misaligned(words, told) == ""
    said = misaligned(words, told[1:] + told[:1])
    assert said.startswith("their lengths do not correlate") and said.endswith("the rows fit 1 row earlier")
    assert misaligned(words[:9], told[1:10]) == "", "too few to tell"
    assert misaligned(["Say it."] * count, ["말해요."] * count) == "", "all alike tells nothing"
