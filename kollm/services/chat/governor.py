"""One governor for all requests to one service: it slows down before the service's limits and waits when told to.

Limits come from the service's own headers (`x-ratelimit-limit-requests`, `-remaining-`, for requests and tokens a
minute), never from configuration. A service without such headers is met by what it answers: each 429 halves the
requests at once, each answer lets them grow again (additive increase, multiplicative decrease). aiolimiter and tenacity
neither learn limits from headers nor halve on a 429.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from kollm.services.retry import RetryPolicy


@dataclass(slots=True)
class _Bucket:
    """A minute's allowance that refills steadily; unlimited until the service names a limit."""

    limit: float | None = None
    level: float = 0.0
    updated: float = 0.0

    def wait_for(self, amount: float, now: float) -> float:
        """Seconds until the amount may be taken."""
        if self.limit is None:
            return 0.0
        self.level = min(self.limit, self.level + (now - self.updated) * self.limit / 60)
        self.updated = now
        missing = min(amount, self.limit) - self.level
        return max(0.0, missing * 60 / self.limit)

    def take(self, amount: float) -> None:
        self.level -= amount

    def learn(self, limit: float, remaining: float, now: float) -> None:
        if self.limit is None:
            self.level = remaining
        self.limit, self.updated = limit, now
        self.level = min(self.level, remaining)  # requests that the service has not seen yet are in `level` already


@dataclass(slots=True)
class Admission:
    """Leave to send one request.

    Attributes:
        used: set to False where nothing was sent after all: its share of the limits goes back.
    """

    used: bool = True


class Governor:
    """Admits requests, at most `concurrency` at once; one a service, in one event loop.

    Attributes:
        answers: how many answers came so far.

    Args:
        concurrency: requests under way at once.
        policy: how long to wait after refusals.
    """

    def __init__(self, concurrency: int, policy: RetryPolicy | None = None) -> None:
        self._most = self._allowed = float(concurrency)
        self._policy = policy or RetryPolicy()
        self._refusals = 0
        self.answers = 0
        self._under_way = 0
        self._requests, self._tokens = _Bucket(), _Bucket()
        self._paused_until = 0.0
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def admit(self, tokens: int) -> Any:
        """Wait until one request of that many tokens (prompt and answer, estimated) may be sent."""
        async with self._changed:
            while True:
                now = time.monotonic()
                wait = max(
                    self._paused_until - now, self._requests.wait_for(1, now), self._tokens.wait_for(tokens, now)
                )
                if wait <= 0 and self._under_way < max(1, int(self._allowed)):
                    break
                try:
                    await asyncio.wait_for(self._changed.wait(), wait if wait > 0 else None)
                except TimeoutError:
                    continue
            self._under_way += 1
            self._requests.take(1)
            self._tokens.take(tokens)
        admission = Admission()
        try:
            yield admission
        finally:
            async with self._changed:
                self._under_way -= 1
                if not admission.used:
                    self._requests.take(-1)
                    self._tokens.take(-tokens)
                self._changed.notify_all()

    def learn(self, headers: Mapping[str, str]) -> None:
        """Take in the limits that a reply's headers name, and let the number of requests at once grow again."""
        now = time.monotonic()
        for bucket, what in ((self._requests, "requests"), (self._tokens, "tokens")):
            limit = _number(headers.get(f"x-ratelimit-limit-{what}"))
            remaining = _number(headers.get(f"x-ratelimit-remaining-{what}"))
            if limit and remaining is not None:
                bucket.wait_for(0, now)
                bucket.learn(limit, remaining, now)
        self._allowed = min(self._most, self._allowed + 1 / self._allowed)

    def answered(self) -> None:
        """A request was answered: the next refusal is a first one again."""
        self.answers += 1
        self._refusals = 0

    def pause(self, seconds: float) -> None:
        """The service asked to wait: nobody sends before, and fewer at once after.

        Many refusals of one wave count once; waves without an answer between make the waits grow.
        """
        now = time.monotonic()
        if now >= self._paused_until:
            self._allowed = max(1.0, self._allowed / 2)
            self._refusals += 1
            if self._refusals > 1:
                seconds = max(seconds, self._policy.wait(self._refusals))
        self._paused_until = max(self._paused_until, now + seconds)


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
