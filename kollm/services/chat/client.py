"""The one client for OpenAI-compatible chat services: governed, retried, capped, and bought once through the ledger.

    client = ChatClient(ChatService("gpt-5.5-2026-04-23", max_cost=2.0), kind="judge")
    replies = run_async(client.all([ChatRequest([{"role": "user", "content": "안녕"}], {"temperature": 0.0})]))

Whatever the ledger holds is answered from it, without a key or a network.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import openai

from kollm.core.counting import counted
from kollm.core.errors import InputError, ServiceError
from kollm.core.progress import say
from kollm.services.budget import Budget
from kollm.services.buying import Buying
from kollm.services.chat.buying_queue import BuyingQueue
from kollm.services.chat.connection import async_connection, connection
from kollm.services.chat.faults import one_line
from kollm.services.chat.governor import Governor
from kollm.services.chat.messages import ChatReply, ChatRequest, answer_tokens, prompt_tokens, reply_of
from kollm.services.chat.run import ChatRun
from kollm.services.chat.service import ChatService
from kollm.services.endpoint import Endpoint, chat_endpoint
from kollm.services.ledger import Answer, Ledger, Purchase
from kollm.services.prices import model_facts

__all__ = ["ChatClient", "ChatEstimate", "ChatReply", "ChatRequest", "ChatService", "run_async"]

Result = TypeVar("Result")

LEASE_MARGIN = 60.0
"""Seconds beside its time limit that a request may take until others take it over."""


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
            f"{counted(self.requests, 'request')}, {self.answered:,} answered before; to ask: about "
            f"{counted(self.prompt_tokens, 'prompt token')} and up to {counted(self.completion_tokens, 'token')} of answer, {price}; to {self.endpoint}"
        )


class ChatClient:
    """Asks one model of one service.

    Args:
        service: the model, where it is, and how it is asked.
        kind: what is bought, as the ledger files it: `judge`, `answer`, `translate`, ...
        ledger: where answers are kept; by default the user's own.
        budget: a budget that is shared with others, in place of the service's `max_cost`.

    Raises:
        InputError: a cap without a known price, or a cap below zero.
    """

    def __init__(
        self, service: ChatService, *, kind: str, ledger: Ledger | None = None, budget: Budget | None = None
    ) -> None:
        self.model, self.kind = service.model, kind
        given = service.key is not None
        self.base_url = chat_endpoint(service.base_url, service.key_env, given=given).url
        self.endpoint = chat_endpoint(service.server or service.base_url, service.key_env, given=given)
        self.facts = model_facts(service.model, service.price)
        self.ledger = ledger if ledger is not None else Ledger.open()
        self.concurrency, self.timeout, self.retry = max(1, service.concurrency), service.timeout, service.retry
        self.budget = budget or Budget(max_cost=service.max_cost)
        if self.budget.max_cost is not None and not self.facts.priced:
            raise InputError(
                f"No price of the model '{self.model}' is known, so a cap of USD {self.budget.max_cost} cannot be kept - give "
                "--price IN OUT (USD for a million tokens; 0 0 for a server of your own), or leave out --max-cost."
            )
        self._key = service.key
        self.buying = Buying(self.ledger, self.budget, self.timeout + LEASE_MARGIN)
        self._runs: dict[ChatRun, asyncio.AbstractEventLoop] = {}

    def count_earlier(self, requests: Sequence[ChatRequest]) -> None:
        """Count what was paid for these requests before, or may have been, as spent."""
        self.buying.count(self._claimed(dict.fromkeys(self.purchase(request).key for request in requests)))

    def _find(self, keys: Iterable[str]) -> dict[str, Answer]:
        """The answers that the ledger holds; the purchases are this run's from now on."""
        return self.buying.find(self._claimed(keys))

    def _claimed(self, keys: Iterable[str]) -> list[str]:
        chosen = list(keys)
        for key in chosen:
            self.budget.claim(key)
        return chosen

    def stop(self) -> None:
        """Send nothing more, from any thread; what is under way is waited for and kept."""
        for run, loop in list(self._runs.items()):
            with contextlib.suppress(RuntimeError):  # its loop has ended meanwhile
                loop.call_soon_threadsafe(run.leave)

    @property
    def spent(self) -> float:
        """USD that the requests so far cost, earlier runs' share and sends without an answer included."""
        spending = self.budget.spending()
        return spending.cost + spending.lost.cost

    def purchase(self, request: ChatRequest) -> Purchase:
        """How the ledger files a request."""
        who = self.kind, self.base_url, self.model
        if who not in request.filed:
            request.filed[who] = self._purchase(request)
        return request.filed[who]

    def _purchase(self, request: ChatRequest) -> Purchase:
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
        answered = self.ledger.answered(by_key)
        missing = [request for key, request in by_key.items() if key not in answered]
        prompt, completion = sum(map(prompt_tokens, missing)), sum(map(answer_tokens, missing))
        cost = self.facts.cost(prompt, completion) if self.facts.priced else None
        return ChatEstimate(len(by_key), len(answered), prompt, completion, cost, self.endpoint)

    def say_estimate(self, requests: Sequence[ChatRequest], what: str = "", note: str = "") -> None:
        """Say what asking would cost at most and who would get the text, which is then not said again.

        Args:
            requests: what would be asked.
            what: what it is for; the model alone by default.
            note: what the sentence ends with.
        """
        say(f"{what or self.model}: {self.estimate(requests)}{note}")
        self.endpoint.announce(said=True)

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
            raise ServiceError(f"{self.base_url} refuses the call: {one_line(error)}") from error
        except openai.APIConnectionError as error:
            raise ServiceError(
                f"{self.base_url} cannot be reached ({one_line(error)}) - run the command again."
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
        answered = self._find(places)
        missing = [indices[0] for key, indices in places.items() if key not in answered]
        key = (self._key or self.endpoint.key) if missing else ""
        for purchase_key, answer in answered.items():
            reply = reply_of(answer.content, answer.cost, replayed=True)
            for index in places[purchase_key]:
                yield index, reply
        if not missing:
            return
        self.endpoint.announce()
        async with (
            async_connection(self.endpoint, key, max_retries=0, timeout=self.timeout) as service,
            BuyingQueue(self.buying) as queue,
        ):
            run = ChatRun(self, service, queue, Governor(self.concurrency, self.retry))
            self._runs[run] = asyncio.get_running_loop()
            try:
                work = [(index, requests[index], purchases[index]) for index in missing]
                async with contextlib.aclosing(run.replies(work)) as replies:
                    async for index, reply in replies:
                        for place in places[purchases[index].key]:
                            yield place, reply
            finally:
                del self._runs[run]


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
