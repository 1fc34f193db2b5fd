"""What translating may cost, and what it has cost: caps that stop before they are reached."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from kollm.core.errors import InputError, QuotaError
from kollm.services.ledger import Charge
from kollm.translate.translator import Usage


class CapError(QuotaError):
    """The next request would go past a cap; a smaller one may not."""


@dataclass(frozen=True, slots=True)
class Spending:
    """What a run spent.

    Attributes:
        characters: characters billed for its texts, those bought by earlier runs included.
        cost: USD paid for them.
        bought: characters billed in this run.
        lost: what sends without an answer may have cost.
        requests: requests sent in this run.
        usage: what the service's own count grew by in this run; None where it does not tell.
    """

    characters: int
    cost: float
    bought: int
    lost: Charge
    requests: int
    usage: int | None = None

    def reconciliation(self) -> str:
        """One line that compares what was billed with the service's own count."""
        if self.usage is None:
            return f"{self.bought:,} characters billed in {self.requests:,} requests; the service tells no count of its own"
        line = f"{self.bought:,} characters billed in {self.requests:,} requests, {self.usage:,} by the service's own count"
        if self.usage == self.bought:
            return line
        return f"{line}: {self.usage - self.bought:+,}, e.g. sends without an answer or others on the same account"


class Budget:
    """Caps on what the texts of a run may cost, whoever bought them and when; for one or more streams, of any threads.

    What earlier runs paid for the same texts counts, and so does what was sent without an answer: the same command,
    run again after a kill, never spends past its cap.

    Args:
        max_characters: characters; None for no cap.
        max_cost: USD; None for no cap.

    Raises:
        InputError: a cap below zero.
    """

    def __init__(self, max_characters: int | None = None, max_cost: float | None = None) -> None:
        for name, cap in (("characters", max_characters), ("cost", max_cost)):
            if cap is not None and cap < 0:
                raise InputError(f"The cap on {name} is {cap} - give zero or more.")
        self.max_characters, self.max_cost = max_characters, max_cost
        self._lock = threading.Lock()
        self._characters, self._cost = 0, 0.0
        self._reserved, self._reserved_cost = 0, 0.0
        self._lost, self._lost_cost = 0, 0.0
        self._bought, self._requests = 0, 0
        self._seen: set[int] = set()
        self._start: Usage | None = None
        self._grown: int | None = None

    def set_usage(self, usage: Usage | None) -> None:
        """The service's own count before the first request; its quota is a cap too. Later calls change nothing."""
        self._start = self._start or usage

    def close_usage(self, usage: Usage | None) -> None:
        """The service's own count after the last request."""
        if usage is not None and self._start is not None:
            self._grown = usage.used - self._start.used

    def claim(self, key: str) -> bool:
        """True the first time that a text comes up in this run: only then is it counted."""
        short = int(key[-16:], 16)  # 64 of the 256 bits: memory for millions of keys; a collision miscounts one text
        with self._lock:
            if short in self._seen:
                return False
            self._seen.add(short)
            return True

    def add_earlier(self, paid: Charge, lost: Charge) -> None:
        """Count what was paid, or may have been, for texts of this run before."""
        with self._lock:
            self._characters += paid.characters
            self._cost += paid.cost
            self._lost += lost.characters
            self._lost_cost += lost.cost

    def reserve(self, charge: Charge) -> None:
        """Make room for one request.

        Raises:
            CapError: the request would go past a cap or the service's quota; nothing is reserved.
        """
        with self._lock:
            characters = self._characters + self._lost + self._reserved + charge.characters
            cost = self._cost + self._lost_cost + self._reserved_cost + charge.cost
            if self.max_characters is not None and characters > self.max_characters:
                raise CapError(
                    self._stopped(f"{self.max_characters:,} characters", f"{characters:,}", "--max-characters")
                )
            if self.max_cost is not None and cost > self.max_cost:
                raise CapError(self._stopped(f"USD {self.max_cost:.2f}", f"USD {cost:.4f}", "--max-cost"))
            used = self._bought + self._reserved + charge.characters
            if (
                self._start is not None
                and self._start.limit is not None
                and self._start.used + used > self._start.limit
            ):
                raise CapError(
                    f"The service's quota is {self._start.limit:,} characters, {self._start.used:,} were used before, and "
                    f"the next request would be past it - raise the quota or wait for the next period, then run the same "
                    "command again; what was answered is kept."
                )
            self._reserved += charge.characters
            self._reserved_cost += charge.cost
            self._requests += 1

    def settle(self, reserved: Charge, paid: Charge) -> None:
        """A request was answered."""
        with self._lock:
            self._unreserve(reserved)
            self._characters += paid.characters
            self._cost += paid.cost
            self._bought += paid.characters

    def release(self, reserved: Charge, charged: bool) -> None:
        """A request was not answered.

        Args:
            reserved: what was reserved for it.
            charged: whether it may have been charged all the same.
        """
        with self._lock:
            self._unreserve(reserved)
            if charged:
                self._lost += reserved.characters
                self._lost_cost += reserved.cost

    def spending(self) -> Spending:
        """What was spent so far."""
        with self._lock:
            lost = Charge(self._lost, self._lost_cost)
            return Spending(self._characters, self._cost, self._bought, lost, self._requests, self._grown)

    def _unreserve(self, charge: Charge) -> None:
        self._reserved -= charge.characters
        self._reserved_cost -= charge.cost

    def _stopped(self, cap: str, next_total: str, option: str) -> str:
        lost = f", {self._lost:,} characters that were sent without an answer included" if self._lost else ""
        return (
            f"Stopped before the cap of {cap}: with the next request it would be {next_total}{lost} - raise {option} and "
            "run the same command again; what was answered is kept and is not paid for again."
        )
