"""Buying for many coroutines at once: what they write in the same moment goes to disk in one transaction.

A purchase is on disk before its `lease` returns, and an answer before its `settle` does; only the waiting is shared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from kollm.core.errors import StateError
from kollm.services.buying import Buying, Leases
from kollm.services.ledger import Answer, Charge, Purchase


@dataclass(slots=True)
class _Work:
    """What waits to be written, in the order in which it is written."""

    settled: dict[str, Answer] = field(default_factory=dict)
    released: dict[bool, list[str]] = field(default_factory=lambda: {True: [], False: []})
    wanted: dict[str, tuple[Purchase, Charge]] = field(default_factory=dict)
    waiting: list[asyncio.Future[Leases]] = field(default_factory=list)


class BuyingQueue:
    """The purchases of one event loop. Use as an async context manager."""

    def __init__(self, buying: Buying) -> None:
        self._buying = buying
        self._next = _Work()
        self._writer: asyncio.Task[None] | None = None

    def lease(self, key: str, purchase: Purchase, price: Charge) -> Awaitable[Leases]:
        """Take a purchase to be sent; await it before sending. What comes back is of all that was leased with it."""
        self._next.wanted[key] = (purchase, price)
        return self._written()

    def settle(self, key: str, answer: Answer) -> Awaitable[Leases]:
        """Write the answer of a purchase; await it before using the answer."""
        self._next.settled[key] = answer
        return self._written()

    def release(self, key: str, charged: bool) -> Awaitable[Leases]:
        """There was no answer; see Buying.release."""
        self._next.released[charged].append(key)
        return self._written()

    def _written(self) -> Awaitable[Leases]:
        done: asyncio.Future[Leases] = asyncio.get_running_loop().create_future()
        self._next.waiting.append(done)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        return asyncio.shield(done)

    async def _write(self) -> None:
        """Write until nothing waits; whoever comes meanwhile is in the next transaction."""
        while self._next.waiting:
            work, self._next = self._next, _Work()
            try:
                leases = await asyncio.to_thread(self._commit, work)
            except Exception as error:
                for future in work.waiting:
                    future.set_exception(error)
            else:
                for future in work.waiting:
                    future.set_result(leases)
        self._writer = None

    def _commit(self, work: _Work) -> Leases:
        try:
            return self._commit_all(work)
        except StateError:
            if work.settled:  # what was paid for is kept also where there is no room to buy more
                self._buying.settle(work.settled)
            raise

    def _commit_all(self, work: _Work) -> Leases:
        with self._buying.ledger.transaction():
            if work.settled:
                self._buying.settle(work.settled)
            for charged, keys in work.released.items():
                if keys:
                    self._buying.release(keys, charged)
            return self._buying.lease(work.wanted) if work.wanted else Leases()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            await self._writer
