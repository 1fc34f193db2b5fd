"""The ledger for many coroutines at once: what they write in the same moment goes to disk in one transaction.

A purchase is on disk before its `begin` returns, and an answer before its `answer` does; only the waiting is shared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from types import TracebackType
from typing import Self

from kollm.services.ledger import Answer, Ledger, Purchase


class LedgerQueue:
    """Writes to a ledger from one event loop. Use as an async context manager."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._begun: list[tuple[Purchase, float]] = []
        self._answers: dict[str, Answer] = {}
        self._released: list[str] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._writer: asyncio.Task[None] | None = None

    def begin(self, purchase: Purchase, cost: float) -> Awaitable[None]:
        """Write a purchase as in flight; await it before sending."""
        self._begun.append((purchase, cost))
        return self._written()

    def answer(self, key: str, answer: Answer) -> Awaitable[None]:
        """Write the answer of a purchase; await it before using the answer."""
        self._answers[key] = answer
        return self._written()

    def release(self, key: str) -> Awaitable[None]:
        """Take back one send, which the service certainly did not charge."""
        self._released.append(key)
        return self._written()

    def _written(self) -> Awaitable[None]:
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        return asyncio.shield(done)

    async def _write(self) -> None:
        """Write until nothing waits; whoever comes meanwhile is in the next transaction."""
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            answers, self._answers = self._answers, {}
            released, self._released = self._released, []
            begun, self._begun = self._begun, []
            try:
                await asyncio.to_thread(self._commit, answers, released, begun)
            except Exception as error:
                for future in waiting:
                    future.set_exception(error)
            else:
                for future in waiting:
                    future.set_result(None)
        self._writer = None

    def _commit(self, answers: dict[str, Answer], released: list[str], begun: list[tuple[Purchase, float]]) -> None:
        if answers:
            self._ledger.answer_all(answers)
        if released:
            self._ledger.release(released)
        if begun:
            self._ledger.begin([purchase for purchase, _ in begun], 0, [cost for _, cost in begun])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            await self._writer
