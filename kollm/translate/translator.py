"""What every translation engine is: a name, options that go into the ledger's key, and a function on a batch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, Self

from kollm.services.budget import Budget, Usage
from kollm.services.ledger import Ledger
from kollm.services.retry import RetryPolicy


class Segment(NamedTuple):
    """One text to translate.

    Attributes:
        record: id of the record that the text belongs to.
        field: the field's name, e.g. `input` or `history.0.user`; of a document of several fields, the first.
        text: an XML document (see masking.py) for an engine with `markup`, else the field as it is.
        attempt: number of the attempt, from 1.
        place: of a plain field, where its record stands in its source (see memory.py).
    """

    record: str
    field: str
    text: str
    attempt: int = 1
    place: str = ""


class Translation(NamedTuple):
    """What an engine made of one Segment.

    Attributes:
        text: the translation, of the same form as the segment's text; None where there is none.
        characters: characters billed.
        cost: price in USD.
        reason: why there is no text, e.g. `memory: no row with this id`.
    """

    text: str | None
    characters: int = 0
    cost: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """How an engine may be called.

    Attributes:
        workers: calls of `translate` at once, each from its own thread.
        batch_texts: segments in one call.
        batch_bytes: bytes of one call's texts, as `encoded_size` counts them.
        text_bytes: bytes of one text, where that is less.
        texts_apart: True if each text of a call is a request of its own.
        requests_per_second: calls a second in all; None for no limit.
        retry: how often and how long a batch that got no answer is sent again.
    """

    workers: int = 1
    batch_texts: int = 50
    batch_bytes: int = 1 << 30
    text_bytes: int = 1 << 30
    texts_apart: bool = False
    requests_per_second: float | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)


class Identified(Protocol):
    """What tells the purchases of one engine from those of another: its name, where, which model, how."""

    @property
    def name(self) -> str: ...

    @property
    def base_url(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def options(self) -> Mapping[str, Any]: ...

    @property
    def limits(self) -> Limits: ...


@dataclass(frozen=True, slots=True)
class Identity:
    """An engine without the engine, so that its purchases can be found where it is not loaded; see Identified."""

    name: str
    base_url: str
    model: str
    options: Mapping[str, Any]
    limits: Limits

    @classmethod
    def of(cls, engine: Identified) -> Self:
        """That of an engine."""
        return cls(engine.name, engine.base_url, engine.model, dict(engine.options), engine.limits)


class Translator(Protocol):
    """One engine.

    Attributes:
        name: `deepl`, `openai`, `local`, `memory`, or a name of your own.
        base_url: where a service is asked; empty for none.
        model: model that translates; empty where there is no choice.
        options: JSON-able; all else that changes a translation. No account keys.
        kept: True if answers go to the ledger and count against caps. An engine that keeps none costs nothing: it is asked in
            each worker of a build, or in the building process where it cannot be pickled.
        books_itself: True if the engine writes the ledger and keeps the cap on cost by itself (through chat.py).
        markup: True if the engine takes XML documents with placeholders; False if it takes plain fields.
        limits: how it may be called.
    """

    name: str
    base_url: str
    model: str
    options: Mapping[str, Any]
    kept: bool
    books_itself: bool
    markup: bool
    limits: Limits

    def start(self, ledger: Ledger | None, budget: Budget) -> None:
        """Called once before the first batch of a stream."""
        ...

    def translate(self, batch: Sequence[Segment]) -> list[Translation]:
        """One request: one Translation a Segment, in their order.

        Raises:
            TransientError: no answer this time; the caller may try again.
            RefusedError: the service will not take this batch; the caller may try its parts.
            ServiceError: the service refuses for good, e.g. because of the key.
            QuotaError: the service's quota is used up.
        """
        ...

    def stop(self) -> None:
        """Send nothing more; called from another thread than `translate`, which may be under way."""
        ...

    def price(self, text: str) -> tuple[int, float]:
        """Characters and USD that `text` will be billed at most."""
        ...

    def usage(self) -> Usage | None:
        """The account's usage; None where the service does not tell."""
        ...


class TransientError(Exception):
    """A service did not answer this time.

    Args:
        message: what happened.
        wait: seconds that the service asks to wait; None if it does not say.
        charged: whether the request may have been charged all the same.
    """

    def __init__(self, message: str, wait: float | None = None, charged: bool = False) -> None:
        super().__init__(message)
        self.wait, self.charged = wait, charged


class RefusedError(Exception):
    """A service will not take this batch for what is in it; nothing was charged."""


def encoded_size(text: str) -> int:
    """Bytes of a text as an item of an ASCII-escaped JSON list: 6 for a Hangul syllable, 12 for an emoji."""
    return len(json.dumps(text)) + 2
