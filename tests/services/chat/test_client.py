"""The chat client against a real loopback server with the real openai client: faults, limits, caps, the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from llmock.pytest_plugin import LLMock
from llmock.scenarios import Delay, Reply

from kollm.core.errors import InputError, MissingKeyError, QuotaError, ServiceError
from kollm.services.chat import ChatClient, ChatReply, ChatRequest, ChatService, run_async
from kollm.services.ledger import Ledger
from kollm.services.prices import DEFAULT_MODEL, model_facts
from kollm.services.retry import RetryPolicy

MODEL = "gpt-5.4-mini-2026-03-17"
Make = Callable[..., ChatClient]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.sqlite3") as ledger:
        yield ledger


@pytest.fixture
def make(llmock: LLMock, ledger: Ledger) -> Make:
    def build(**options: Any) -> ChatClient:
        retry = RetryPolicy(tries=options.pop("tries", 5), first=0.01, longest=0.2)
        budget = options.pop("budget", None)
        service = ChatService(**{"model": MODEL, "retry": retry, **options})
        return ChatClient(service, kind="judge", ledger=ledger, budget=budget)

    return build


def ask(client: ChatClient, count: int = 1, **options: Any) -> list[ChatReply]:
    requests = [
        ChatRequest([{"role": "user", "content": f"질문 {n}"}], {"max_completion_tokens": 20, **options})
        for n in range(count)
    ]
    return run_async(client.all(requests))


def sent(llmock: LLMock) -> int:
    return len(llmock.requests)


def test_an_answer_is_bought_once_and_replayed_without_key_or_network(
    llmock: LLMock, make: Make, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    llmock.reply("네, 안녕하세요.", times=None)
    first = ask(make(), 5)
    assert [reply.text for reply in first] == ["네, 안녕하세요."] * 5 and not any(reply.replayed for reply in first)
    assert all(
        reply.status == "ok" and reply.model_returned == MODEL and reply.usage["prompt_tokens"] > 0 for reply in first
    )
    monkeypatch.delenv("OPENAI_API_KEY")
    again = ask(make(), 5)
    assert [reply.text for reply in again] == [reply.text for reply in first] and all(reply.replayed for reply in again)
    assert sent(llmock) == 5 and ledger.in_flight() == []
    assert ledger.stats()[0].cost == pytest.approx(sum(reply.cost for reply in first)) and first[0].cost > 0


def test_equal_requests_are_asked_once_and_samples_apart(llmock: LLMock, make: Make) -> None:
    request = ChatRequest([{"role": "user", "content": "같은 질문"}])
    other = ChatRequest(request.messages, sample=1)
    replies = run_async(make().all([request, request, other]))
    assert len(replies) == 3 and sent(llmock) == 2


def test_no_key_is_an_error_before_anything_is_sent(
    llmock: LLMock, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(MissingKeyError, match="OPENAI_API_KEY"):
        ask(make())
    assert sent(llmock) == 0


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_passing_faults_are_retried(llmock: LLMock, make: Make, status: int) -> None:
    llmock.fail(status, times=3)
    assert [reply.status for reply in ask(make(), 4)] == ["ok"] * 4
    assert sent(llmock) == 7


def test_a_429_with_retry_after_pauses_everyone_and_is_honoured(llmock: LLMock, make: Make) -> None:
    llmock.rate_limit(times=3, retry_after=0.4)
    assert [reply.status for reply in ask(make(concurrency=4), 12)] == ["ok"] * 12
    llmock.assert_resilient()


def test_limits_in_the_headers_are_kept_without_being_refused_twice(llmock: LLMock, make: Make) -> None:
    llmock.limits(rpm=600)
    assert [reply.status for reply in ask(make(concurrency=8), 40)] == ["ok"] * 40
    llmock.assert_resilient()


def test_a_service_that_stays_down_leaves_a_status_and_is_asked_again_later(
    llmock: LLMock, make: Make, ledger: Ledger
) -> None:
    llmock.outage(status=503)
    replies = ask(make(tries=2), 2)
    assert [reply.status for reply in replies] == ["api_error"] * 2 and "503" in replies[0].error
    assert sent(llmock) == 4 and ledger.in_flight() == []
    llmock.reset()
    assert [reply.status for reply in ask(make(), 2)] == ["ok"] * 2


def test_a_used_up_quota_stops_at_once_and_keeps_what_was_answered(llmock: LLMock, make: Make, ledger: Ledger) -> None:
    assert len(ask(make(), 3)) == 3
    llmock.reset()
    llmock.fail(429, times=None, code="insufficient_quota", message="You exceeded your current quota")
    with pytest.raises(QuotaError, match="quota is used up"):
        ask(make(concurrency=2), 50)
    assert sent(llmock) <= 2 and ledger.in_flight() == []
    llmock.reset()
    assert sum(reply.replayed for reply in ask(make(), 50)) == 3


@pytest.mark.parametrize(("status", "words"), [(401, "refuses the key"), (404, "does not know the model")])
def test_what_no_retry_mends_stops_the_run(llmock: LLMock, make: Make, ledger: Ledger, status: int, words: str) -> None:
    llmock.fail(status, times=None)
    with pytest.raises(ServiceError, match=words):
        ask(make(concurrency=1), 10)
    assert sent(llmock) == 1 and ledger.in_flight() == []


def test_one_refused_request_is_a_status_and_the_others_go_on(llmock: LLMock, make: Make) -> None:
    llmock.context_overflow(times=1)
    for _ in range(2):
        replies = ask(make(concurrency=1), 3)
        assert sorted(reply.status for reply in replies) == ["ok", "ok", "truncated"]
        assert sent(llmock) == 3, "the prompt would be too long for ever: nobody is asked again"
    assert {reply.finish_reason for reply in replies} == {"stop", "context_length_exceeded"}


def test_a_wait_of_hours_ends_the_run(llmock: LLMock, make: Make) -> None:
    llmock.rate_limit(times=None, retry_after=7200)
    with pytest.raises(QuotaError, match="asks to wait 7200 s"):
        ask(make(), 3)


def test_timeouts_may_have_been_charged_and_stay_listed(llmock: LLMock, make: Make, ledger: Ledger) -> None:
    llmock.add(Delay(3.0, times=1))
    client = make(timeout=1.0)
    assert ask(client)[0].status == "ok"
    (lost,) = ledger.in_flight()
    assert lost.sends == 1 and lost.answered and lost.charge.cost > 0
    assert client.spent == pytest.approx(ledger.stats()[0].cost + lost.charge.cost)


def test_the_cap_holds_and_the_same_command_goes_on(llmock: LLMock, make: Make, ledger: Ledger) -> None:
    llmock.reply("답", times=None)
    whole = make().estimate([ChatRequest([{"role": "user", "content": "질문 0"}], {"max_completion_tokens": 20})]).cost
    assert whole is not None
    cap = whole * 3
    with pytest.raises(QuotaError, match="raise --max-cost"):
        ask(make(max_cost=cap, concurrency=8), 200)
    paid = ledger.stats()[0]
    assert 3 <= paid.answered < 200 and paid.cost <= cap
    with pytest.raises(QuotaError):
        ask(make(max_cost=cap), 200)
    assert ledger.stats()[0].cost <= cap, "what an earlier run paid for the same requests counts"
    assert len(ask(make(max_cost=cap * 100), 200)) == 200
    assert sent(llmock) == 200


def test_a_cap_needs_a_price(make: Make) -> None:
    with pytest.raises(InputError, match="No price of the model 'my-model' is known"):
        make(model="my-model", max_cost=1.0)
    make(model="my-model", max_cost=1.0, price=(0.0, 0.0))
    with pytest.raises(InputError, match="zero or more"):
        make(max_cost=-1.0)
    with pytest.raises(InputError, match="The cap on cost is nan"):
        make(max_cost=float("nan"))
    for price in ((-5.0, 0.0), (0.0, float("nan")), (float("inf"), 1.0)):
        with pytest.raises(InputError, match="give zero or more USD for a million tokens"):
            make(max_cost=1.0, price=price)


def test_the_estimate_asks_nobody_and_is_not_below_the_cost(llmock: LLMock, make: Make) -> None:
    llmock.reply("답", times=None)
    requests = [
        ChatRequest([{"role": "user", "content": f"한국어 질문 {n} " * 20}], {"max_completion_tokens": 20})
        for n in range(3)
    ]
    client = make()
    before = client.estimate(requests)
    assert sent(llmock) == 0 and (before.requests, before.answered) == (3, 0) and "USD" in str(before)
    run_async(client.all(requests))
    after = client.estimate(requests)
    assert (after.answered, after.cost) == (3, 0.0)
    assert before.cost is not None and client.spent <= before.cost


def test_statuses_of_cut_and_refused_answers(llmock: LLMock, make: Make) -> None:
    llmock.add(Reply(text="잘린", finish_reason="length"), Reply(text="", finish_reason="content_filter"))
    replies = ask(make(concurrency=1), 2)
    assert [(reply.status, reply.text) for reply in replies] == [("truncated", "잘린"), ("refusal", "")]


def test_it_runs_inside_a_running_loop(llmock: LLMock, make: Make) -> None:
    async def notebook_cell() -> list[ChatReply]:
        return ask(make(), 2)

    assert len(asyncio.run(notebook_cell())) == 2


def test_an_error_in_a_thread_of_its_own_reaches_the_caller(llmock: LLMock, make: Make) -> None:
    llmock.fail(401, times=None)

    async def notebook_cell() -> list[ChatReply]:
        return ask(make())

    with pytest.raises(ServiceError):
        asyncio.run(notebook_cell())


def test_nothing_listens(make: Make, ledger: Ledger) -> None:
    (reply,) = ask(make(base_url="http://127.0.0.1:9/v1", tries=2))
    assert reply.status == "api_error" and "Connection error" in reply.error


def test_the_default_model_is_a_dated_snapshot_without_an_announced_shutdown() -> None:
    facts = model_facts(DEFAULT_MODEL)
    assert DEFAULT_MODEL[-10:].count("-") == 2 and facts.priced and facts.shutdown is None
    import openai.types.shared.chat_model as listed

    source = Path(listed.__file__).read_text(encoding="utf-8")
    names, _, deprecated = source.partition('"""Deprecated')
    assert f'"{DEFAULT_MODEL}"' in names and f'"{DEFAULT_MODEL}"' not in deprecated


def test_options_are_those_that_a_model_accepts() -> None:
    sampling = {"temperature": 0.0, "seed": 0}
    assert model_facts("gpt-4o-2024-08-06").options(max_tokens=9, **sampling) == {
        "max_completion_tokens": 9,
        **sampling,
    }
    assert model_facts("gpt-5").options(max_tokens=9, **sampling) == {"max_completion_tokens": 9}
    assert model_facts(DEFAULT_MODEL).options(max_tokens=9, logprobs=20, **sampling) == {
        "max_completion_tokens": 9,
        "reasoning_effort": "none",
        "logprobs": True,
        "top_logprobs": 20,
        **sampling,
    }
    assert model_facts("my-own-model").options(max_tokens=9) == {"max_tokens": 9}
    with pytest.raises(InputError, match="no log-probabilities"):
        model_facts("gpt-5").options(max_tokens=9, logprobs=5)
