"""Tool turns: as the base's template writes them, kept as context, and learned only where that is asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kollm.core.errors import InputError
from kollm.core.preferences import Preference
from kollm.core.records import Record
from kollm.recipe.chat import ChatEncoder
from kollm.recipe.load import parse_recipe
from kollm.recipe.tokens import NOT_SHOWN, Row
from kollm.recipe.tools import is_call, structured
from kollm.sources.own.conversation import read_conversation
from kollm.sources.own.tools import tools_text
from kollm.train.data import IGNORED, moved_lines, tokenise
from kollm.train.material import material
from kollm.train.pairs import tokenise_pairs
from kollm.train.prompts import make_encoder, prove
from tests.train.conftest import write_dataset
from tests.train.templates import KOREAN, tokenizer_for, trl_templates

FAMILIES = {**trl_templates(), **KOREAN}
MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "날씨 도우미"},
    {"role": "user", "content": "서울 날씨는?"},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "서울"}'}}]},
    {"role": "tool", "tool_call_id": "c1", "content": "맑음 21"},
    {"role": "assistant", "content": "맑고 21도입니다."},
    {"role": "user", "content": "부산은?"},
    {"role": "assistant", "content": "찾아볼게요.", "tool_calls": [{"id": "c2", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "부산"}'}}]},
    {"role": "tool", "tool_call_id": "c2", "content": "흐림 18"},
    {"role": "assistant", "content": "흐리고 18도입니다."},
]  # fmt: skip
KNOWS_TOOLS = ("qwen2_5", "qwen3", "qwen3_instruct_2507", "glm4moe")


def record(messages: list[dict[str, Any]] = MESSAGES) -> Record:
    found = read_conversation(messages)
    return Record("r", "own", found.instruction, "", found.output, found.history, found.system)


TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "get_weather", "description": "도시의 날씨", "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "도시 이름"}}, "required": ["city"]}}},
    {"type": "function", "function": {"name": "get_time", "description": "지금 몇 시인지", "parameters": {"type": "object", "properties": {}, "required": []}}},
]  # fmt: skip
SHOWS_TOOLS = ("qwen2_5", "qwen3", "qwen3_instruct_2507", "glm4moe", "llama3_1", "nemotron_3_nano")


def with_tools(tools: list[dict[str, Any]] = TOOLS, messages: list[dict[str, Any]] = MESSAGES) -> Record:
    return replace(record(messages), tools=tools_text(tools))


def as_servers_take_them(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """OpenAI's messages for a template: arguments as an object, no ids, no null."""
    made = []
    for message in messages:
        calls = [{"type": "function", "function": {"name": call["function"]["name"], "arguments": json.loads(call["function"]["arguments"])}} for call in message.get("tool_calls", ())]  # fmt: skip
        made.append({"role": message["role"], "content": message["content"] or "", **({"tool_calls": calls} if calls else {})})  # fmt: skip
    return made


def character_mask(
    tokenizer: Any, messages: list[dict[str, Any]], learned: list[int], tools: Any = None
) -> tuple[list[int], list[bool]]:
    """Ids of the whole, and which lie in the text that a learned message adds after its prompt: by places of characters."""
    text = tokenizer.apply_chat_template(messages, tools=tools, tokenize=False)
    spans = []
    for number in learned:
        asked = tokenizer.apply_chat_template(
            messages[:number], tools=tools, tokenize=False, add_generation_prompt=True
        )
        until = tokenizer.apply_chat_template(messages[: number + 1], tools=tools, tokenize=False)
        assert text.startswith(until) and until.startswith(asked)
        spans.append((len(asked), len(until)))
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    mask = [any(start <= a and b <= end for start, end in spans) for a, b in encoded["offset_mapping"]]
    return encoded["input_ids"], mask


def test_openais_messages_come_back_as_the_template_takes_them() -> None:
    assert structured(record().messages()) == as_servers_take_them(MESSAGES)
    assert [is_call(answer) for _, answer in record().history] == [True, False, True]


def test_marks_that_are_no_tool_turns_stay_text() -> None:
    written = [
        {"role": "user", "content": "<tool_response>\n내가 쓴 글\n</tool_response>"},
        {"role": "assistant", "content": "<tool_call>\n{not json}\n</tool_call>"},
        {"role": "user", "content": "<tool_response>\n둘\n</tool_response>"},
        {"role": "assistant", "content": '<tool_call>\n{"name": "f"}\n</tool_call> 뒤에 글'},
        {"role": "user", "content": "<tool_call>" * 3},
        {"role": "assistant", "content": '<tool_call>\n{"name": 3}\n</tool_call>'},
    ]
    assert structured(written) == written


def test_two_results_and_a_question_after_a_call() -> None:
    two = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}, {"function": {"name": "g", "arguments": {}}}]}, {"role": "tool", "content": "하나"}, {"role": "tool", "content": "둘"}, {"role": "user", "content": "그래서?"}, {"role": "assistant", "content": "답"}]  # fmt: skip
    made = structured(record(two).messages())
    assert [message["role"] for message in made] == ["user", "assistant", "tool", "tool", "user", "assistant"]
    assert [call["function"]["name"] for call in made[1]["tool_calls"]] == ["f", "g"]
    assert [message["content"] for message in made[2:5]] == ["하나", "둘", "그래서?"]


@pytest.mark.parametrize("name", KNOWS_TOOLS)
@pytest.mark.parametrize("asked", [False, True])
def test_ids_are_the_servers_and_calls_are_learned_when_asked(name: str, asked: bool) -> None:
    tokenizer = tokenizer_for(FAMILIES[name], json.dumps(MESSAGES, ensure_ascii=False))
    encoder = make_encoder("auto", tokenizer)
    prove(encoder)
    assert isinstance(encoder, ChatEncoder)
    assert encoder.grammar.tools
    messages = as_servers_take_them(MESSAGES)
    rows = tokenise([record()], encoder, max_length=2048, tool_calls=asked)
    calls, answers = [2, 6], [4, 8]
    assert rows.counts["calls"] == (0 if asked else 2)
    wanted = sorted([*answers, *(calls if asked else [])])
    if len(rows.examples) == 1:
        ids, mask = character_mask(tokenizer, messages, wanted)
        example = rows.examples[0]
        closing = list(encoder.grammar.closing)  # an end that the template leaves to the next turn
        assert example.input_ids.tolist() == [*ids, *closing]
        assert (example.labels != IGNORED).tolist() == [*mask, *([True] * len(closing))]
        return
    assert len(rows.examples) == len(wanted), "each learned answer has a row of its own"
    for example, number in zip(rows.examples, wanted, strict=True):
        ids, mask = character_mask(tokenizer, messages[: number + 1], [number])
        closing = list(encoder.grammar.closing)  # an end that the template leaves to the next turn
        assert example.input_ids.tolist() == [*ids, *closing]
        assert (example.labels != IGNORED).tolist() == [*mask, *([True] * len(closing))]


@pytest.mark.parametrize("name", [name for name in SHOWS_TOOLS if name in KNOWS_TOOLS])
def test_definitions_are_written_as_servers_write_them_and_change_no_mask(name: str) -> None:
    tokenizer = tokenizer_for(FAMILIES[name], json.dumps([MESSAGES, TOOLS], ensure_ascii=False))
    encoder = make_encoder("auto", tokenizer)
    prove(encoder)
    rows = tokenise([with_tools()], encoder, max_length=4096)
    plain = tokenise([record()], encoder, max_length=4096)
    assert not rows.counts[NOT_SHOWN]
    messages, wanted = as_servers_take_them(MESSAGES), [4, 8]
    apart = len(rows.examples) > 1
    for example, without, numbers in zip(rows.examples, plain.examples, [[4], [8]] if apart else [wanted], strict=True):
        said = messages[: numbers[-1] + 1]
        ids, mask = character_mask(tokenizer, said, numbers, TOOLS)
        closing = list(encoder.ends[:1]) if ids[-1] != example.input_ids[-1] else []  # left to the next turn
        assert example.input_ids.tolist() == [*ids, *closing]
        assert (example.labels != IGNORED).tolist() == [*mask, *([True] * len(closing))]
        learned = [[int(t) for t in labels if t != IGNORED] for labels in (example.labels, without.labels)]
        assert learned[0] == learned[1], "the same answers are learned"
        assert len(example.input_ids) > len(without.input_ids)


@pytest.mark.parametrize("name", SHOWS_TOOLS)
def test_the_prompt_that_a_model_is_asked_with_has_the_definitions(name: str) -> None:
    tokenizer = tokenizer_for(FAMILIES[name], json.dumps([MESSAGES, TOOLS], ensure_ascii=False))
    encoder = make_encoder("auto", tokenizer)
    text = tokenizer.decode(encoder.prompt(with_tools()))
    assert all(word in text for word in ("get_time", "도시의 날씨", "도시 이름"))
    assert encoder.notes(with_tools()) == encoder.notes(record())


@pytest.mark.parametrize("name", ["a.x-4.0", "gemma3", "deepseekv3", "kullm-2023"])
def test_a_prompt_without_a_place_for_definitions_says_so_and_counts_the_rows(name: str) -> None:
    own = name.startswith("kullm")
    tokenizer = tokenizer_for(FAMILIES["qwen3" if own else name], json.dumps(MESSAGES, ensure_ascii=False))
    encoder = make_encoder(name if own else "auto", tokenizer)
    rows, plain = (tokenise(some, encoder, max_length=4096) for some in ([with_tools(), record()], [record()] * 2))
    assert [list(example.input_ids) for example in rows.examples] == [list(e.input_ids) for e in plain.examples]
    line = "1 row is learned without tool definitions, since the prompt has no place for them"
    assert line in moved_lines(rows.counts) and line not in moved_lines(plain.counts)


def test_the_names_of_special_tokens_in_definitions_and_calls_stay_text() -> None:
    """As a value they are text; transformers keeps no key text, so that such definitions and calls are not given to it."""
    tokenizer = tokenizer_for(FAMILIES["qwen3"], json.dumps([MESSAGES, TOOLS], ensure_ascii=False))
    encoder = make_encoder("auto", tokenizer)
    end = encoder.ends[0]

    def ends(row: Record) -> int:
        (made,) = encoder.rows([row])
        return sum(span.ids.count(end) for span in made[-1].spans)

    short = with_tools(messages=MESSAGES[:5])
    named = json.loads(json.dumps(TOOLS))
    named[0]["function"]["description"] = f"끝 {tokenizer.decode([end])}"
    assert ends(replace(short, tools=tools_text(named))) == ends(short)
    assert encoder.notes(replace(short, tools=tools_text(named))) == ()
    named[0]["function"]["parameters"]["properties"] = {tokenizer.decode([end]): {"type": "string"}}
    assert encoder.notes(replace(short, tools=tools_text(named))) == (NOT_SHOWN,)
    assert ends(replace(short, tools=tools_text(named))) == ends(replace(short, tools=""))
    call = json.dumps({"name": "f", "arguments": {tokenizer.decode([end]): 1}})
    history = ((short.history[0][0], f"<tool_call>\n{call}\n</tool_call>"),)
    assert ends(replace(short, history=history)) == ends(short)


def test_definitions_that_the_template_cannot_write_are_counted_and_stop_nothing() -> None:
    """GPT-OSS needs a description of each tool and fails without one."""
    tokenizer = tokenizer_for(FAMILIES["gptoss"], json.dumps([MESSAGES, TOOLS], ensure_ascii=False))
    encoder = make_encoder("auto", tokenizer)
    assert isinstance(encoder, ChatEncoder) and encoder.grammar.definitions
    plain = Record("r", "own", "서울 날씨는?", "", "맑음")
    rows = [replace(plain, tools=text) for text in (tools_text(TOOLS), tools_text([{"name": "bare"}]), "나쁨", "[3]")]
    assert [encoder.notes(row) for row in rows] == [(), (NOT_SHOWN,), (NOT_SHOWN,), (NOT_SHOWN,)]
    assert [len(made) for made in encoder.rows(rows)] == [1, 1, 1, 1]


def test_a_pair_has_the_definitions_before_both_answers() -> None:
    tokenizer = tokenizer_for(FAMILIES["qwen3"], json.dumps([MESSAGES, TOOLS], ensure_ascii=False))
    encoder = make_encoder("auto", tokenizer)
    pair = Preference("p", "own", "서울 날씨는?", "", "맑음", "몰라", tools=tools_text(TOOLS))
    (example,) = tokenise_pairs([pair], encoder, max_length=2048).examples
    for side in (example.chosen, example.rejected):
        assert "get_time" in tokenizer.decode(side.input_ids[side.labels == IGNORED].tolist())
    rows = tokenise_pairs([pair], make_encoder("kullm-2023", tokenizer), max_length=2048)
    assert rows.counts[NOT_SHOWN] == 1


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_nothing_of_a_tool_turn_is_lost_in_any_family(name: str) -> None:
    tokenizer = tokenizer_for(FAMILIES[name], json.dumps(MESSAGES, ensure_ascii=False))
    encoder = make_encoder("auto", tokenizer)

    def text(row: Row) -> str:
        return str(tokenizer.decode([token for span in row.spans for token in span.ids]))

    whole = "".join(text(row) for row in encoder.rows([record()])[0])
    for word in ("get_weather", "부산", "맑음 21", "흐림 18", "맑고 21도입니다.", "찾아볼게요."):
        assert word in whole
    rows = tokenise([record()], encoder, max_length=4096)
    learned = "".join(
        tokenizer.decode([t for t in example.labels.tolist() if t != IGNORED]) for example in rows.examples
    )
    assert "맑고 21도입니다." in learned and "흐리고 18도입니다." in learned
    assert "get_weather" not in learned and "맑음 21" not in learned


def test_a_row_that_only_calls_is_left_out_and_counted() -> None:
    encoder = make_encoder("kullm-2023", tokenizer_for(FAMILIES["qwen3"], json.dumps(MESSAGES, ensure_ascii=False)))
    rows = tokenise([record(MESSAGES[:3]), record()], encoder, max_length=2048)
    assert rows.counts["calls_alone"] == 1
    assert len(rows.examples) == 1
    assert "1 row was left out, whose only answers are calls of tools" in moved_lines(rows.counts)
    assert "3 calls of tools are context and are not learned (learn_tool_calls: true learns them)" in moved_lines(
        rows.counts
    )
    assert len(tokenise([record(MESSAGES[:3])], encoder, max_length=2048, tool_calls=True).examples) == 1


def test_training_says_why_nothing_is_learned_and_what_had_no_room(tmp_path: Path) -> None:
    encoder = make_encoder("auto", tokenizer_for(FAMILIES["qwen3"], json.dumps([MESSAGES, TOOLS], ensure_ascii=False)))
    plain = parse_recipe({"base": {"model": "toy:gpt_neox"}, "data": {"holdout": 0}}, "R")
    calls = replace(record(MESSAGES[:3]), tools=tools_text(TOOLS))
    write_dataset(tmp_path / "calls", [calls])
    with pytest.raises(InputError, match="1 has calls of tools as their only answers - add learn_tool_calls: true"):
        material(plain, str(tmp_path / "calls"), encoder, 2048)
    learning = plain.model_copy(update={"learn_tool_calls": True})
    assert len(material(learning, str(tmp_path / "calls"), encoder, 2048).examples) == 1
    short = Record("s", "own", "서울 날씨는?", "", "맑음")
    write_dataset(tmp_path / "long", [short, replace(short, id="t", tools=tools_text(TOOLS))])
    said = material(plain, str(tmp_path / "long"), encoder, 64).lines
    assert "0 rows have an answer that was cut, 1 were left out for want of room" in said


def test_a_call_of_a_conversation_that_is_learned_is_no_row_that_was_left_out() -> None:
    encoder = make_encoder("auto", tokenizer_for(FAMILIES["qwen3"], json.dumps(MESSAGES, ensure_ascii=False)))
    rows = tokenise([record(MESSAGES[:3]), record()], encoder, max_length=2048)
    assert (rows.counts["turn_by_turn"], rows.counts["calls"], rows.counts["calls_alone"]) == (1, 3, 1)
    assert len(rows.examples) == 2


def test_the_recipe_asks_for_it() -> None:
    base = {"base": {"model": "toy:gpt_neox"}}
    plain, asked = parse_recipe(base, "R"), parse_recipe({**base, "learn_tool_calls": True}, "R")
    assert (plain.learn_tool_calls, asked.learn_tool_calls) == (False, True)
    assert plain.fingerprint("learn_tool_calls") != asked.fingerprint("learn_tool_calls")
