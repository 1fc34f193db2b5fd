"""Buying, the one way for translation and chat: find, reserve, lease, settle.

What the ledger holds is never asked for. For the rest, room under the caps is reserved and the purchase leased in one
transaction of the ledger, so that of several processes one sends a text and no cap is passed by two at once. Whoever comes
second waits for the answer, or takes over from one that gave up or ended.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from kollm.core.progress import say
from kollm.services.budget import Budget, CapError
from kollm.services.ledger import Answer, Charge, Entry, Expense, Ledger, Purchase
from kollm.services.ledger.owner import new_owner

LEASE_SECONDS = 600.0
"""How long a send may take before others take over; of a process of the same machine that ended they do so at once."""
FIRST_POLL, LONGEST_POLL = 0.05, 1.0
"""Seconds between two looks at what another process is buying: at first, and after some looks."""


def poll_waits() -> Iterator[float]:
    """Seconds to wait before each look at what another process is buying."""
    wait = FIRST_POLL
    while True:
        yield wait
        wait = min(1.5 * wait, LONGEST_POLL)


@dataclass(slots=True)
class Leases:
    """What became of purchases that were to be sent, by key.

    Attributes:
        taken: those that are ours to send; each is settled or released afterwards.
        answered: answers that came into the ledger meanwhile.
        busy: those that another process is sending, with how they stand; ask again later.
        refused: those for which a cap leaves no room, with the reason.
    """

    taken: dict[str, Purchase] = field(default_factory=dict)
    answered: dict[str, Answer] = field(default_factory=dict)
    busy: dict[str, Entry] = field(default_factory=dict)
    refused: dict[str, CapError] = field(default_factory=dict)


class Buying:
    """The purchases of one run; safe to use from several threads.

    Args:
        ledger: where answers are kept.
        budget: caps and counts.
        seconds: how long a send may take before others take over.
        owner: a name other than that of this process, e.g. of a batch.
    """

    def __init__(
        self, ledger: Ledger, budget: Budget, seconds: float = LEASE_SECONDS, owner: str | None = None
    ) -> None:
        self.ledger, self.budget = ledger, budget
        self.owner = owner or new_owner()
        self._seconds = seconds
        self._lock = threading.RLock()
        self._last = ledger.last_change() if budget.capped else 0
        self._partners: set[str] = set()
        self._strangers: dict[str, dict[str, tuple[Expense, bool]]] = {}
        self._under_way: set[str] = set()
        self._told = False

    def find(self, keys: Iterable[str]) -> dict[str, Answer]:
        """The answers that the ledger holds; what these purchases cost so far is counted."""
        chosen = list(keys)
        found = {}
        for key, entry in self.ledger.look(chosen).items():
            self._note(entry)
            if entry.answer is not None:
                found[key] = entry.answer
        return found

    def count(self, keys: Iterable[str]) -> None:
        """Count what these purchases cost so far."""
        for entry in self.ledger.standing(keys):
            self._note(entry)

    def lease(self, wanted: Mapping[str, tuple[Purchase, Charge]]) -> Leases:
        """Take purchases to be sent.

        Args:
            wanted: key -> the purchase, and what it may be charged.

        Raises:
            StateError: the ledger cannot be written; nothing is leased then.
        """
        leases = Leases()
        try:
            with self._lock, self.ledger.transaction():
                self._note_others()
                entries = self.ledger.look(wanted)
                for key, (purchase, price) in wanted.items():
                    self._sort(key, purchase, price, entries.get(key), leases)
                self.ledger.begin({key: wanted[key] for key in leases.taken}, self.owner, self._seconds)
        except BaseException:
            self.budget.release(leases.taken, charged=False)
            raise
        if leases.busy and not self._told:
            self._told = True
            say("Another process is asking for some of the same; waiting for its answers, which are not bought twice.")
        return leases

    def settle(self, answers: Mapping[str, Answer]) -> None:
        """Write the answers of what was leased; call it before using them."""
        self.ledger.answer_all(answers, self.owner)
        self.budget.settle({key: Charge(answer.characters, answer.cost) for key, answer in answers.items()})

    def release(self, keys: Collection[str], charged: bool) -> None:
        """What was leased got no answer; others may send it.

        Args:
            keys: of the purchases.
            charged: whether the service may have charged them all the same; what it refused is certainly free.
        """
        self.budget.release(keys, charged)
        self.ledger.end_leases(keys, charged, self.owner)

    def _sort(self, key: str, purchase: Purchase, price: Charge, entry: Entry | None, leases: Leases) -> None:
        if entry is not None:
            self._note(entry)
            if entry.answer is not None:
                leases.answered[key] = entry.answer
                return
            if entry.owner != self.owner and entry.is_held():
                leases.busy[key] = entry
                return
        try:
            self._reserve({key: price})
        except CapError as error:
            leases.refused[key] = error
            return
        leases.taken[key] = purchase

    def _reserve(self, prices: Mapping[str, Charge]) -> None:
        try:
            self.budget.reserve(prices)
        except CapError:
            self._look_again()
            self.budget.reserve(prices)

    def _note(self, entry: Entry) -> None:
        self.budget.note(entry.key, _standing(entry), answered=entry.answer is not None)
        if entry.owner and entry.owner != self.owner:
            self._join(entry.owner)

    def _note_others(self) -> None:
        """Count what other processes bought since the last look, where they work at the same as we do."""
        if not self.budget.capped:
            return
        since, self._last = self._last, self.ledger.last_change()
        if since == self._last:
            return
        for change in self.ledger.changes(since, self.owner):
            if change.owner not in self._partners and self.budget.has(change.key):
                self._join(change.owner)
            if change.owner in self._partners:
                self._count(change.key, change.expense, change.answered)
            else:
                self._strangers.setdefault(change.owner, {})[change.key] = (change.expense, change.answered)

    def _join(self, owner: str) -> None:
        """A process that buys a text of this run works at the same: all that it buys counts."""
        self._partners.add(owner)
        for key, (expense, answered) in self._strangers.pop(owner, {}).items():
            self._count(key, expense, answered)

    def _count(self, key: str, expense: Expense, answered: bool) -> None:
        self.budget.note(key, expense, answered=answered, own=False)
        if answered:
            self._under_way.discard(key)
        else:
            self._under_way.add(key)

    def _look_again(self) -> None:
        """Before a cap stops us: what others had under way may have ended without a charge, or with its process."""
        entries = self.ledger.look(self._under_way)
        for key in list(self._under_way):
            entry = entries.get(key)
            expense = _standing(entry) if entry is not None else Expense()
            self.budget.note(key, expense, answered=entry is not None and entry.answer is not None, own=False)
            if expense.open == Charge():
                self._under_way.discard(key)


def _standing(entry: Entry) -> Expense:
    """What a purchase cost, with a send whose process has ended as lost."""
    expense = entry.expense
    if expense.open == Charge() or entry.is_held():
        return expense
    return Expense(expense.paid, expense.lost.plus(expense.open))
