"""One policy for asking again: how often, how long in all, and after which waits, whatever a service says."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a request that got no answer is sent again.

    Attributes:
        tries: sends of one request, the first included.
        total: seconds from a request's first send after which it is not sent again.
        first: seconds before the second send; twice as many before each later one.
        longest: most seconds between two sends, unless the service asks for more.
        longest_asked: seconds for which a service may ask; one that asks for more is left to the next run.
    """

    tries: int = 8
    total: float = 900.0
    first: float = 1.0
    longest: float = 60.0
    longest_asked: float = 300.0

    def wait(self, number: int) -> float:
        """Seconds before the send after the `number`-th refusal in a row, from 1."""
        return min(self.first * 2.0 ** min(number - 1, 30), self.longest)


class Patience:
    """The tries and the time of one request.

    Args:
        policy: how many and how long.
    """

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy, self._tries, self._started = policy, 0, time.monotonic()

    def renew(self) -> None:
        """Begin anew: the service answered others meanwhile, so that it is busy and not down."""
        self._tries, self._started = 0, time.monotonic()

    def next_wait(self, asked: float | None = None) -> float | None:
        """Count a send without an answer.

        Args:
            asked: seconds that the service asks to wait; None if it does not say.

        Returns:
            Seconds until the next send; None where no try or no time is left.
        """
        self._tries += 1
        wait = self._policy.wait(self._tries) * random.uniform(0.75, 1.25)
        if asked is not None and asked > 0 and self._tries == 1:
            wait = asked  # it knows better, unless it has to say so again
        else:
            wait = max(wait, asked or 0.0)
        left = self._policy.total - (time.monotonic() - self._started)
        return None if self._tries >= self._policy.tries or wait > left else wait

    @property
    def tries(self) -> int:
        """Sends without an answer so far."""
        return self._tries


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer's `Retry-After-Ms` or `Retry-After` (a number or a date) asks to wait; None for neither.

    A negative number counts as 0, and what is no finite number as nothing.
    """
    for name, divisor in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        with contextlib.suppress(KeyError, ValueError):
            seconds = float(headers[name]) / divisor
            if seconds == seconds and seconds != float("inf"):
                return max(0.0, seconds)
    with contextlib.suppress(KeyError, ValueError, TypeError, OverflowError):
        until = parsedate_to_datetime(headers["retry-after"]).timestamp()
        now = parsedate_to_datetime(headers["date"]).timestamp() if "date" in headers else time.time()
        return max(0.0, until - now)
    return None
