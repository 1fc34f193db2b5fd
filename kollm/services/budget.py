"""What a run may cost, and what it has cost: caps that stop before they are reached.

A run's cost is that of its purchases, whoever bought them and when: earlier runs, this one, or other processes beside it.
What was sent without an answer counts, and so does what is under way. The same command, run again after a kill or started
twice, never spends past its cap.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from kollm.core.counting import counted
from kollm.core.errors import InputError, QuotaError
from kollm.services.purchase import Charge, Expense


class CapError(QuotaError):
    """The next request would go past a cap; a smaller one may not.

    Attributes:
        passing: whether there may be room once what is under way is answered.
    """

    def __init__(self, message: str, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


class Usage(NamedTuple):
    """What a service says was used of its quota, in characters.

    Attributes:
        used: used so far.
        limit: the quota; None for none.
    """

    used: int
    limit: int | None


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
            return f"{counted(self.bought, 'character')} billed in {counted(self.requests, 'request')}; the service tells no count of its own"
        line = f"{counted(self.bought, 'character')} billed in {counted(self.requests, 'request')}, {self.usage:,} by the service's own count"
        if self.usage == self.bought:
            return line
        return f"{line}: {self.usage - self.bought:+,}, e.g. sends without an answer or others on the same account"


_NOTHING = Expense()
_CLOSED = Expense(lost=Charge(-1))
"""Of a purchase that was answered: its cost is in the totals, and nothing more will come."""


class Budget:
    """Caps on what the purchases of a run may cost; for one or more streams, of any threads.

    Args:
        max_characters: characters; None for no cap.
        max_cost: USD; None for no cap.

    Raises:
        InputError: a cap that is no number from zero.
    """

    def __init__(self, max_characters: int | None = None, max_cost: float | None = None) -> None:
        for name, cap in (("characters", max_characters), ("cost", max_cost)):
            if cap is not None and not cap >= 0:  # NaN is no cap
                raise InputError(f"The cap on {name} is {cap} - give zero or more.")
        self.max_characters, self.max_cost = max_characters, max_cost
        self._lock = threading.Lock()
        self._paid, self._lost, self._open, self._own_open = Charge(), Charge(), Charge(), Charge()
        # By 64 of a key's 256 bits: memory for millions of keys; a collision miscounts one purchase.
        self._own: dict[int, Expense] = {}
        self._others: dict[int, Expense] = {}
        self._bought, self._requests = 0, 0
        self._start: Usage | None = None
        self._grown: int | None = None

    @property
    def capped(self) -> bool:
        return self.max_characters is not None or self.max_cost is not None

    def set_usage(self, usage: Usage | None) -> None:
        """The service's own count before the first request; its quota is a cap too. Later calls change nothing."""
        self._start = self._start or usage

    def close_usage(self, usage: Usage | None) -> None:
        """The service's own count after the last request."""
        if usage is not None and self._start is not None:
            self._grown = usage.used - self._start.used

    def claim(self, key: str) -> bool:
        """Make a purchase one of this run's; True the first time."""
        short = short_key(key)
        with self._lock:
            if short in self._own:
                return False
            self._own[short] = self._others.pop(short, _NOTHING)
            return True

    def has(self, key: str) -> bool:
        """Whether a purchase is one of this run's."""
        with self._lock:
            return short_key(key) in self._own

    def note(self, key: str, expense: Expense, *, answered: bool = False, own: bool = True) -> None:
        """Take in what a purchase has cost so far, in place of what was known of it.

        Args:
            key: the purchase's key.
            expense: paid, lost and open.
            answered: True where nothing more will come.
            own: whether it is one of this run's; else one of another process that works at the same.
        """
        short = short_key(key)
        with self._lock:
            self._note(short, expense, answered, own or short in self._own)

    def recall(self, answered: Mapping[int, Expense]) -> None:
        """Take in purchases of this run that were answered before, by `short_key`."""
        with self._lock:
            for short, expense in answered.items():
                self._note(short, expense, True, True)

    def count_request(self) -> None:
        """One request is sent."""
        with self._lock:
            self._requests += 1

    def reserve(self, prices: Mapping[str, Charge]) -> None:
        """Make room for purchases that are about to be sent.

        Raises:
            CapError: they would go past a cap or the service's quota; nothing is reserved.
        """
        with self._lock:
            extra = Charge(
                sum(price.characters for price in prices.values()), sum(price.cost for price in prices.values())
            )
            self._check(extra)
            for key, price in prices.items():
                known = self._own.get(short_key(key), _NOTHING)
                known = _NOTHING if known is _CLOSED else known
                self._note(short_key(key), known._replace(open=price, lost=known.lost.plus(known.open)), False, True)
            self._own_open = self._own_open.plus(extra)

    def settle(self, paid: Mapping[str, Charge]) -> None:
        """Purchases that room was reserved for were answered, at these charges."""
        with self._lock:
            for key, charge in paid.items():
                known = self._own.get(short_key(key), _NOTHING)
                self._own_open = self._own_open.minus(known.open)
                self._note(short_key(key), Expense(known.paid.plus(charge), known.lost), True, True)
                self._bought += charge.characters

    def release(self, keys: Iterable[str], charged: bool) -> None:
        """Purchases that room was reserved for were not answered.

        Args:
            keys: their keys.
            charged: whether the service may have charged them all the same.
        """
        with self._lock:
            for key in keys:
                known = self._own.get(short_key(key), _NOTHING)
                self._own_open = self._own_open.minus(known.open)
                lost = known.lost.plus(known.open) if charged else known.lost
                self._note(short_key(key), Expense(known.paid, lost), False, True)

    def spending(self) -> Spending:
        """What was spent so far; what other processes have under way counts as lost until it is answered."""
        with self._lock:
            lost = self._lost.plus(self._open).minus(self._own_open)
            return Spending(self._paid.characters, self._paid.cost, self._bought, lost, self._requests, self._grown)

    def _note(self, short: int, expense: Expense, answered: bool, own: bool) -> None:
        place = self._own if own else self._others
        known = place.get(short)
        if known is None:
            known = self._others.pop(short, _NOTHING) if own else _NOTHING
        if known is _CLOSED:
            return
        if expense != known:
            self._paid = self._paid.plus(expense.paid).minus(known.paid)
            self._lost = self._lost.plus(expense.lost).minus(known.lost)
            self._open = self._open.plus(expense.open).minus(known.open)
        place[short] = _CLOSED if answered else expense if expense != _NOTHING else _NOTHING

    def _check(self, extra: Charge) -> None:
        characters = self._paid.characters + self._lost.characters + self._open.characters + extra.characters
        cost = self._paid.cost + self._lost.cost + self._open.cost + extra.cost
        if self.max_characters is not None and characters > self.max_characters:
            passing = characters - self._open.characters <= self.max_characters
            raise CapError(
                self._stopped(counted(self.max_characters, "character"), f"{characters:,}", "--max-characters"),
                passing,
            )
        if self.max_cost is not None and cost > self.max_cost + _ROUNDING:
            passing = cost - self._open.cost <= self.max_cost
            raise CapError(self._stopped(_usd(self.max_cost), f"USD {cost:.4f}", "--max-cost"), passing)
        used = self._bought + self._own_open.characters + extra.characters
        if self._start is not None and self._start.limit is not None and self._start.used + used > self._start.limit:
            raise CapError(
                f"The service's quota is {counted(self._start.limit, 'character')}, {self._start.used:,} were used before, and "
                f"the next request would be past it - raise the quota or wait for the next period, then run the same "
                "command again; what was answered is kept."
            )

    def _stopped(self, cap: str, next_total: str, option: str) -> str:
        lost = f", {counted(self._lost.characters, 'character')} that were sent without an answer included"
        lost = lost if self._lost.characters else f", USD {self._lost.cost:.4f} sent without an answer included"
        lost = lost if self._lost.characters or self._lost.cost > _ROUNDING else ""
        return (
            f"Stopped before the cap of {cap}: with the next request it would be {next_total}{lost} - raise {option} and "
            "run the same command again; what was answered is kept and is not paid for again."
        )


_ROUNDING = 1e-9
"""USD by which sums of floating-point numbers may be off."""


def _usd(amount: float) -> str:
    return f"USD {amount:.2f}" if amount == round(amount, 2) else f"USD {amount:.4g}"


def short_key(key: str) -> int:
    """What a purchase's key is counted by."""
    return int(key[-16:], 16)
