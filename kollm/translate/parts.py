"""A part is what one request item carries of a row: the whole row in mode `row`, one field in mode `field`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from kollm.core.counting import counted
from kollm.services.ledger import Order, Purchase
from kollm.translate.masking import Document, make_document
from kollm.translate.translator import Identified, Limits, Segment, encoded_size

ATTEMPTS = 2


class Paid(NamedTuple):
    """What one attempt cost, whoever bought it.

    Attributes:
        key: the purchase's key.
        characters: characters billed.
        cost: USD.
    """

    key: str
    characters: int
    cost: float


class PartResult(NamedTuple):
    """What became of a part.

    Attributes:
        texts: field name -> Korean text; empty where there is a reason.
        reason: None, or why there is no text, as `what: detail`.
        attempt: the attempt that this comes from.
        paid: what each answered attempt cost.
    """

    texts: Mapping[str, str]
    reason: str | None
    attempt: int
    paid: tuple[Paid, ...]


class Part:
    """Some fields of a record on their way; `future` gives its PartResult, `size` its bytes in a request, `reason` what broke
    its last answer.

    Args:
        record: id of the record.
        document: the fields, masked.
        fields: name -> English text of at least the document's fields.
        orders: of the engine that it is for.
    """

    def __init__(self, record: str, document: Document, fields: Mapping[str, str], orders: Sequence[Order]) -> None:
        self.record = record
        self.fields = {name: fields[name] for name in document.fields}
        self.future: Future[PartResult] = Future()
        self.paid: list[Paid] = []
        self.reason = ""
        self._orders = orders
        self._set_attempt(1, document)

    def escalate(self) -> None:
        """Prepare the next attempt: another text, since numbers are masked too, and another key."""
        document = make_document(self.fields, numbers=True)
        assert document is not None, "masking numbers leaves the words"
        self._set_attempt(self.attempt + 1, document)

    def accept(self, text: str | None, reason: str, characters: int, cost: float) -> bool:
        """Take an answer: the future gets its result, unless the answer is broken and another attempt is left.

        Args:
            text: the answer, or None.
            reason: why there is none.
            characters: characters billed for it.
            cost: USD paid for it.

        Returns:
            False if the part is to be escalated.
        """
        texts: Mapping[str, str] = {}
        self.paid.append(Paid(self.key, characters, cost))
        if text is not None:
            try:
                texts, reason = self.document.read(text), ""
            except ValueError as error:
                reason = str(error)
        self.reason = reason
        if reason and self.attempt < ATTEMPTS:
            return False
        self.future.set_result(PartResult(texts, reason or None, self.attempt, tuple(self.paid)))
        return True

    def refuse(self, reason: str) -> None:
        """There will be no answer."""
        self.future.set_result(PartResult({}, reason, self.attempt, tuple(self.paid)))

    def _set_attempt(self, attempt: int, document: Document) -> None:
        self.attempt, self.document = attempt, document
        self.segment = Segment(self.record, document.fields[0], document.text, attempt)
        self.purchase = self._orders[attempt - 1].purchase(document.text)
        self.key = self.purchase.key
        self.size = encoded_size(self.segment.text)


def make_orders(engine: Identified) -> tuple[Order, ...]:
    """What an engine is asked, one for each attempt."""
    return tuple(
        Order(Purchase("translate", engine.name, engine.base_url, engine.model, engine.options, "", "", attempt))
        for attempt in range(1, ATTEMPTS + 1)
    )


def make_parts(
    record: str, fields: Mapping[str, str], limits: Limits, orders: Sequence[Order], mode: str
) -> list[Part] | str:
    """The parts of one row: as few as fit into requests in mode `row`, one a field in mode `field`.

    Args:
        record: its id.
        fields: name -> English text.
        limits: of the engine.
        orders: of the engine.
        mode: `row` or `field`.

    Returns:
        The parts, none if there is nothing to translate; or the reason why the row fits into no request.
    """
    most = min(limits.batch_bytes, limits.text_bytes)
    for name, text in fields.items():
        if len(text) > most:  # not even masked: it cannot be sent
            return f"too_long: {name} has {counted(len(text), 'character')}, a request holds {most:,} bytes"
    if mode == "row" or len(fields) == 1:
        document = make_document(fields)
        if document is None:
            return []
        part = Part(record, document, fields, orders)
        if part.size <= most:
            return [part]
        if len(part.fields) == 1:
            return f"too_long: {document.fields[0]} takes {part.size:,} bytes, a request holds {most:,}"
    names = list(fields)
    groups = [names[: len(names) // 2], names[len(names) // 2 :]] if mode == "row" else [[name] for name in names]
    parts: list[Part] = []
    for group in groups:
        made = make_parts(record, {name: fields[name] for name in group}, limits, orders, mode)
        if isinstance(made, str):
            return made
        parts += made
    return parts
