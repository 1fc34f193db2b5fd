"""One pass of a chat client over requests that the ledger does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import openai

from kollm.core.counting import counted
from kollm.core.errors import ServiceError, StateError
from kollm.core.progress import say
from kollm.services.budget import CapError
from kollm.services.buying import poll_waits
from kollm.services.chat.buying_queue import BuyingQueue
from kollm.services.chat.faults import Fault, NoAnswerError, fault_of
from kollm.services.chat.governor import Governor
from kollm.services.chat.messages import (
    ChatReply,
    ChatRequest,
    answer_content,
    answer_tokens,
    prompt_tokens,
    reply_of,
    token_counts,
)
from kollm.services.ledger import Answer, Charge, Entry, Purchase
from kollm.services.ledger.owner import BATCH
from kollm.services.retry import Patience

if TYPE_CHECKING:
    from kollm.services.chat.client import ChatClient

MOST_UNANSWERED = 10
"""Requests given up one after the other, without an answer between, before the run stops: then it is not the requests."""


class _Bought(NamedTuple):
    """A reply, and what to await before it is used: its way into the ledger."""

    reply: ChatReply
    written: Awaitable[Any] | None = None


@dataclass(slots=True, eq=False)
class ChatRun:
    """One pass over requests, with as many under way at once as the client allows."""

    client: ChatClient
    service: openai.AsyncOpenAI
    queue: BuyingQueue
    governor: Governor
    room: asyncio.Condition = field(default_factory=asyncio.Condition)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: Exception | None = None
    unanswered: int = 0
    sending: set[asyncio.Task[Any]] = field(default_factory=set)
    handing: set[asyncio.Task[None]] = field(default_factory=set)

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
                    if self.stopped is not None or self.left.is_set():
                        break
                    bought = await self.buy(request, purchase)
                    if bought is not None:
                        # The next purchase is leased while this answer is written: both go to disk together.
                        handing.append(asyncio.create_task(hand_over(index, bought)))
                        self.handing.add(handing[-1])
                        handing[-1].add_done_callback(self.handing.discard)
                await asyncio.gather(*handing)
            except Exception as error:
                self.stop(error)
                await asyncio.gather(*handing, return_exceptions=True)
            finally:
                done.put_nowait(None)

        workers = [asyncio.create_task(worker()) for _ in range(min(self.client.concurrency, len(work)))]
        try:
            running = len(workers)
            while running:
                item = await done.get()
                if item is None:
                    running -= 1
                else:
                    yield item
        finally:
            await self._drain(workers)
        if self.stopped is not None:
            raise self.stopped

    def stop(self, error: Exception) -> None:
        """Send nothing more because of an error, which is raised once everything under way has come in."""
        self.stopped = self.stopped or error
        self.left.set()

    def leave(self) -> None:
        """Send nothing more: whoever asked wants no more replies."""
        self.left.set()

    async def buy(self, request: ChatRequest, purchase: Purchase) -> _Bought | None:
        """Ask until there is an answer, a refusal, or no try left; None where the run was stopped meanwhile."""
        patience, polls, key = Patience(self.client.retry), poll_waits(), purchase.key
        tokens = prompt_tokens(request), answer_tokens(request)
        price = Charge(0, self.client.facts.cost(*tokens))
        while not self.left.is_set():
            result: _Bought | Fault | None = None
            answers = self.governor.answers
            async with self.governor.admit(sum(tokens)) as admission:
                if self.left.is_set():
                    break
                with self._not_to_be_cancelled():
                    leases = await self.queue.lease(key, purchase, price)
                    if key not in leases.taken:
                        admission.used = False
                    elif self.left.is_set():
                        await self.queue.release(key, charged=False)
                        break
                    else:
                        result = await self._ask(request, key, price)
                async with self.room:
                    self.room.notify_all()
            if isinstance(result, _Bought):
                return result
            if isinstance(result, Fault):
                if not await self._may_try_again(result, patience, self.governor.answers > answers):
                    return self._give_up(result)
            elif key in leases.answered:
                answer = leases.answered[key]
                return _Bought(reply_of(answer.content, answer.cost, replayed=True))
            elif key in leases.refused:
                await self._wait_for_room(leases.refused[key])
            else:
                _refuse_batch(leases.busy[key])
                await self._pause(next(polls))
        return None

    async def _ask(self, request: ChatRequest, key: str, price: Charge) -> _Bought | Fault:
        """Send a leased request once; what came of it is in the ledger, or on its way there, afterwards."""
        client = self.client
        client.budget.count_request()
        try:
            content = await self._send(request)
        except (openai.OpenAIError, NoAnswerError, TimeoutError) as error:
            try:
                where = f"{client.base_url} (model '{client.model}')"
                fault = fault_of(error, request.options, client.retry, where, client.endpoint.said_key)
            except ServiceError:
                await self.queue.release(key, charged=False)
                raise
            if fault.finish_reason:
                content = fault.content(client.model)
                return _Bought(reply_of(content, 0.0), self.queue.settle(key, Answer(content)))
            await self.queue.release(key, fault.charged)
            return fault
        self.governor.answered()
        self.unanswered = 0
        counts = token_counts(content["usage"])
        cost = client.facts.cost(*counts) if any(counts) else price.cost
        return _Bought(reply_of(content, cost), self.queue.settle(key, Answer(content, 0, cost)))

    @contextlib.contextmanager
    def _not_to_be_cancelled(self) -> Iterator[None]:
        """From the lease to the answer: whoever leaves early waits for it."""
        task = asyncio.current_task()
        assert task is not None
        self.sending.add(task)
        try:
            yield
        finally:
            self.sending.discard(task)

    async def _send(self, request: ChatRequest) -> dict[str, Any]:
        try:
            # The client's own limit is one of each read: a service that sends a byte now and then would hold us for ever.
            async with asyncio.timeout(self.client.timeout):
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
        except (ValueError, RecursionError) as error:
            raise NoAnswerError(f"the service sent no chat completion ({error})") from error

    async def _may_try_again(self, fault: Fault, patience: Patience, progressed: bool) -> bool:
        """Wait before the next try; False where there is none."""
        if not fault.again:
            return False
        if fault.crowded and progressed:
            patience.renew()
        wait = patience.next_wait(fault.asked)
        if wait is None:
            return False
        if fault.crowded:  # the same for everyone: nobody sends before
            self.governor.pause(wait)
        else:
            await self._pause(wait)
        return True

    def _give_up(self, fault: Fault) -> _Bought:
        if fault.again:
            self.unanswered += 1
            if self.unanswered >= MOST_UNANSWERED:
                self.stop(
                    ServiceError(
                        f"{self.client.base_url} gave no answer to {MOST_UNANSWERED} requests one after the other, at last: "
                        f"{fault.message} - run the same command again later; what was answered is kept."
                    )
                )
        return _Bought(ChatReply("", "api_error", error=fault.message))

    async def _wait_for_room(self, error: CapError) -> None:
        """Wait for what is under way, which may cost less than was reserved for it.

        Raises:
            CapError: it will leave no room either.
        """
        if not error.passing:
            raise error
        async with self.room:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.room.wait(), 1.0)  # other processes tell nobody when they are done

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.left.wait(), seconds)

    async def _drain(self, workers: Sequence[asyncio.Task[None]]) -> None:
        """Let what is under way come in: it is paid for, and the next run finds it in the ledger."""
        self.left.set()
        for task in workers:
            if task not in self.sending:
                task.cancel()
        if self.sending:
            say(f"Waiting for {counted(len(self.sending), 'request')} that are under way; Ctrl-C again leaves them.")
        await asyncio.gather(*workers, return_exceptions=True)
        await asyncio.gather(*self.handing, return_exceptions=True)


def _refuse_batch(entry: Entry) -> None:
    if entry.owner.startswith(BATCH):
        raise StateError(
            "Some of the requests are under way in a batch - collect it with the command that submitted it, then run this "
            "one again."
        )
