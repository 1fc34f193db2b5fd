"""Records in, Outcomes out: the way of a row through routing, masking, ledger and engine."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from kollm.core.errors import InputError
from kollm.core.records import Provenance, Record
from kollm.services.budget import Budget, short_key
from kollm.services.ledger import Charge, Expense, Ledger
from kollm.translate.buyer import Buyer, recall_parts
from kollm.translate.masking import translatable
from kollm.translate.memo import Finished, RowMemo
from kollm.translate.memory import place_of
from kollm.translate.parts import Paid, Part, make_orders, make_parts
from kollm.translate.routing import Decision, Router
from kollm.translate.translator import Identified, Segment, Translator

MODES = ("row", "field")
_GROUP_ROWS = 200
"""Rows whose texts are looked up in the ledger together."""


class Outcome(NamedTuple):
    """What became of one record.

    Attributes:
        record: the Korean record, or what there is of it where `reason` says why it is none.
        reason: None for a translated record; else why not, as `what: detail`.
        route: `translate`, `keep`, `regenerate` or `drop`.
        untranslated: fields whose Korean side is identical to the English although they hold words; numbers, URLs and code
            alone are nothing to translate.
        paid: what its texts cost, a list a text; those that a row before it in the stream needed too are that row's.
    """

    record: Record
    reason: str | None
    route: str
    untranslated: tuple[str, ...] = ()
    paid: tuple[tuple[Paid, ...], ...] = ()


def translate_records(
    records: Sequence[Record],
    translator: Translator,
    *,
    mode: str = "row",
    ledger: Ledger | None = None,
    budget: Budget | None = None,
    router: Router | None = None,
) -> list[Outcome]:
    """`translate_stream` of a few records, as a list.

    For a whole source use the stream: each call of this ends with a half-full batch, and waits for it.
    """
    return list(translate_stream(records, translator, mode=mode, ledger=ledger, budget=budget, router=router))


def translate_stream(
    records: Iterable[Record],
    translator: Translator,
    *,
    mode: str = "row",
    ledger: Ledger | None = None,
    budget: Budget | None = None,
    router: Router | None = None,
) -> Iterator[Outcome]:
    """Translate records, in their order and in bounded memory, with as many requests at once as the engine allows.

    Args:
        records: English records; read some thousands ahead at most.
        translator: the engine.
        mode: `row` sends a row as one document, `field` each field apart.
        ledger: where answers are kept; None for the default ledger, which an engine that is not `kept` never opens.
        budget: caps; also tells afterwards what was spent.
        router: what to do with rows whose meaning dies in translation; None to translate all. An engine that takes
            plain fields, like the memory, is not routed: its rows were chosen already.

    Yields:
        One Outcome a record.

    Raises:
        InputError: there is no such mode.
        QuotaError: a cap or the service's quota leaves no room; what was under way is finished and kept before.
        ServiceError: the service refuses for good, or gave no answer in many tries.
    """
    if mode not in MODES:
        raise InputError(f"There is no translation mode '{mode}' - use one of {', '.join(MODES)}.")
    if not translator.markup:
        return _plain_stream(records, translator, mode)
    return _marked_up_stream(records, translator, mode, ledger, budget or Budget(), router)


class NotBoughtError(Exception):
    """The ledger lacks an answer that is to be recalled."""


def recall_stream(
    records: Iterable[Record], engine: Identified, ledger: Ledger, *, mode: str = "row", router: Router | None = None
) -> Iterator[Outcome]:
    """What `translate_stream` gives for records that the ledger holds every answer for; nothing is sent or written.

    Args:
        records: English records.
        engine: whose purchases they are; one that writes the ledger through Buyer.
        ledger: where its answers are.
        mode: as for the stream.
        router: as for the stream.

    Yields:
        One Outcome a record.

    Raises:
        NotBoughtError: an answer is missing.
    """
    memo = RowMemo(ledger, engine, mode, router)
    # after an update of kollm there is no finished row, and what each would be found by need not be computed
    planner = _Planner(engine, mode, memo if ledger.has_rows() else None, router)
    source = iter(records)
    while group := list(islice(source, _GROUP_ROWS)):
        rows = planner.plan(group)
        if not recall_parts([part for row in rows for part, _ in row.parts], ledger):
            raise NotBoughtError
        for row in rows:
            yield planner.outcome(row)[0]


def _marked_up_stream(
    records: Iterable[Record],
    translator: Translator,
    mode: str,
    ledger: Ledger | None,
    budget: Budget,
    router: Router | None,
) -> Iterator[Outcome]:
    opened = Ledger.open() if translator.kept and ledger is None else None
    book = (ledger or opened) if translator.kept else None
    try:
        translator.start(book, budget)
        yield from _Stream(translator, mode, book, budget, router).run(records)
    finally:
        if opened is not None:
            opened.close()


class _Row(NamedTuple):
    """A row on its way.

    Attributes:
        record: the English record.
        key: what it is remembered by.
        finished: what became of it, where that is known already.
        route: what routing decided.
        parts: its parts, each with whether this row is the first with that text in this run.
        counted: likewise of what is known already, for each part.
    """

    record: Record
    key: bytes
    finished: Finished | None
    route: str
    parts: list[tuple[Part, bool]]
    counted: tuple[bool, ...] = ()


class _Planner:
    """What a record needs and what becomes of it, without a word of how its parts are answered."""

    def __init__(self, engine: Identified, mode: str, memo: RowMemo | None, router: Router | None) -> None:
        self._engine, self._mode, self._memo, self._router = engine, mode, memo, router
        self._orders = make_orders(engine)
        self._claimed: set[int] = set()

    def plan(self, group: Sequence[Record]) -> list[_Row]:
        keys = self._memo.keys(group) if self._memo is not None else [b""] * len(group)
        known = self._memo.find(keys) if self._memo is not None else {}
        return [
            self._recall(record, key, known[key]) if key in known else self._plan(record, key)
            for record, key in zip(group, keys, strict=True)
        ]

    def outcome(self, row: _Row) -> tuple[Outcome, Finished]:
        """The outcome of a row whose parts are all answered, and what it is remembered by."""
        finished = row.finished
        if finished is None:
            results = [part.future.result() for part, _ in row.parts]
            finished = Finished(
                {name: text for result in results for name, text in result.texts.items()},
                next((result.reason for result in results if result.reason), None),
                row.route,
                max((result.attempt for result in results), default=0),
                tuple(result.paid for result in results),
            )
        counted = row.counted if row.finished is not None else tuple(counts for _, counts in row.parts)
        paid = tuple(part for part, counts in zip(finished.paid, counted, strict=True) if counts)
        return _translated(row.record, finished, paid, self._engine.name, self._mode), finished

    def claim(self, key: str) -> bool:
        """Make a text one of this stream's; True the first time."""
        short = short_key(key)
        first = short not in self._claimed
        self._claimed.add(short)
        return first

    def _recall(self, record: Record, key: bytes, known: Finished) -> _Row:
        counted = tuple(bool(paid) and self.claim(paid[0].key) for paid in known.paid)
        return _Row(record, key, known, known.route, [], counted)

    def _plan(self, record: Record, key: bytes) -> _Row:
        decision = self._router.decide(record) if self._router is not None else Decision("translate")
        made: list[Part] | str = f"route: {decision.reason}"
        if decision.route != "drop":
            fields = {name: text for name, text in record.texts().items() if name not in decision.leave}
            made = make_parts(record.id, fields, self._engine.limits, self._orders, self._mode)
        if isinstance(made, str):
            return _Row(record, key, Finished({}, made, decision.route, 0, ()), decision.route, [])
        return _Row(record, key, None, decision.route, [(part, self.claim(part.key)) for part in made])


class _Stream:
    """One pass of records through an engine that takes documents."""

    def __init__(
        self, translator: Translator, mode: str, book: Ledger | None, budget: Budget, router: Router | None
    ) -> None:
        self._translator, self._book, self._budget = translator, book, budget
        # An engine that keeps its own books counts each answer itself, so that it must see each one.
        self._memo = None if book is None or translator.books_itself else RowMemo(book, translator, mode, router)
        self._planner = _Planner(translator, mode, self._memo, router)
        self._buyer = Buyer(translator, None if translator.books_itself else book, budget)

    def run(self, records: Iterable[Record]) -> Iterator[Outcome]:
        source = iter(records)
        limits = self._translator.limits
        ahead = max(2 * _GROUP_ROWS, 4 * limits.workers * limits.batch_texts)
        window: deque[_Row] = deque()
        with self._buyer as buyer:
            while True:
                group = list(islice(source, _GROUP_ROWS))
                # Under a cap all that lies ahead is looked up before the first of it is sent: another run of the same rows
                # may have bought any of it, and that counts.
                waits = self._budget.capped and bool(group) and len(window) + len(group) <= ahead
                window.extend(self._begin(group, send=not waits))
                if waits:
                    continue
                if not group:
                    buyer.flush()
                while window and (not group or len(window) > ahead or _is_finished(window[0])):
                    # Its batch may never fill: the thousands of rows behind it may all be known already.
                    buyer.send([part for part, _ in window[0].parts])
                    yield self._outcome(window.popleft())
                if self._memo is not None:
                    self._memo.flush()
                if not group:
                    return

    def _begin(self, group: Sequence[Record], send: bool) -> list[_Row]:
        rows = self._planner.plan(group)
        earlier = [item for row in rows if row.finished is not None for paid in row.finished.paid for item in paid]
        for key in (*(item.key for item in earlier), *(part.key for row in rows for part, _ in row.parts)):
            self._budget.claim(key)
        if earlier and self._book is not None:
            lost = self._book.lost(item.key for item in earlier)
            for item in earlier:
                expense = Expense(Charge(item.characters, item.cost), lost.get(item.key, Charge()))
                self._budget.note(item.key, expense, answered=True)
        chosen = iter(self._buyer.add([part for row in rows for part, _ in row.parts], send))
        return [row._replace(parts=[(next(chosen), counted) for _, counted in row.parts]) for row in rows]

    def _outcome(self, row: _Row) -> Outcome:
        outcome, finished = self._planner.outcome(row)
        # what was refused is asked again by the next run
        if self._memo is not None and row.finished is None and all(finished.paid):
            self._memo.add(row.key, finished)
        return outcome


def _is_finished(row: _Row) -> bool:
    return all(part.future.done() for part, _ in row.parts)


def _translated(
    record: Record, finished: Finished, paid: tuple[tuple[Paid, ...], ...], engine: str, mode: str, characters: int = 0
) -> Outcome:
    provenance = Provenance(  # by hand, since dataclasses.replace takes five times as long
        revision=record.provenance.revision,
        index=record.provenance.index,
        route=finished.route,
        engine=engine,
        mode=mode,
        attempt=finished.attempt,
        characters=characters + sum([item.characters for part in paid for item in part]),
        category=record.provenance.category,
    )
    lang = "ko" if finished.reason is None else record.lang
    made = finished.texts
    same = [(name, text) for name, text in record.texts().items() if text and made.get(name, text) == text]
    untranslated = tuple(name for name, text in same if translatable(text)) if same else ()
    changed = record.with_texts(finished.texts, original=record.as_original(), provenance=provenance, lang=lang)
    return Outcome(changed, finished.reason, finished.route, untranslated, paid)


def _plain_stream(records: Iterable[Record], translator: Translator, mode: str) -> Iterator[Outcome]:
    """For engines that take fields as they are: no masking, no ledger, nothing to wait for."""
    for record in records:
        fields = {name: text for name, text in record.texts().items() if text.strip()}
        place = place_of(record)
        answers = translator.translate([Segment(record.id, name, text, place=place) for name, text in fields.items()])
        texts = {name: answer.text for name, answer in zip(fields, answers, strict=True) if answer.text is not None}
        reason = next((answer.reason for answer in answers if answer.text is None), None)
        characters = sum(answer.characters for answer in answers)
        finished = Finished(texts, reason, "translate", 1, ())
        yield _translated(record, finished, (), translator.name, mode, characters)
