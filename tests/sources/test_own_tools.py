"""Definitions of tools in a user's rows: read in the forms that people keep them in, refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kollm.core.records import Record
from kollm.sources.own import OwnOptions, read_own
from kollm.sources.own.pairs import read_own_pairs
from kollm.sources.own.source import OwnRows

WEATHER = {"name": "get_weather", "description": "도시의 날씨", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}  # fmt: skip
TIME = {"name": "get_time", "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]}}  # fmt: skip
OPENAI = [{"type": "function", "function": WEATHER}, {"type": "function", "function": TIME}]
QUESTION = {"messages": [{"role": "user", "content": "서울 날씨는?"}, {"role": "assistant", "content": "맑습니다."}]}


def opened(folder: Path, *rows: Any, **options: Any) -> OwnRows:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return read_own(path, OwnOptions(**options))


def tools(own: OwnRows) -> list[Any]:
    return [json.loads(row.tools) if row.tools else "" for row in own.records() if isinstance(row, Record)]


@pytest.mark.parametrize(
    "value",
    [
        OPENAI,
        json.dumps(OPENAI),
        [WEATHER, TIME],
        json.dumps([WEATHER, TIME], ensure_ascii=False),
        [json.dumps(WEATHER), json.dumps(OPENAI[1])],
        [{"type": "function", **WEATHER}, {"type": "function", **TIME}],
        [None, *OPENAI],
    ],
    ids=["openai", "json", "functions", "functions as json", "a json each", "responses", "a place that is empty"],
)
@pytest.mark.parametrize("column", ["tools", "Tools", "functions"])
def test_the_forms_are_one(tmp_path: Path, value: Any, column: str) -> None:
    for row in (QUESTION, {"instruction": "서울 날씨는?", "output": "맑습니다."}):
        own = opened(tmp_path, {**row, column: value}, {**row, column: None}, {**row, column: "[]"}, row)
        assert tools(own) == [OPENAI, "", "", ""]
        assert "not used" not in own.summary() and "left out" not in own.summary()


@pytest.mark.parametrize("value", [OPENAI[0], WEATHER, json.dumps(OPENAI[0]), json.dumps(WEATHER, ensure_ascii=False)])
def test_one_definition_is_a_list_of_one(tmp_path: Path, value: Any) -> None:
    own = opened(tmp_path, {**QUESTION, "tools": value}, {**QUESTION, "tools": {}})
    assert tools(own) == [OPENAI[:1], ""]


def test_a_table_fills_its_objects_and_what_it_filled_in_is_left_out(tmp_path: Path) -> None:
    rows = [{**QUESTION, "tools": [OPENAI[0]]}, {**QUESTION, "tools": [OPENAI[1]]}]
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    assert '"city": null' in json.dumps(pq.read_table(path).to_pylist()), "a struct has the keys of all rows"
    assert tools(read_own(path)) == [[OPENAI[0]], [OPENAI[1]]]


def test_a_map_names_them_and_text_has_none(tmp_path: Path) -> None:
    row = {"물음": "서울 날씨는?", "답": "맑음", "도구": json.dumps(OPENAI)}
    own = opened(tmp_path, row, mapping=("instruction=물음", "output=답", "tools=도구"))
    assert tools(own) == [OPENAI]
    assert "1 column not used: tools" in _summary(opened(tmp_path, {"text": "글", "tools": OPENAI}))


def test_other_peoples_tools_are_a_column_that_is_not_used(tmp_path: Path) -> None:
    for value in ("망치, 톱", ["망치", "톱"], 3):
        own = opened(tmp_path, {**QUESTION, "tools": value})
        assert tools(own) == [""]
        assert "1 column not used: tools" in own.summary()


def test_korean_rows_stay_korean_beside_english_definitions(tmp_path: Path) -> None:
    long = {"name": "f", "description": "an English description " * 60}
    assert opened(tmp_path, {**QUESTION, "tools": [long]}).lang == "ko"


def called(name: str, arguments: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": name, "arguments": arguments}}]}


def test_a_table_fills_calls_too_and_its_rows_stay_korean(tmp_path: Path) -> None:
    result = {"role": "tool", "content": json.dumps({"weather": "sunny", "degrees": 21, "humidity": "forty percent"})}
    rows = [
        {"messages": [QUESTION["messages"][0], called(name, arguments), result, QUESTION["messages"][1]]}
        for name, arguments in (
            ("get_weather", {"city": "Seoul"}),
            ("get_time", {"zone": {"name": "KST"}}),
            ("now", {}),
        )
    ]
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    own = read_own(path)
    assert own.lang == "ko", "told from what is said, not from keys, calls and results"
    calls = [row.history[0][1].split("\n")[1] for row in own.records() if isinstance(row, Record)]
    assert calls == [
        '{"name": "get_weather", "arguments": {"city": "Seoul"}}',
        '{"name": "get_time", "arguments": {"zone": {"name": "KST"}}}',
        '{"name": "now", "arguments": {}}',
    ]


def test_calls_and_results_may_be_objects(tmp_path: Path) -> None:
    call, result = {"name": "get_weather", "arguments": {"city": "서울", "zone": None}}, {"degrees": 21, "rain": None}
    question, answer = QUESTION["messages"]
    talks = [
        [question, called("get_weather", {"city": "서울"}), {"role": "tool", "content": result}, answer],
        [question, {"role": "function_call", "content": call}, {"role": "observation", "content": result}, answer],
    ]
    own = opened(tmp_path, *({"messages": talk} for talk in talks))
    for row in own.records():
        assert isinstance(row, Record), row
        assert row.history[0][1].split("\n")[1] == '{"name": "get_weather", "arguments": {"city": "서울"}}'
        assert row.instruction == '<tool_response>\n{"degrees": 21}\n</tool_response>'


def test_every_turn_has_the_tools_of_its_conversation(tmp_path: Path) -> None:
    talk = {"messages": [*QUESTION["messages"], *QUESTION["messages"]], "tools": OPENAI}
    rows = [row for row in opened(tmp_path, talk).records(turns="pairs") if isinstance(row, Record)]
    assert [json.loads(row.tools) for row in rows] == [OPENAI, OPENAI]
    assert opened(tmp_path, talk).rows().__next__()["tools"] == rows[0].tools


def test_pairs_have_them(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    row = {"prompt": "서울 날씨는?", "chosen": "맑습니다.", "rejected": "몰라.", "tools": OPENAI}
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    (pair,) = read_own_pairs(path)
    assert json.loads(pair.tools) == OPENAI
    assert pair.record("rejected").tools == pair.tools
    assert type(pair).from_row(pair.to_row()) == pair


def test_pairs_keep_the_calls_of_their_answers(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    call = called("get_weather", {"city": "서울"})
    marked = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "서울"}}\n</tool_call>'
    result, last = {"role": "tool", "content": "맑음"}, QUESTION["messages"][1]
    question, whole = "서울 날씨는?", [call, result, last]
    rows: list[dict[str, Any]] = [
        {"prompt": question, "chosen": [call], "rejected": "몰라."},
        {
            "prompt": [QUESTION["messages"][0]],
            "chosen": [call],
            "rejected": [{"role": "assistant", "content": "몰라."}],
        },
        {
            "prompt": [QUESTION["messages"][0]],
            "chosen": whole,
            "rejected": [call, result, {**last, "content": "몰라."}],
        },
        {"prompt": [QUESTION["messages"][0]], "chosen": whole, "rejected": [{"role": "assistant", "content": "몰라."}]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    own = read_own_pairs(path)
    one, two, three = own
    assert (one.chosen, one.rejected, one.instruction) == (two.chosen, two.rejected, two.instruction)
    assert (one.chosen, one.rejected, one.history) == (marked, "몰라.", ())
    assert three.history == ((question, marked),)
    assert (three.chosen, three.rejected) == (last["content"], "몰라.")
    assert own.rows.counts["left out: prompt_is_none_of_the_pair"] == 1, "an answer that follows another conversation"


def test_pairs_keep_a_history_that_stands_beside_them(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    row = {"prompt": "서울 날씨는?", "chosen": "맑습니다.", "rejected": "몰라.", "history": [["안녕?", "안녕하세요."]]}
    path.write_text(json.dumps(row) + "\n" + json.dumps({**row, "history": []}) + "\n", encoding="utf-8")
    assert [pair.history for pair in read_own_pairs(path)] == [(("안녕?", "안녕하세요."),), ()]


def nested(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels):
        value = {"properties": value}
    return value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (3, "tools_not_a_list"),
        ("3", "tools_not_a_list"),
        ({"get_weather": WEATHER}, "tool_without_a_function"),
        ("[not json", "tools_not_json"),
        ('[{"name": "f", "parameters": NaN}]', "tools_not_json"),
        ("[" * 100_000, "tools_too_deep"),
        ([{"name": "f", "parameters": nested(200)}], "tools_too_deep"),
        (json.dumps([{"name": "f", "parameters": nested(40)}]), "tools_too_deep"),
        ([OPENAI[0], "망치"], "tools_not_json"),
        ([OPENAI[0], 3], "tool_not_an_object"),
        ([{"type": "code_interpreter"}], "tool_without_a_function"),
        ([{"type": "function", "function": "f"}], "tool_without_a_function"),
        ([{"type": "function", "function": {"description": "x"}}], "tool_without_a_name"),
        ([{"name": " "}], "tool_without_a_name"),
        ([{"name": "f", "description": "가" * 60_000}], "tools_too_long"),
        ('[{"name": "f", "description": "\\ud800"}]', "lone_surrogate"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 25 else "",
)
def test_what_cannot_be_read_is_left_out_with_its_reason(tmp_path: Path, value: Any, reason: str) -> None:
    own = opened(tmp_path, {**QUESTION, "tools": OPENAI}, {**QUESTION, "tools": value})
    assert tools(own) == [OPENAI]
    assert own.summary().endswith(f"1 row left out: {reason} 1")


def _summary(own: OwnRows) -> str:
    list(own.records())
    return own.summary()
