"""Answers asked anew, and task templates over rows of any file."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from kollm.core.errors import InputError
from kollm.core.records import Original, Provenance, Record
from kollm.recipe.task import load_task
from kollm.services.chat import run_async
from kollm.synthesize.regenerate import regenerate
from kollm.synthesize.templates import Filling, fill_templates
from tests.servers.chat import LoopbackChat, Raw, Said, completion
from tests.synthesize.conftest import MakeClient


def record(number: int, instruction: str, history: tuple[tuple[str, str], ...] = ()) -> Record:
    return Record(
        id=f"alpaca-{number}",
        source="alpaca",
        instruction=instruction,
        input="사과",
        output="An English answer that is not to be sent.",
        history=history,
        lang="ko",
        licence="CC-BY-NC-4.0",
        original=Original("Rhyme with this.", "apple", "An English answer that is not to be sent."),
        provenance=Provenance(route="regenerate", engine="deepl", characters=12),
    )


def model(body: dict[str, Any]) -> Said | str | int:
    last = body["messages"][-1]["content"]
    if "거절" in last:
        return Said("", "content_filter")
    return Said("긴 답", "length") if "길게" in last else f"'{last}'에 대한 답\n"


def test_tools_go_along_as_generate_sends_them(make_client: MakeClient) -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "서울"}}\n</tool_call>'
    asked = replace(record(0, "<tool_response>\n맑음\n</tool_response>", (("날씨는?", call),)), input="")
    rows = [replace(asked, tools=json.dumps(tools)), record(1, "운이 맞는 말을 쓰세요.")]
    calls = {"tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": '{"city": "부산"}'}}]}
    with LoopbackChat(lambda body: Raw(200, completion("m", message={"content": None, **calls}))) as chat:
        made = run_async(regenerate(make_client(chat), rows))
    with_tools, without = sorted(chat.bodies, key=lambda body: "tools" not in body)
    assert with_tools["tools"] == tools and "tools" not in without
    assert [message["role"] for message in with_tools["messages"]] == ["user", "assistant", "tool"]
    assert with_tools["messages"][1]["tool_calls"][0]["function"]["name"] == "weather"
    assert [row.output for row in made.records] == [call.replace("서울", "부산")] * 2


def test_the_output_is_the_models_and_the_rest_stays(make_client: MakeClient) -> None:
    rows = [
        record(0, "운이 맞는 말을 쓰세요."),
        record(1, "거절하세요."),
        record(2, "길게 쓰세요."),
        record(3, "이어서 쓰세요.", (("안녕", "안녕하세요"),)),
    ]
    with LoopbackChat(model) as chat:
        client = make_client(chat)
        made = run_async(regenerate(client, rows, system="한국어로 답하세요."))
        assert run_async(regenerate(client, rows, system="한국어로 답하세요.")) == made and len(chat.bodies) == 4
    first, conversation = made.records
    assert first.output == "'운이 맞는 말을 쓰세요.\n\n사과'에 대한 답"
    assert (first.id, first.instruction) == ("alpaca-0", rows[0].instruction)
    assert first.original == Original("Rhyme with this.", "apple", "")
    assert first.provenance == Provenance(route="regenerate", engine="deepl+gpt-4", characters=12)
    assert made.dropped == Counter(refusal=1, truncated=1)
    sent = next(body["messages"] for body in chat.bodies if len(body["messages"]) == 4)
    assert [message["role"] for message in sent] == ["system", "user", "assistant", "user"]
    assert not any("English answer" in str(body) for body in chat.bodies)
    assert conversation.history == rows[3].history


def test_templates_over_rows_with_columns_of_other_names() -> None:
    rows = [
        {"id": "r1", "document": "배송이 빨라요.", "y": "긍정"},
        {"document": "별로예요.", "y": 0},
        {"document": "x"},
    ]
    made = fill_templates(
        rows,
        load_task("classification"),
        Filling({"text": "document", "label": "y"}, {"choices": "긍정, 부정"}, phrasings=2, seed=1),
        licence="MIT",
    )
    assert [r.id for r in made.records] == [
        "classification-r1",
        "classification-r1-p2",
        "classification-1",
        "classification-1-p2",
    ]
    assert {r.output for r in made.records} == {"긍정", "0"} and made.dropped == Counter(field_missing=1)
    assert all(r.licence == "MIT" and r.lang == "ko" and "배송이 빨라요." in r.input for r in made.records[:2])
    assert made.records[0].instruction != made.records[1].instruction
    with pytest.raises(InputError, match="'classification' has no field 'txt' - its fields are choices, label, text"):
        fill_templates(rows, load_task("classification"), Filling({"txt": "document"}), licence="MIT")
