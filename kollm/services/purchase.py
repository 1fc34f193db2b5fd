"""What the ledger keeps: a purchase, its answer, and what may have been charged without one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from kollm.core.hashing import ContentIds, content_id


@dataclass(frozen=True, slots=True)
class Purchase:
    """One text for one service; all fields together are its key.

    Attributes:
        kind: what is bought: `translate`, `judge`, `answer`, ...
        engine: the service, e.g. `deepl`, `openai`.
        base_url: where it is asked.
        model: the model asked for; empty where the service has only one.
        options: everything else in the request that changes the answer; JSON-able, without keys of accounts.
        context: what goes along but is not answered itself.
        text: the text as it is sent (masked).
        attempt: number of the attempt, from 1; a new attempt is a new purchase.
        sample: number of the sample, from 0, where one text is asked several times.
    """

    kind: str
    engine: str
    base_url: str
    model: str
    options: Mapping[str, Any]
    context: str
    text: str
    attempt: int = 1
    sample: int = 0
    _key: str = field(default="", init=False, repr=False, compare=False)

    @property
    def key(self) -> str:
        """Content id of all fields, computed once."""
        if not self._key:
            object.__setattr__(self, "_key", content_id(self.to_row()))
        return self._key

    def to_row(self) -> dict[str, Any]:
        """All fields by name; `dataclasses.asdict` would copy the options deeply, for each text anew."""
        return {name: getattr(self, name) for name in FIELDS}


class Order:
    """Purchases that differ in their texts alone.

    Args:
        purchase: one of them, whatever its text.
    """

    def __init__(self, purchase: Purchase) -> None:
        self._purchase = purchase
        self._ids = ContentIds(purchase.to_row(), "text")

    def purchase(self, text: str) -> Purchase:
        """The purchase of a text; its key is cheaper, since all that precedes the text is hashed already."""
        same = self._purchase
        made = Purchase(
            same.kind,
            same.engine,
            same.base_url,
            same.model,
            same.options,
            same.context,
            text,
            same.attempt,
            same.sample,
        )
        object.__setattr__(made, "_key", self._ids.of(text))
        return made


FIELDS = tuple(item.name for item in fields(Purchase) if item.init)
"""What makes a purchase, in the order of its key."""


class Answer(NamedTuple):
    """What a service answered.

    Attributes:
        content: the answer; its shape is the buyer's own.
        characters: characters billed; 0 where the service counts otherwise.
        cost: price in USD.
    """

    content: dict[str, Any]
    characters: int = 0
    cost: float = 0.0


class Charge(NamedTuple):
    """Characters and USD that were, or may have been, charged."""

    characters: int = 0
    cost: float = 0.0

    def plus(self, other: Charge) -> Charge:
        return Charge(self.characters + other.characters, self.cost + other.cost)

    def minus(self, other: Charge) -> Charge:
        return Charge(self.characters - other.characters, self.cost - other.cost)


class Expense(NamedTuple):
    """What one purchase cost, or may have, as far as is known.

    Attributes:
        paid: what its answers were charged.
        lost: what sends that got no answer may have been charged.
        open: what a send that is under way may be charged.
    """

    paid: Charge = Charge()
    lost: Charge = Charge()
    open: Charge = Charge()


class InFlight(NamedTuple):
    """A purchase with sends that got no answer.

    Attributes:
        key: the purchase's key.
        purchase: what was sent.
        sends: how often it was sent without an answer.
        charge: what all those sends may have cost.
        answered: True where a later send was answered.
    """

    key: str
    purchase: Purchase
    sends: int
    charge: Charge
    answered: bool


class Stats(NamedTuple):
    """Totals of one kind, engine and model.

    Attributes:
        answered: texts answered.
        characters: characters billed for them.
        cost: USD paid for them.
        in_flight: sends without an answer.
        lost: what those may have cost.
    """

    kind: str
    engine: str
    model: str
    answered: int
    characters: int
    cost: float
    in_flight: int
    lost: Charge
