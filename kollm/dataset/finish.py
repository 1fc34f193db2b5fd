"""The second half of a build: rows translated where that costs nothing, through the filters and the Korean leak check, into
tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow as pa

from kollm.core.records import Record
from kollm.dataset.memory import check_alignment, check_reasons, read_memory
from kollm.dataset.tables import to_table
from kollm.quality.doubts import find_doubts
from kollm.quality.estimates import estimates
from kollm.quality.filters import FILTERS, drop_reason, drop_reasons, find_filters, mixed_register, paper_would_drop
from kollm.quality.leaks import Tasks
from kollm.quality.privacy import Screening, screen
from kollm.quality.review import Correction, Replayed, replay
from kollm.quality.unseen import asks_about_unseen
from kollm.quality.view import View
from kollm.sources import Rejected, Source
from kollm.translate import MemoryTranslator, Outcome, Translator, translate_records
from kollm.translate.english import english_record
from kollm.translate.translator import Identity

LeakPolicy = Literal["refuse", "drop", "keep"]
"""What becomes of a build whose rows hold evaluation tasks: it stops, drops those rows, or keeps them, counted."""

COMPARED_ROWS = 500
"""Rows of each source, the first, on which the other filter set is tried for comparison: langid takes 5 ms a text."""


UNTRANSLATED = "untranslated_"
"""With a field's name, the flag of kept rows that have it as it was in English although it holds words; also of
evaluation rows, which no filter sees. Fields that routing leaves in English are not meant."""


Translation = Literal["none", "memory", "here", "bought"]
"""Where a source's Korean comes from: nowhere, since rows stay as they are; a file of Korean rows; an engine that costs
nothing and is asked where the row is finished; or the stage `translate`."""


@dataclass(frozen=True, slots=True)
class FinishPlan:
    """How the rows of one source are finished.

    Attributes:
        source: the source; an evaluation set's rows are neither filtered nor checked.
        mode: `row` or `field`.
        filters: name of the rules.
        leaks: what becomes of rows that hold an evaluation task.
        rival: the filter set whose differences are counted, `paper-all` or `default`; empty for none.
        translation: where its Korean comes from.
        engine: the translator that is asked `here`.
        purchases: whose answers the ledger holds of what is `bought`; None for an engine that keeps books of its own.
        by_place: whether a memory's rows are found by their places.
        corrections: file of what people corrected or dropped in reviews of earlier builds; empty for none.
        english: whether each kept row is followed by its English original as a row of its own.
        privacy: what becomes of personal data that came with a translation, a memory's for instance.
    """

    source: Source
    mode: str
    filters: str
    leaks: LeakPolicy
    rival: str
    translation: Translation = "none"
    engine: Translator | None = None
    purchases: Identity | None = None
    by_place: bool = False
    corrections: str = ""
    english: bool = False
    privacy: Screening = "off"


class Finishing(NamedTuple):
    """A plan with what a worker loads for it: evaluation tasks to look for, None for none, and corrections by id."""

    plan: FinishPlan
    tasks: Tasks | None
    corrections: Mapping[str, Correction]


class Finished(NamedTuple):
    """One batch, finished.

    Attributes:
        kept: its rows.
        rejected: those left out, with their reasons.
        reasons: how many for each reason, without its detail.
        licences: licences of the kept and of the rejected rows.
        characters: characters billed for all of them.
        leaks: `row id: task id` of each leak.
        flags: rows flagged but kept, by flag, and what the paper's rules would do differently.
        rows: rows that came in; more are kept where English stands beside Korean.
    """

    kept: pa.Table
    rejected: pa.Table
    reasons: Counter[str]
    licences: tuple[frozenset[str], frozenset[str]]
    characters: int
    leaks: list[str]
    flags: Counter[str]
    rows: int


def finish_here(finishing: Finishing, records: Sequence[Record], memory: Path) -> Finished:
    """Translate a batch where that costs nothing, and finish it.

    Args:
        finishing: how.
        records: the rows, as they are before translation.
        memory: file of the source's memory, where it has one.

    Raises:
        InputError: the memory is not the translation of these rows.
    """
    plan = finishing.plan
    engine = read_memory(memory, records, plan.by_place) if plan.translation == "memory" else plan.engine
    if engine is None:
        return finish(finishing, [Outcome(record, None, "") for record in records])
    outcomes = translate_records(records, engine, mode=plan.mode)
    if not isinstance(engine, MemoryTranslator):
        return finish(finishing, outcomes)
    check_alignment(plan.source.name, records, outcomes)
    finished = finish(finishing, outcomes)
    check_reasons(plan.source.name, outcomes, finished.reasons)
    return finished


def finish(finishing: Finishing, outcomes: Sequence[Outcome]) -> Finished:
    """Filter and check a batch of translated rows."""
    plan = finishing.plan
    kept: list[Record] = []
    rejected: list[Rejected] = []
    flags: Counter[str] = Counter()
    replayed = [_replayed(finishing, outcome.record) for outcome in outcomes]
    views = [View(record) for record, _ in replayed]  # as translated: filters compare before personal data is masked
    asked = {
        number: view
        for number, (outcome, (_, done), view) in enumerate(zip(outcomes, replayed, views, strict=True))
        # A person's word goes before the filters'.
        if plan.source.split == "train" and outcome.reason is None and done not in ("dropped", "corrected")
    }
    routes = [outcomes[number].route for number in asked]
    reasons = dict(zip(asked, _filter(plan, list(asked.values()), routes, flags), strict=True))
    for number, (outcome, (record, done), view) in enumerate(zip(outcomes, replayed, views, strict=True)):
        if done:
            flags[f"review_{done}"] += 1
        personal: Counter[str] | None = None
        if plan.privacy != "off" and plan.translation != "none":
            record, personal = screen(record)
            flags.update({f"{kind}_masked": count for kind, count in personal.items()})
        left = outcome.untranslated if done != "corrected" and outcome.route == "translate" else ()
        reason = "review: dropped by hand" if done == "dropped" else None if done == "corrected" else outcome.reason
        reason = reasons.get(number, reason)
        if reason is None and personal and plan.privacy == "drop":
            reason = f"personal_data: {', '.join(sorted(personal))}"
        if reason is None:
            kept.append(record)
            if left:
                flags.update({f"{UNTRANSLATED}{name.split('.')[0]}" for name in left})
            flags["asks_about_unseen"] += asks_about_unseen(view)
        else:
            rejected.append(Rejected(record, reason))
    found = finishing.tasks.find([record.whole_text() for record in kept]) if finishing.tasks is not None else []
    leaks = [f"{kept[leak.row].id}: {leak.task}" for leak in found]
    if plan.leaks == "drop":
        for leak in reversed(found):
            rejected.append(Rejected(kept.pop(leak.row), f"leak: {leak.task}"))
    if plan.english:
        kept = [item for record in kept for item in (record, english_record(record)) if item is not None]
    return Finished(
        to_table(kept),
        to_table([item.record for item in rejected], [item.reason for item in rejected]),
        Counter(reason_kind(item.reason) for item in rejected),
        (frozenset(record.licence for record in kept), frozenset(item.record.licence for item in rejected)),
        sum(outcome.record.provenance.characters for outcome in outcomes),
        leaks,
        flags,
        len(outcomes),
    )


def reason_kind(reason: str) -> str:
    """A reason without its detail, which stands after a colon."""
    return reason.partition(":")[0]


def _replayed(finishing: Finishing, record: Record) -> Replayed:
    """A record as a review left it, where there was one."""
    correction = finishing.corrections.get(record.id)
    return replay(record, correction) if correction is not None else Replayed(record)


def _filter(plan: FinishPlan, views: Sequence[View], routes: Sequence[str], flags: Counter[str]) -> list[str | None]:
    """Why each row is dropped, if it is; what is flagged is counted."""
    doubts = find_doubts(views)
    reasons = drop_reasons(views, find_filters(plan.filters), doubts)
    mixed, doubtful = (doubts[name].tolist() for name in ("mixed_register", "doubtful"))
    for number, (view, route) in enumerate(zip(views, routes, strict=True)):
        reason = reasons[number]
        if route == "regenerate":
            reasons[number] = "needs_fresh_answer: its output must be asked of a model in Korean"
            continue
        if plan.rival and view.record.provenance.index < COMPARED_ROWS:
            drops = (
                paper_would_drop(view)
                if plan.rival == "paper-all"
                else drop_reason(view, FILTERS[plan.rival]) is not None
            )
            flags.update(rows_compared=1, rival_drops=int(drops))
            flags.update(
                rival_alone_drops=drops and reason is None, rival_keeps_dropped=reason is not None and not drops
            )
        if reason is None:
            if mixed[number] and mixed_register(view):
                flags["mixed_register"] += 1
            for item in estimates(view, sure=not doubtful[number]):
                flags[item.kind] += 1
    return reasons
