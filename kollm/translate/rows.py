"""Records in, Outcomes out: the way of a row through an engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from kollm.ledger import Ledger
from kollm.records import Record
from kollm.translate.fields import original_of, record_fields, untranslated_fields, with_fields
from kollm.translate.translator import Segment, Translation, Translator

Mode = Literal["row", "field"]


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


def translate_stream(
    records: Iterable[Record], translator: Translator, *, mode: str = "row", ledger: Ledger | None = None
) -> Iterator[Outcome]:
    """Translate records in order, in bounded memory."""
    for record in records:
        names = [name for name, text in record_fields(record).items() if text.strip()]
        segments = [Segment(record.id, name, record_fields(record)[name]) for name in names]
        yield _outcome(record, names, translator.translate(segments), translator.name, mode)


def translate_records(
    records: Sequence[Record], translator: Translator, *, mode: str = "row", ledger: Ledger | None = None
) -> list[Outcome]:
    """`translate_stream` of a few records, as a list."""
    return list(translate_stream(records, translator, mode=mode, ledger=ledger))


def _outcome(record: Record, names: Sequence[str], answers: Sequence[Translation], engine: str, mode: str) -> Outcome:
    texts = {name: answer.text for name, answer in zip(names, answers, strict=True) if answer.text is not None}
    reason = next((answer.reason for answer in answers if answer.text is None), None)
    provenance = replace(record.provenance, route="translate", engine=engine, mode=mode, attempt=1)
    changed = replace(with_fields(record, texts), original=original_of(record), provenance=provenance)
    if reason is None:
        changed = replace(changed, lang="ko")
    return Outcome(changed, reason, "translate", untranslated_fields(changed))
