"""What services do beside answering: limits without a header, broken replies, refusals of a prompt, silence."""

from __future__ import annotations

import asyncio
import gzip
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kollm.core.errors import QuotaError, ServiceError
from kollm.services.chat import ChatClient, ChatReply, ChatRequest, ChatService, run_async
from kollm.services.ledger import Ledger
from kollm.services.retry import Patience, RetryPolicy, asked_wait
from tests.servers.chat import LoopbackChat, Raw, completion
from tests.servers.hanging import HangingServer

MODEL = "gpt-5.4-mini-2026-03-17"
QUICK = RetryPolicy(tries=4, first=0.01, longest=0.05)
Ask = Callable[..., list[ChatReply]]


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    with Ledger.open(tmp_path / "ledger.sqlite3") as ledger:
        yield ledger


@pytest.fixture
def ask(ledger: Ledger) -> Ask:
    def ask(url: str, count: int = 1, **options: Any) -> list[ChatReply]:
        client = ChatClient(ChatService(MODEL, url, **{"retry": QUICK, **options}), kind="judge", ledger=ledger)
        requests = [
            ChatRequest([{"role": "user", "content": f"질문 {n}"}], {"max_completion_tokens": 20}) for n in range(count)
        ]
        return run_async(client.all(requests))

    return ask


class Window:
    """So many requests in each window of some seconds; what is more gets 429, without a word on when to come again."""

    def __init__(self, most: int, seconds: float) -> None:
        self.most, self.seconds, self.refused = most, seconds, 0
        self._window, self._used, self._lock = 0, 0, threading.Lock()

    def __call__(self, _: dict[str, Any]) -> str | int:
        with self._lock:
            window = int(time.monotonic() / self.seconds)
            if window != self._window:
                self._window, self._used = window, 0
            self._used += 1
            if self._used > self.most:
                self.refused += 1
                return 429
        return "네."


def test_a_limit_without_a_header_is_kept_until_all_are_answered(ask: Ask) -> None:
    limit = Window(30, 1.0)  # a sixtieth of 30 a minute, as the waits are
    with LoopbackChat(limit) as chat:
        replies = ask(chat.url, 100, retry=RetryPolicy(first=1 / 60, longest=1.0))
    assert [reply.status for reply in replies] == ["ok"] * 100
    assert limit.refused < 400, "each request alone would be sent eight times"


@pytest.mark.parametrize("header", ["0", "-5", "nan", "inf", "soon", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_tries_end_whatever_the_service_says(header: str, ask: Ask, ledger: Ledger) -> None:
    with LoopbackChat(lambda _: Raw(429, {"error": {"message": "slow down"}}, {"Retry-After": header})) as chat:
        (reply,) = ask(chat.url)
    assert reply.status == "api_error" and len(chat.bodies) == QUICK.tries
    assert ledger.in_flight() == [] and not list(ledger.rows()), "a refusal is free"


def test_time_ends_too() -> None:
    patience = Patience(RetryPolicy(tries=1000, total=10.0, first=1.0))
    waits = []
    while (wait := patience.next_wait()) is not None:
        waits.append(wait)
    assert len(waits) in (3, 4) and waits == sorted(waits), (
        "1, 2, 4 and perhaps 8 seconds; a longer wait would be past ten"
    )
    assert Patience(RetryPolicy(tries=1)).next_wait(5.0) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"retry-after": "2"}, 2.0), ({"retry-after-ms": "1500"}, 1.5), ({"retry-after": "-3"}, 0.0), ({}, None), ({"retry-after": "nan"}, None), ({"retry-after": "Fri, 27 Nov 2026 00:01:00 GMT", "date": "Fri, 27 Nov 2026 00:00:00 GMT"}, 60.0)],
)  # fmt: skip
def test_what_a_service_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    assert asked_wait(headers) == seconds


def test_a_service_that_is_down_ends_the_run_after_ten_requests(ask: Ask) -> None:
    with LoopbackChat(lambda _: 500) as chat, pytest.raises(ServiceError, match="gave no answer to 10 requests"):
        ask(chat.url, 200, concurrency=4)
    assert len(chat.bodies) <= 14 * QUICK.tries


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v1", "http://nowhere.invalid/v1"])
def test_what_never_left_is_not_counted_as_charged(url: str, ask: Ask, ledger: Ledger) -> None:
    (reply,) = ask(url, max_cost=1.0)
    assert reply.status == "api_error" and "Connection error" in reply.error
    assert ledger.in_flight() == [] and not list(ledger.rows())


@pytest.mark.parametrize(
    "body",
    [
        b"not JSON",
        b"",
        b"[" * 100_000,
        [],
        {},
        {"choices": {}},
        {"choices": [[]]},
        {"choices": [{"message": "text"}]},
        completion(MODEL, message={"content": 5}),
        completion(MODEL, message={"content": {"text": "네"}}),
        completion(MODEL, message={"content": []}),
        completion(MODEL, message={"content": [{"type": "text", "text": 5}]}),
    ],
)
def test_a_reply_that_is_none_is_a_status_and_may_have_been_charged(body: Any, ask: Ask, ledger: Ledger) -> None:
    with LoopbackChat(lambda _: Raw(200, body)) as chat:
        (reply,) = ask(chat.url)
    assert reply.status == "api_error" and len(chat.bodies) == QUICK.tries
    assert ledger.in_flight()[0].sends == QUICK.tries


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            completion(MODEL, message={"content": [{"type": "text", "text": "네"}, {"type": "text", "text": "."}]}),
            "네.",
        ),
        (completion(MODEL, usage="many"), "네."),
        (completion(MODEL, usage={"prompt_tokens": -5, "completion_tokens": "9"}), "네."),
        (completion(MODEL, usage={"prompt_tokens": 1e300, "completion_tokens": 10**30}), "네."),
        (completion(MODEL, usage={"prompt_tokens": True, "completion_tokens": None}), "네."),
        (completion(MODEL, choice={"finish_reason": 5, "logprobs": "none"}), "네."),
        (completion(MODEL, choice={"logprobs": {"content": [{"token": 5}]}}), "네."),
        (completion(MODEL, model=["m"], system_fingerprint=5), "네."),
    ],
)
def test_odd_parts_of_a_reply_are_left_out(body: Any, text: str, ask: Ask, ledger: Ledger) -> None:
    with LoopbackChat(lambda _: Raw(200, body)) as chat:
        first, again = ask(chat.url), ask(chat.url)
    assert [reply.text for reply in first + again] == [text] * 2 and again[0].replayed and len(chat.bodies) == 1
    assert 0 < first[0].cost < 0.01, "what the service does not count is priced at its most"
    assert first[0].logprobs is None and ledger.stats()[0].cost == first[0].cost


AZURE = {
    "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
    "type": None, "param": "prompt", "code": "content_filter", "status": 400,
    "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {"filtered": True}}},
}  # fmt: skip
LONG = "This model's maximum context length is 4096 tokens. However, your messages resulted in 9000 tokens."


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (AZURE, "refusal"),
        ({"message": LONG, "code": "context_length_exceeded", "param": "messages"}, "truncated"),
        ({"message": LONG, "code": 400, "type": "BadRequestError"}, "truncated"),
    ],
)
def test_a_prompt_that_is_refused_for_good_is_asked_once(
    error: dict[str, Any], status: str, ask: Ask, ledger: Ledger
) -> None:
    with LoopbackChat(lambda _: Raw(400, {"error": error})) as chat:
        replies = ask(chat.url) + ask(chat.url)
    assert [reply.status for reply in replies] == [status] * 2 and len(chat.bodies) == 1
    assert (
        replies[0].cost == 0.0
        and ledger.in_flight() == []
        and (status != "refusal" or "filtered" in replies[1].refusal)
    )


@pytest.mark.parametrize("dribble", [False, True])
def test_a_service_that_hangs_has_a_limit(dribble: bool, ask: Ask, ledger: Ledger) -> None:
    with HangingServer(dribble) as server:
        (reply,) = ask(f"{server.url}/v1", timeout=0.3, retry=RetryPolicy(tries=2, first=0.01))
    assert reply.status == "api_error"
    assert ledger.in_flight()[0].sends == 2, "nobody knows whether it was charged"


def test_a_wait_of_hours_is_left_to_the_next_run(ask: Ask) -> None:
    hours = LoopbackChat(lambda _: Raw(429, {}, {"Retry-After": "7200"}))
    with hours as chat, pytest.raises(QuotaError, match="asks to wait 7200 s"):
        ask(chat.url, 3)
    assert len(chat.bodies) <= 3


def test_leaving_early_keeps_what_is_under_way(ledger: Ledger) -> None:
    first, left = threading.Lock(), threading.Event()

    def answered(_: dict[str, Any]) -> str:
        if not first.acquire(blocking=False):
            left.wait(120)
        return "네."

    async def first_reply(client: ChatClient, requests: list[ChatRequest]) -> None:
        stream = client.stream(requests)
        await anext(stream)
        left.set()
        await stream.aclose()

    with LoopbackChat(answered) as chat:
        client = ChatClient(ChatService(MODEL, chat.url, concurrency=4), kind="judge", ledger=ledger)
        requests = [
            ChatRequest([{"role": "user", "content": str(n)}], {"max_completion_tokens": 20}) for n in range(40)
        ]
        asyncio.run(first_reply(client, requests))
        assert ledger.stats()[0].answered == len(chat.bodies) <= 8 and ledger.in_flight() == []


@pytest.mark.parametrize(
    ("headers", "body", "said"),
    [
        ({}, b" " * 70_000, "larger than"),
        ({"Content-Encoding": "gzip"}, gzip.compress(b" " * 100_000_000), r"packed \(gzip\)"),
    ],
)
def test_an_answer_has_an_end(
    headers: dict[str, str], body: bytes, said: str, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kollm.services.chat.connection.MOST_BYTES", 65_536)
    asked: list[dict[str, Any]] = []

    def model(request: dict[str, Any]) -> Raw:
        asked.append(request)
        return Raw(200, body, headers)

    with LoopbackChat(model) as chat:
        [reply] = ask(chat.url)
    assert reply.status == "api_error" and re.search(f"the answer is {said}", reply.error), reply
    assert len(asked) == QUICK.tries
