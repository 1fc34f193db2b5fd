"""A chat model as translator, through the real OpenAI client and a loopback service."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kollm.core.errors import InputError, MissingKeyError, QuotaError, ServiceError
from kollm.services.ledger import Ledger
from kollm.services.retry import RetryPolicy
from kollm.translate import Budget, make_translator, translate_records
from kollm.translate.openai import OpenAITranslator
from tests.servers.chat import LoopbackChat, Said
from tests.servers.deepl import pseudo_korean
from tests.translate.conftest import Rows


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "loopback")


def structured(body: dict[str, Any]) -> str:
    return json.dumps({"document": pseudo_korean(body["messages"][-1]["content"])})


def engine(chat: LoopbackChat, **options: Any) -> OpenAITranslator:
    client = {"retry": RetryPolicy(tries=2, first=0.01)}
    return OpenAITranslator("gpt-4", chat.url, concurrency=8, client_options=client, **options)


def test_rows_through_a_chat_model(ledger: Ledger, rows: Rows) -> None:
    budget = Budget(max_cost=100.0)
    with LoopbackChat(structured) as chat:
        first = translate_records(rows(20), engine(chat), ledger=ledger, budget=budget)
        assert len(chat.bodies) == 20
        assert translate_records(rows(20), engine(chat), ledger=ledger) == first
        assert len(chat.bodies) == 20, "the second run asks nobody"
    assert all(item.reason is None and "`code_" in item.record.instruction for item in first)
    assert [item.record.id for item in first] == [row.id for row in rows(20)]
    body = chat.bodies[0]
    assert body["response_format"]["json_schema"]["strict"] is True and body["temperature"] == 0.0
    assert "존댓말" in body["messages"][0]["content"] and body["messages"][1]["content"].startswith('<d><t n="0">')
    assert (
        budget.spending().cost == pytest.approx(sum(row.cost for row in ledger.stats())) and budget.spending().cost > 0
    )


@pytest.mark.parametrize("frame", ["```json\n{}\n```", "<think>흠</think>\n{}", "번역입니다: {}", "\ufeff{}"])
def test_a_structured_reply_in_another_frame(frame: str, ledger: Ledger, rows: Rows) -> None:
    with LoopbackChat(lambda body: frame.replace("{}", structured(body))) as chat:
        outcomes = translate_records(rows(3), engine(chat), ledger=ledger)
    assert [item.reason for item in outcomes] == [None] * 3 and len(chat.bodies) == 3


def test_a_bare_document_where_structure_was_asked_for(ledger: Ledger, rows: Rows) -> None:
    with LoopbackChat(lambda body: pseudo_korean(body["messages"][-1]["content"])) as chat:
        outcomes = translate_records(rows(2), engine(chat), ledger=ledger)
    assert [item.reason for item in outcomes] == [None] * 2 and len(chat.bodies) == 2


def test_without_structured_output(ledger: Ledger, rows: Rows) -> None:
    def chatty(body: dict[str, Any]) -> str:
        return "Here you are:\n" + pseudo_korean(body["messages"][-1]["content"])

    with LoopbackChat(chatty) as chat:
        outcomes = translate_records(rows(2), engine(chat, structured=False, options={"seed": 7}), ledger=ledger)
    assert [item.reason for item in outcomes] == [None, None]
    assert "response_format" not in chat.bodies[0] and chat.bodies[0]["seed"] == 7


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda _: Said(json.dumps({"document": "<d>"}), "length"), "truncated: length"),
        (lambda _: "no JSON", "parse_error: the answer is not the JSON asked for"),
        (lambda _: json.dumps({"document": "translated!"}), "parse_error: no document in the answer"),
        (lambda _: json.dumps({"document": "<d></d>"}), "markup: 2 fields were sent, 0 or others came back"),
        (lambda _: Said("", "content_filter"), "refusal: content_filter"),
    ],
)
def test_useless_answers_are_asked_again_and_then_rejected(
    answer: Callable[[Any], Any], reason: str, ledger: Ledger, rows: Rows
) -> None:
    with LoopbackChat(answer) as chat:
        outcomes = translate_records(rows(3)[1:], engine(chat), ledger=ledger)
    assert [item.reason for item in outcomes] == [reason, reason]
    assert len(chat.bodies) == 3, "with numbers masked the second attempts are one text"


def test_useless_answers_to_most_rows_stop_the_run(ledger: Ledger, rows: Rows) -> None:
    with (
        LoopbackChat(lambda _: "no JSON") as chat,
        pytest.raises(ServiceError, match=r"of the last 12 answers .* 12 were"),
    ):
        translate_records(rows(12), engine(chat), ledger=ledger)
    assert len(chat.bodies) == 12, "none is asked a second time"


def test_the_second_attempt_mends(ledger: Ledger, rows: Rows) -> None:
    def careless(body: dict[str, Any]) -> str:
        text = body["messages"][-1]["content"]
        return structured(body) if "item <x" in text else structured(body).replace("x id", "y id")

    with LoopbackChat(careless) as chat:
        outcomes = translate_records(rows(5), engine(chat), ledger=ledger)
    assert [(item.reason, item.record.provenance.attempt) for item in outcomes] == [(None, 2)] * 5


def test_a_service_that_is_down(ledger: Ledger, rows: Rows) -> None:
    with LoopbackChat(lambda _: 503) as chat, pytest.raises(ServiceError, match="answered none of 3 requests"):
        translate_records(rows(3), engine(chat), ledger=ledger)


def test_caps(ledger: Ledger, rows: Rows) -> None:
    with LoopbackChat(structured) as chat:
        with pytest.raises(QuotaError, match="Stopped before the cap of USD"):
            translate_records(rows(50), engine(chat), ledger=ledger, budget=Budget(max_cost=0.02))
        assert sum(row.cost for row in ledger.stats()) <= 0.02
        with pytest.raises(InputError, match="billed by tokens"):
            translate_records(rows(1), engine(chat), ledger=ledger, budget=Budget(max_characters=10))


def test_a_long_row_is_divided_and_an_overlong_field_rejected(ledger: Ledger, rows: Rows) -> None:
    long = replace(rows(1)[0], input="long " * 10_000, output="wide " * 10_000)
    with LoopbackChat(structured) as chat:
        divided, overlong = translate_records([long, replace(long, output="x " * 40_000)], engine(chat), ledger=ledger)
    assert divided.reason is None and len(chat.bodies) == 3
    assert str(overlong.reason).startswith("too_long: output has 80,000 characters")


def test_no_key(ledger: Ledger, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(MissingKeyError, match="OPENAI_API_KEY"):
        translate_records(rows(1), make_translator("openai", base_url="https://api.openai.com/v1"), ledger=ledger)
