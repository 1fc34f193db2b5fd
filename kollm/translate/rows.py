"""Records in, Outcomes out: the way of a row through routing, masking, ledger and engine."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from kollm.errors import InputError
from kollm.ledger import Ledger
from kollm.records import Record
from kollm.translate.budget import Budget
from kollm.translate.buyer import Buyer
from kollm.translate.fields import original_of, record_fields, untranslated_fields, with_fields
from kollm.translate.parts import Part, PartResult, make_parts
from kollm.translate.routing import Decision, Router
from kollm.translate.translator import Segment, Translator

MODES = ("row", "field")
_GROUP_ROWS = 200
"""Rows whose texts are looked up in the ledger together."""


class Outcome(NamedTuple):
    """What became of one record.

    Attributes:
        record: the Korean record, or what there is of it where `reason` says why it is none.
        reason: None for a translated record; else why not, as `what: detail`.
        route: `translate`, `keep`, `regenerate` or `drop`.
        untranslated: fields whose Korean side is identical to the English although they hold words.
    """

    record: Record
    reason: str | None
    route: str
    untranslated: tuple[str, ...] = ()


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


class _Row(NamedTuple):
    record: Record
    decision: Decision
    reason: str | None
    parts: list[tuple[Part, bool]]


def _marked_up_stream(
    records: Iterable[Record],
    translator: Translator,
    mode: str,
    ledger: Ledger | None,
    budget: Budget,
    router: Router | None,
) -> Iterator[Outcome]:
    source = iter(records)
    limits = translator.limits
    ahead = max(2 * _GROUP_ROWS, 4 * limits.workers * limits.batch_texts)
    opened = Ledger.open() if translator.kept and ledger is None else None
    book = (ledger or opened) if translator.kept else None
    translator.start(book, budget)
    window: deque[_Row] = deque()
    try:
        with Buyer(translator, None if translator.books_itself else book, budget) as buyer:
            while True:
                group = list(islice(source, _GROUP_ROWS))
                window.extend(_begin(group, translator, mode, router, buyer))
                if not group:
                    buyer.flush()
                while window and (not group or len(window) > ahead or _finished(window[0])):
                    yield _outcome(window.popleft(), translator.name, mode)
                if not group:
                    return
    finally:
        if opened is not None:
            opened.close()


def _begin(
    group: Sequence[Record], translator: Translator, mode: str, router: Router | None, buyer: Buyer
) -> Iterator[_Row]:
    planned = []
    for record in group:
        decision = router.decide(record) if router is not None else Decision("translate")
        made: list[Part] | str = []
        if decision.route == "drop":
            made = f"route: {decision.reason}"
        else:
            fields = {name: text for name, text in record_fields(record).items() if name not in decision.leave}
            made = make_parts(record.id, fields, translator, mode)
        planned.append((record, decision, made))
    chosen = iter(buyer.add([part for _, _, made in planned if not isinstance(made, str) for part in made]))
    for record, decision, made in planned:
        if isinstance(made, str):
            yield _Row(record, decision, made, [])
        else:
            firsts = [(part, next(chosen)) for part in made]
            yield _Row(record, decision, None, [(first, first is part) for part, first in firsts])


def _finished(row: _Row) -> bool:
    return all(part.future.done() for part, _ in row.parts)


def _outcome(row: _Row, engine: str, mode: str) -> Outcome:
    results = [(part.future.result(), owned) for part, owned in row.parts]
    texts = {name: text for result, _ in results for name, text in result.texts.items()}
    reason = row.reason or next((result.reason for result, _ in results if result.reason), None)
    return _translated(row.record, row.decision.route, texts, reason, engine, mode, results)


def _translated(
    record: Record,
    route: str,
    texts: dict[str, str],
    reason: str | None,
    engine: str,
    mode: str,
    results: Sequence[tuple[PartResult, bool]],
) -> Outcome:
    provenance = replace(
        record.provenance,
        route=route,
        engine=engine,
        mode=mode,
        attempt=max((result.attempt for result, _ in results), default=0),
        characters=sum(result.characters for result, owned in results if owned),
    )
    lang = "ko" if reason is None else record.lang
    changed = replace(with_fields(record, texts), original=original_of(record), provenance=provenance, lang=lang)
    return Outcome(changed, reason, route, untranslated_fields(changed))


def _plain_stream(records: Iterable[Record], translator: Translator, mode: str) -> Iterator[Outcome]:
    """For engines that take fields as they are: no masking, no ledger, nothing to wait for."""
    for record in records:
        fields = {name: text for name, text in record_fields(record).items() if text.strip()}
        answers = translator.translate([Segment(record.id, name, text) for name, text in fields.items()])
        texts = {name: answer.text for name, answer in zip(fields, answers, strict=True) if answer.text is not None}
        reason = next((answer.reason for answer in answers if answer.text is None), None)
        characters = sum(answer.characters for answer in answers)
        done = [(PartResult(texts, reason, 1, characters), True)]
        yield _translated(record, "translate", texts, reason, translator.name, mode, done)
