"""What every translation engine is: a name, options that go into the ledger's key, and a function on a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable


class Segment(NamedTuple):
    """One text to translate.

    Attributes:
        record: id of the record that the text belongs to.
        field: the field's name, e.g. `input` or `history.0.user`; of a document of several fields, the first.
        text: an XML document (see masking.py) for an engine with `markup`, else the field as it is.
        attempt: number of the attempt, from 1.
    """

    record: str
    field: str
    text: str
    attempt: int = 1


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


@runtime_checkable
class Translator(Protocol):
    """One engine. `translate` is called from up to `workers` threads at once.

    Attributes:
        name: `deepl`, `openai`, `local`, `memory`, or a name of your own.
        base_url: where a service is asked; empty for none.
        model: model that translates; empty where there is no choice.
        options: JSON-able; all else that changes a translation. No account keys.
        paid: True if each text costs, so that it goes through the ledger and counts against caps.
        markup: True if the engine takes XML documents with placeholders; False if it takes plain fields.
        workers: calls of `translate` that may run at once.
        batch_texts: most segments in one call.
        batch_bytes: most bytes of one call's texts as ASCII-escaped JSON.
    """

    name: str
    base_url: str
    model: str
    options: Mapping[str, Any]
    paid: bool
    markup: bool
    workers: int
    batch_texts: int
    batch_bytes: int

    def translate(self, batch: Sequence[Segment]) -> list[Translation]:
        """One Translation a Segment, in their order.

        Raises:
            ServiceError: the service refuses for good; what was answered before is kept.
            QuotaError: the service's quota is used up.
        """
        ...

    def price(self, text: str) -> tuple[int, float]:
        """At most so many characters and USD will `text` be billed."""
        ...
