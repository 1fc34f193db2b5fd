"""Tool turns: as the base's template writes them, kept as context, and learned only where that is asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kollm.core.records import Record
from kollm.recipe.chat import ChatEncoder
from kollm.recipe.load import parse_recipe
from kollm.recipe.tokens import Row
from kollm.recipe.tools import is_call, structured
from kollm.sources.own.conversation import read_conversation
from kollm.train.data import IGNORED, moved_lines, tokenise
from kollm.train.prompts import make_encoder, prove
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


def as_servers_take_them(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """OpenAI's messages for a template: arguments as an object, no ids, no null."""
    made = []
    for message in messages:
        calls = [{"type": "function", "function": {"name": call["function"]["name"], "arguments": json.loads(call["function"]["arguments"])}} for call in message.get("tool_calls", ())]  # fmt: skip
        made.append({"role": message["role"], "content": message["content"] or "", **({"tool_calls": calls} if calls else {})})  # fmt: skip
    return made


def character_mask(tokenizer: Any, messages: list[dict[str, Any]], learned: list[int]) -> tuple[list[int], list[bool]]:
    """Ids of the whole, and which lie in the text that a learned message adds after its prompt: by places of characters."""
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    spans = []
    for number in learned:
        asked = tokenizer.apply_chat_template(messages[:number], tokenize=False, add_generation_prompt=True)
        until = tokenizer.apply_chat_template(messages[: number + 1], tokenize=False)
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
    assert "1 rows were left out, whose only answers are calls of tools" in moved_lines(rows.counts)
    assert "3 calls of tools are context and are not learned (learn_tool_calls: true learns them)" in moved_lines(
        rows.counts
    )
    assert len(tokenise([record(MESSAGES[:3])], encoder, max_length=2048, tool_calls=True).examples) == 1


def test_the_recipe_asks_for_it() -> None:
    base = {"base": {"model": "toy:gpt_neox"}}
    plain, asked = parse_recipe(base, "R"), parse_recipe({**base, "learn_tool_calls": True}, "R")
    assert (plain.learn_tool_calls, asked.learn_tool_calls) == (False, True)
    assert plain.fingerprint("learn_tool_calls") != asked.fingerprint("learn_tool_calls")
