"""The one client for OpenAI-compatible chat services: governed, retried, capped, and bought once through the ledger.

    client = ChatClient("gpt-5.5-2026-04-23", kind="judge", max_cost=2.0)
    replies = run_async(client.all([ChatRequest([{"role": "user", "content": "안녕"}], {"temperature": 0.0})]))

Whatever the ledger holds is answered from it, without a key or a network.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import random
import threading
from collections.abc import AsyncGenerator, Awaitable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, TypeVar

import openai

from kollm.core.errors import InputError, QuotaError, ServiceError
from kollm.services.chat.connection import async_connection, connection
from kollm.services.chat.cost_cap import CostCap
from kollm.services.chat.governor import Governor
from kollm.services.chat.ledger_queue import LedgerQueue
from kollm.services.chat.messages import (
    ChatReply,
    ChatRequest,
    answer_content,
    answer_tokens,
    prompt_tokens,
    reply_of,
    token_counts,
)
from kollm.services.endpoint import Endpoint, chat_endpoint
from kollm.services.ledger import Answer, Ledger, Purchase
from kollm.services.prices import model_facts

__all__ = ["ChatClient", "ChatEstimate", "ChatReply", "ChatRequest", "run_async"]

Result = TypeVar("Result")

LONGEST_WAIT = 300.0
"""A service that asks for a longer wait, in seconds, is asked again by the next run and not by this one."""
PATIENCE = 900.0
"""Seconds that one request waits in all because the service asks it to."""
QUOTA_CODES = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "access_terminated"}
MAYBE_CHARGED = {408, 502, 504}
"""HTTP statuses after which nobody knows whether the model ran; any other refusal costs nothing."""


class ChatEstimate(NamedTuple):
    """What a run may cost at most, before anything is spent.

    Attributes:
        requests: distinct requests.
        answered: those that the ledger holds.
        prompt_tokens: estimated tokens of the others' prompts.
        completion_tokens: tokens that their answers may have at most.
        cost: USD at most; None where the model's price is unknown.
        endpoint: who is asked, and which key goes there.
    """

    requests: int
    answered: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    endpoint: Endpoint

    def __str__(self) -> str:
        price = "price unknown" if self.cost is None else f"USD {self.cost:.2f} at most"
        return (
            f"{self.requests:,} requests, {self.answered:,} answered before; to ask: about {self.prompt_tokens:,} prompt "
            f"tokens and up to {self.completion_tokens:,} tokens of answer, {price}; to {self.endpoint}"
        )


class ChatClient:
    """Asks one model of one service.

    Args:
        model: name of the model, as the service calls it.
        kind: what is bought, as the ledger files it: `judge`, `answer`, `translate`, ...
        base_url: the service; by default `$OPENAI_BASE_URL`, else OpenAI.
        key_env: variable with the service's key, if not the host's own (see `kollm.services.endpoint`).
        ledger: where answers are kept; by default the user's own.
        concurrency: requests under way at once.
        max_cost: cap in USD on what the requests of this client cost, earlier runs' share and sends without an answer
            included.
        price: USD for a million tokens in and out, where the table of models has no price or another one.
        timeout: seconds that one request may take.
        tries: sends of one request after failures, the first included; waits that the service asks for are not counted.
        backoff: seconds before the second try, doubled each time up to 16 times.
        key: for a program that serves several people, each with a key of their own. Kept nowhere.

    Raises:
        InputError: a cap without a known price, or a cap or price below zero.
    """

    def __init__(
        self,
        model: str,
        *,
        kind: str,
        base_url: str | None = None,
        key_env: str | None = None,
        ledger: Ledger | None = None,
        concurrency: int = 32,
        max_cost: float | None = None,
        price: tuple[float, float] | None = None,
        timeout: float = 180.0,
        tries: int = 5,
        backoff: float = 1.0,
        key: str | None = None,
    ) -> None:
        self.model, self.kind = model, kind
        if price is not None and not (0 <= price[0] < math.inf and 0 <= price[1] < math.inf):
            raise InputError(f"The price is {price[0]} and {price[1]} - give zero or more USD for a million tokens.")
        self.endpoint = chat_endpoint(base_url, key_env, given=key is not None)
        self.base_url = self.endpoint.url
        self.facts = model_facts(model, price)
        self.ledger = ledger if ledger is not None else Ledger.open()
        self._concurrency, self._timeout, self._tries, self._backoff = max(1, concurrency), timeout, tries, backoff
        if max_cost is not None and not max_cost >= 0:  # NaN is no cap
            raise InputError(f"The cap on cost is {max_cost} - give zero or more.")
        if max_cost is not None and not self.facts.priced:
            raise InputError(
                f"No price of the model '{model}' is known, so a cap of USD {max_cost} cannot be kept - give --price IN OUT "
                "(USD for a million tokens; 0 0 for a server of your own), or leave out --max-cost."
            )
        self.max_cost, self._key = max_cost, key
        self.cap = CostCap(max_cost)

    def count_earlier(self, requests: Sequence[ChatRequest]) -> None:
        """Count what was paid for these requests before, or may have been, as spent."""
        keys = dict.fromkeys(self.purchase(request).key for request in requests)
        self.cap.add_earlier(keys, self.ledger.find(keys), self.ledger)

    @property
    def spent(self) -> float:
        """USD that the requests so far cost, earlier runs' share and sends without an answer included."""
        return self.cap.spent

    def purchase(self, request: ChatRequest) -> Purchase:
        """How the ledger files a request."""
        return Purchase(
            kind=self.kind,
            engine="openai",
            base_url=self.base_url,
            model=self.model,
            options=dict(request.options),
            context=request.context,
            text=json.dumps([dict(message) for message in request.messages], ensure_ascii=False),
            attempt=request.attempt,
            sample=request.sample,
        )

    def estimate(self, requests: Sequence[ChatRequest]) -> ChatEstimate:
        """What asking would cost at most; asks nobody."""
        by_key = {self.purchase(request).key: request for request in requests}
        answered = self.ledger.find(by_key)
        missing = [request for key, request in by_key.items() if key not in answered]
        prompt, completion = sum(map(prompt_tokens, missing)), sum(map(answer_tokens, missing))
        cost = self.facts.cost(prompt, completion) if self.facts.priced else None
        return ChatEstimate(len(by_key), len(answered), prompt, completion, cost, self.endpoint)

    refusals = (openai.APIStatusError,)
    """What `service` raises where the service refused a call."""

    @contextlib.contextmanager
    def service(self) -> Iterator[openai.OpenAI]:
        """The service for calls other than chat, like files and batches; its errors become ServiceError.

        Raises:
            MissingKeyError: no key in the environment.
            ServiceError: the service refuses a call, or cannot be reached.
        """
        try:
            self.endpoint.announce()
            with connection(self.endpoint, self._key or self.endpoint.key, max_retries=4) as service:
                yield service
        except openai.APIStatusError as error:
            raise ServiceError(f"{self.base_url} refuses the call: {_one_line(error)}") from error
        except openai.APIConnectionError as error:
            raise ServiceError(
                f"{self.base_url} cannot be reached ({_one_line(error)}) - run the command again."
            ) from error

    async def all(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """The replies, in the order of the requests."""
        replies: dict[int, ChatReply] = {}
        async with contextlib.aclosing(self.stream(requests)) as stream:
            async for index, reply in stream:
                replies[index] = reply  # noqa: PERF403 - in the order of coming in
        return [replies[index] for index in range(len(requests))]

    async def stream(self, requests: Sequence[ChatRequest]) -> AsyncGenerator[tuple[int, ChatReply], None]:
        """Yield (index of the request, reply) as replies come; equal requests are asked once.

        Raises:
            MissingKeyError: no key in the environment, and something to ask.
            QuotaError: the service's quota or the cap leaves no room; what was under way is answered and yielded first.
            ServiceError: the service refuses the key, the model or an option.
        """
        purchases = [self.purchase(request) for request in requests]
        places: dict[str, list[int]] = {}
        for index, purchase in enumerate(purchases):
            places.setdefault(purchase.key, []).append(index)
        answered = self.ledger.find(places)
        missing = [indices[0] for key, indices in places.items() if key not in answered]
        key = (self._key or self.endpoint.key) if missing else ""
        self.cap.add_earlier(places, answered, self.ledger)
        for purchase_key, answer in answered.items():
            reply = reply_of(answer.content, answer.cost, replayed=True)
            for index in places[purchase_key]:
                yield index, reply
        if not missing:
            return
        self.endpoint.announce()
        async with (
            async_connection(self.endpoint, key, max_retries=0, timeout=self._timeout) as service,
            LedgerQueue(self.ledger) as book,
        ):
            run = _Run(self, service, book, Governor(self._concurrency))
            async for index, reply in run.replies([(index, requests[index], purchases[index]) for index in missing]):
                for place in places[purchases[index].key]:
                    yield place, reply


class _Bought(NamedTuple):
    """A reply, and what to await before it is used: its way into the ledger."""

    reply: ChatReply
    written: Awaitable[None] | None = None


@dataclass(slots=True)
class _Run:
    """One pass over requests that the ledger does not answer."""

    client: ChatClient
    service: openai.AsyncOpenAI
    book: LedgerQueue
    governor: Governor
    room: asyncio.Condition = field(default_factory=asyncio.Condition)
    stopped: Exception | None = None

    async def replies(
        self, work: Sequence[tuple[int, ChatRequest, Purchase]]
    ) -> AsyncGenerator[tuple[int, ChatReply], None]:
        """Yield replies as they come. What stops the run is raised after everything under way has come in."""
        waiting = iter(work)
        done: asyncio.Queue[tuple[int, ChatReply] | None] = asyncio.Queue()

        async def hand_over(index: int, bought: _Bought) -> None:
            if bought.written is not None:
                await bought.written
            done.put_nowait((index, bought.reply))

        async def worker() -> None:
            handing: list[asyncio.Task[None]] = []
            try:
                for index, request, purchase in waiting:
                    if self.stopped is not None:
                        break
                    bought = await self.buy(request, purchase)
                    if bought is not None:
                        # The next purchase is begun while this answer is written: both go to disk together.
                        handing.append(asyncio.create_task(hand_over(index, bought)))
                await asyncio.gather(*handing)
            except Exception as error:
                self.stopped = self.stopped or error
                await asyncio.gather(*handing, return_exceptions=True)
            finally:
                done.put_nowait(None)

        workers = [asyncio.create_task(worker()) for _ in range(min(self.client._concurrency, len(work)))]
        try:
            left = len(workers)
            while left:
                item = await done.get()
                if item is None:
                    left -= 1
                else:
                    yield item
        finally:
            for task in workers:
                task.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        if self.stopped is not None:
            raise self.stopped

    async def buy(self, request: ChatRequest, purchase: Purchase) -> _Bought | None:
        """Ask until there is an answer, a refusal, or no try left; None where the run was stopped meanwhile."""
        client, failure, tries, waited = self.client, "", 0, 0.0
        key, prompt, answer = purchase.key, prompt_tokens(request), answer_tokens(request)
        price = client.facts.cost(prompt, answer)
        while tries < client._tries:
            async with self.governor.admit(prompt + answer):
                await self._reserve(price)
                if self.stopped is not None:
                    return None
                charged = True
                try:
                    await self.book.begin(purchase, price)
                    content = await self._send(request)
                    counts = token_counts(content["usage"])
                    cost = client.facts.cost(*counts) if any(counts) else price
                    client.cap.settle(cost)
                    charged = False
                    return _Bought(reply_of(content, cost), self.book.answer(key, Answer(content, 0, cost)))
                except openai.APIStatusError as error:
                    charged = error.status_code in MAYBE_CHARGED
                    failure = _one_line(error)
                    if not charged:
                        await self.book.release(key)
                    _raise_if_fatal(error, client, request)
                    if error.status_code == 429:
                        wait = _retry_after(error)
                        self.governor.pause(client._backoff if wait is None else max(wait, 0.05))
                        if wait is not None and waited < PATIENCE:
                            waited += wait
                            continue
                    if error.status_code < 500 and error.status_code not in (408, 409, 429):
                        return _Bought(ChatReply("", "api_error", error=failure))
                except (openai.APIConnectionError, openai.APIResponseValidationError, _NoAnswerError) as error:
                    failure = _one_line(error)
                finally:
                    await self._release(price, charged)
            tries += 1
            if tries < client._tries:
                await asyncio.sleep(client._backoff * min(2 ** (tries - 1), 16) * random.uniform(0.75, 1.25))
        return _Bought(ChatReply("", "api_error", error=failure))

    async def _reserve(self, cost: float) -> None:
        """Wait for room under the cap: what is under way may cost less than was reserved for it."""
        async with self.room:
            while self.stopped is None and not self.client.cap.reserve(cost):
                await self.room.wait()

    async def _release(self, cost: float, charged: bool) -> None:
        async with self.room:
            self.client.cap.release(cost, charged)
            self.room.notify_all()

    async def _send(self, request: ChatRequest) -> dict[str, Any]:
        try:
            raw = await self.service.chat.completions.with_raw_response.create(
                model=self.client.model,
                messages=[dict(message) for message in request.messages],  # type: ignore[misc]
                **request.options,
            )
        except openai.APIStatusError as error:
            self.governor.learn(error.response.headers)
            raise
        self.governor.learn(raw.headers)
        try:
            return answer_content(json.loads(raw.text))
        except ValueError as error:
            raise _NoAnswerError(f"the service sent no chat completion ({error})") from error


class _NoAnswerError(Exception):
    """A reply with status 200 that holds no answer."""


def run_async(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end, also where a loop runs already (a notebook): then in a thread of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(asyncio.run(coroutine))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="kollm-chat")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _raise_if_fatal(error: openai.APIStatusError, client: ChatClient, request: ChatRequest) -> None:
    """Raise what no retry and no other request of this run would mend."""
    where = f"{client.base_url} (model '{client.model}')"
    if error.code in QUOTA_CODES or error.status_code == 402:
        raise QuotaError(
            f"{where}: the account's quota is used up ({_one_line(error)}) - add credit, then run the same command again; "
            "what was answered is kept."
        ) from error
    if error.status_code == 429 and (_retry_after(error) or 0) > LONGEST_WAIT:
        raise QuotaError(
            f"{where} asks to wait {_retry_after(error):.0f} s - run the same command again then; what was answered is kept."
        ) from error
    if error.status_code in (401, 403):
        raise ServiceError(f"{where} refuses {client.endpoint.said_key} ({_one_line(error)}) - check it.") from error
    if error.status_code == 404:
        raise ServiceError(
            f"{where} does not know the model or the address ({_one_line(error)}) - check both."
        ) from error
    if error.status_code == 400 and str(error.param).split(".")[0] in request.options:
        raise ServiceError(f"{where} does not take the option '{error.param}': {_one_line(error)}") from error


def _retry_after(error: openai.APIStatusError) -> float | None:
    headers = error.response.headers
    for name, divisor in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        with contextlib.suppress(KeyError, ValueError):
            return max(0.0, float(headers[name]) / divisor)
    with contextlib.suppress(KeyError, ValueError, TypeError):
        until = parsedate_to_datetime(headers["retry-after"])
        return max(0.0, until.timestamp() - parsedate_to_datetime(headers["date"]).timestamp())
    return None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
