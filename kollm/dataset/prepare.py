"""The first half of a build, before anything is spent: rows into Records, personal data masked, leaks and duplicates
found. `prepare` is a function on one batch; `Prepared` keeps what the whole needs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import NamedTuple

import pyarrow as pa

from kollm.dataset.tables import to_table
from kollm.quality.dedup import Prints, exact_hashes, prints
from kollm.quality.leaks import Leak, Tasks
from kollm.quality.privacy import Privacy, Screening, screen
from kollm.quality.shingles import Hashes
from kollm.sources import Batch, Place, Read, Rejected, Source, adapt_batch
from kollm.translate.routing import Router


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """How the rows of one source are prepared.

    Attributes:
        source: the source.
        place: what holds for all its rows.
        privacy: what becomes of personal data.
        router: tells which rows are dropped rather than translated; None for engines that are not routed.
        counted: whether the characters that are to be translated are counted before anything is spent.
        near: whether near duplicates are looked for.
        limit: rows of the source that are read; None for all.
    """

    source: Source
    place: Place
    privacy: Screening = "off"
    router: Router | None = None
    counted: bool = False
    near: bool = True
    limit: int | None = None


class Prepared(NamedTuple):
    """One batch, prepared.

    Attributes:
        rows: source rows of the batch; a conversation may be several Records.
        table: its Records.
        rejected: those left out, with their reasons.
        exact: what exact duplicates are told by; None for an evaluation set, which keeps all its rows.
        prints: what near duplicates are told by, likewise; None where they are not looked for.
        leaks: Records that hold an evaluation task.
        notes: what was mended, how often.
    """

    rows: int
    table: pa.Table
    rejected: pa.Table
    exact: Hashes | None
    prints: Prints | None
    leaks: list[Leak]
    notes: Counter[str]


def prepare(plan: SourcePlan, batch: Batch, tasks: Tasks | None) -> Prepared:
    """Prepare one batch of raw rows.

    Args:
        plan: how.
        batch: the rows.
        tasks: evaluation tasks to look for; None to look for none.

    Raises:
        InputError: a line of the file is malformed.
    """
    read = adapt_batch(plan.source, plan.place, batch)
    if plan.privacy != "off":
        read = _screened(read, plan.privacy)
    training = plan.source.split == "train"
    texts = [record.whole_text() for record in read.records] if training else []
    leaks = tasks.find(texts) if training and tasks is not None else []
    tools = [record.tools for record in read.records] if training else []
    found = prints(texts, tools) if training and plan.near else None
    return Prepared(
        len(batch),
        to_table(read.records),
        to_table([item.record for item in read.rejected], [item.reason for item in read.rejected]),
        found.exact if found is not None else exact_hashes(texts, tools) if training else None,
        found,
        leaks,
        read.notes,
    )


def privacy_of(source: Source, privacy: Privacy) -> Screening:
    """What is done to a source's personal data; nothing to an evaluation set, whose tasks are what they are."""
    if source.split != "train":
        return "off"
    if privacy == "auto":
        return "mask" if source.personal else "off"
    return privacy


def _screened(read: Read, privacy: Screening) -> Read:
    """Personal data replaced, or its rows left out; a row that was left out before keeps none either."""
    clean = Read([], [], read.notes)
    for record in read.records:
        changed, found = screen(record)
        clean.notes.update({f"{kind}_masked": count for kind, count in found.items()})
        if found and privacy == "drop":
            clean.rejected.append(
                Rejected(replace(changed, original=None), f"personal_data: {', '.join(sorted(found))}")
            )
        else:
            # What was read holds what was masked.
            clean.records.append(replace(changed, original=None) if found else changed)
    clean.rejected.extend(
        Rejected(replace(screen(record).record, original=None), reason) for record, reason in read.rejected
    )
    return clean
