"""The two passes of a build over all its rows.

The first reads and prepares, and ends with every duplicate and leak known, before anything is spent. The second
translates, filters and writes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from kollm.core.errors import InputError
from kollm.core.progress import Progress, say
from kollm.core.records import Record
from kollm.dataset.finish import Finished, FinishPlan, finish, reason_kind, translate_and_finish
from kollm.dataset.folder import DatasetWriter, Part
from kollm.dataset.leak_check import load_references
from kollm.dataset.pool import Pool
from kollm.dataset.prepare import Prepared, SourcePlan, prepare, privacy_of
from kollm.dataset.scratch import Scratch
from kollm.dataset.settings import REJECTED_PART, Engines, SourceInput, Tally
from kollm.dataset.tables import to_records
from kollm.quality.dedup import find_duplicates, join
from kollm.quality.filters import FilterSet, find_filters
from kollm.quality.leaks import Tasks, tasks_of
from kollm.quality.review import Correction, read_review
from kollm.recipe.schema import BuildSettings
from kollm.services.budget import Budget
from kollm.services.ledger import Ledger
from kollm.sources import Batch, Opened, Place, Source, open_source, read_source
from kollm.sources.rows import row_batches
from kollm.translate import MemoryTranslator, Translator, translate_stream
from kollm.translate.routing import Router, fresh_answer_rules

BATCH_ROWS = 1_000
"""Outcomes of a paid engine that are filtered and written together."""


class _Job(NamedTuple):
    """A batch for a worker, and the number of its source."""

    source: int
    content: Any


class Build:
    """The plans of all sources; what the worker processes hold.

    Args:
        inputs: the sources.
        settings: what is done to them.
        engines: who translates; None to plan only.
        billed: for a plan: whether the engine that is planned for bills characters.
    """

    def __init__(
        self, inputs: Sequence[SourceInput], settings: BuildSettings, engines: Engines | None, billed: bool = False
    ) -> None:
        self.settings = settings
        self.batches: list[Iterator[Batch]] = []
        self.plans: list[SourcePlan] = []
        self.finishing: list[FinishPlan] = []
        found = find_filters(settings.filters)
        self.rival = "default" if settings.filters.startswith("paper") else "paper-all" if _has_langid() else ""
        tasks = _tasks(inputs, settings)
        corrections = read_review(Path(settings.corrections)) if settings.corrections else {}
        rules = fresh_answer_rules() if settings.fresh_answers else None
        for item in inputs:
            source = item.source
            engine = engines.of(item, settings.turns) if engines is not None else None
            english = source.lang != "ko"
            if settings.fresh_answers and english and engines is not None and not (engine and engine.markup):
                raise InputError(
                    f"The translator '{engines.name}' translates no question apart from its answer, which fresh answers "
                    "need - use deepl or openai."
                )
            opened = _open(item, source, settings)
            training = source.split == "train"
            self.batches.append(opened.batches)
            self.plans.append(
                SourcePlan(
                    source,
                    opened.place,
                    privacy_of(source, settings.privacy),
                    tasks if training and len(tasks) else None,
                    Router(rules, evaluation=not training)
                    if (engine is not None and engine.markup) or (billed and english)
                    else None,
                    (engine is not None and engine.kept) or (billed and english),
                )
            )
            self.finishing.append(_finish_plan(source, engine, settings, found, tasks, self.rival, corrections))

    def jobs(self) -> Iterator[_Job]:
        """The raw batches of all sources, in order."""
        for number, batches in enumerate(self.batches):
            for batch in batches:
                yield _Job(number, batch)

    def prepare(self, job: _Job) -> tuple[int, Prepared]:
        return job.source, prepare(self.plans[job.source], job.content)

    def finish(self, job: _Job) -> Finished:
        return translate_and_finish(self.finishing[job.source], job.content)


def _open(item: SourceInput, source: Source, settings: BuildSettings) -> Opened:
    limit = item.rows(settings.limit)
    if item.own is not None:
        place = Place(source.name, source.licence, source.lang, item.own.revision, turns=settings.turns)
        return Opened(row_batches(item.own.rows(limit)), place)
    return open_source(
        source, item.input, revision=item.revision, turns=settings.turns, limit=limit, seed=settings.seed
    )


def _finish_plan(
    source: Source,
    engine: Translator | None,
    settings: BuildSettings,
    filters: FilterSet,
    tasks: Tasks,
    rival: str,
    corrections: Mapping[str, Correction],
) -> FinishPlan:
    training = source.split == "train"
    # rows that stay as they are were checked for leaks in the first pass
    looked_for = tasks if training and engine is not None and len(tasks) else None
    english = settings.keep_english and training
    privacy = privacy_of(source, settings.privacy)
    return FinishPlan(
        source, engine, settings.mode, filters, looked_for, settings.leaks, rival, corrections, english, privacy
    )


def _tasks(inputs: Sequence[SourceInput], settings: BuildSettings) -> Tasks:
    """The evaluation tasks to look for: those that were named, and those among the sources."""
    tasks = load_references(settings.against)
    for item in inputs:
        if item.own is not None and item.source.split == "test":
            tasks += tasks_of(row for row in item.own.records() if isinstance(row, Record))
        elif item.source.split == "test":
            rows = read_source(item.name, item.input, revision=item.revision, limit=item.rows(settings.limit))
            tasks += tasks_of(row for row in rows if isinstance(row, Record))
    return tasks


def first_pass(build: Build, pool: Pool, scratch: Scratch, writer: DatasetWriter | None, tally: Tally) -> None:
    """Prepare all rows, put them on disk, and mark those that are not to be translated.

    Raises:
        InputError: malformed input, or a leak that is to be refused.
    """
    found = []
    with Progress("prepare", None) as progress:
        for number, prepared in pool.map(Build.prepare, build.jobs()):
            source = build.plans[number].source
            leaks = [(leak.row, f"leak: {leak.task}") for leak in prepared.leaks]
            scratch.write(number, prepared.table, leaks, prepared.characters)
            scratch.write_rejected(number, prepared.rejected)
            tally.mended.update(prepared.notes)
            tally.read[source.name] += prepared.rows
            tally.records[source.name] += prepared.table.num_rows + prepared.rejected.num_rows
            if prepared.prints is not None:
                found.append(prepared.prints)
            progress.advance(prepared.table.num_rows)
    for plan in build.plans:
        tally.revisions[plan.source.name] = plan.place.revision
    if double := scratch.settle_ids():
        tally.mended["double_id_renamed"] += double
    for number in range(len(build.plans)):
        for rejected in scratch.read_rejected(number):
            _reject(rejected, writer, tally)
    _judge_leaks(build.settings, scratch, tally)
    if found:
        training = [number for number, plan in enumerate(build.plans) if plan.source.split == "train"]
        scratch.mark_duplicates(training, find_duplicates(join(found), build.settings.near))


def _judge_leaks(settings: BuildSettings, scratch: Scratch, tally: Tally) -> None:
    """Refuse, drop or keep what leaks in the source's own language, before it is translated."""
    leaks = scratch.leaks()
    if leaks and settings.leaks == "refuse":
        raise leak_error(leaks)
    if settings.leaks == "keep":
        tally.leaks.extend(leaks)
        scratch.clear_leaks()


def leak_error(leaks: Sequence[str]) -> InputError:
    """The error of a build that found evaluation tasks among its rows."""
    shown = "; ".join(leaks[:3]) + ("; ..." if len(leaks) > 3 else "")
    return InputError(
        f"{len(leaks)} rows hold a task of the evaluation set ({shown}) - drop them with --leaks drop (data.leaks in a recipe), "
        "or keep them with --leaks keep; nothing was written."
    )


def announce(build: Build, scratch: Scratch) -> None:
    """Say what is about to be spent, and with whom."""
    for number, plan in enumerate(build.finishing):
        if plan.engine is not None and plan.engine.kept:
            left = scratch.remaining(number)
            if left.characters:
                say(
                    f"{plan.source.name}: {left.rows:,} rows with {left.characters:,} characters go to "
                    f"{plan.engine.name}, {getattr(plan.engine, 'endpoint', plan.engine.base_url)}; the text leaves this machine, unless the ledger has it."
                )


def second_pass(
    build: Build,
    pool: Pool,
    scratch: Scratch,
    writer: DatasetWriter,
    tally: Tally,
    budget: Budget,
    ledger: Ledger | None,
) -> None:
    """Translate, filter and write what is left."""
    known = set(tally.leaks)
    with Progress("translate and filter", scratch.rows) as progress:
        for number, plan in enumerate(build.finishing):
            kept = _without_dropped(scratch, number, writer, tally, progress)
            for finished in _finished(build, pool, number, kept, budget, ledger):
                if build.settings.leaks == "refuse" and finished.leaks:
                    raise leak_error(finished.leaks)
                writer.write(Part(plan.source.config, plan.source.split), finished.kept)
                writer.write(REJECTED_PART, finished.rejected)
                tally.add(plan.source, finished._replace(leaks=[leak for leak in finished.leaks if leak not in known]))
                progress.advance(finished.rows)


def _finished(
    build: Build, pool: Pool, number: int, tables: Iterator[pa.Table], budget: Budget, ledger: Ledger | None
) -> Iterator[Finished]:
    plan = build.finishing[number]
    if plan.engine is None or isinstance(plan.engine, MemoryTranslator) or getattr(plan.engine, "pure", False):
        yield from pool.map(Build.finish, (_Job(number, table) for table in tables))
        return
    records = (record for table in tables for record in to_records(table))
    outcomes = translate_stream(
        records, plan.engine, mode=plan.mode, ledger=ledger, budget=budget, router=build.plans[number].router
    )
    while part := list(islice(outcomes, BATCH_ROWS)):
        yield finish(plan, part)


def _without_dropped(
    scratch: Scratch, number: int, writer: DatasetWriter, tally: Tally, progress: Progress
) -> Iterator[pa.Table]:
    """The rows of a source that nothing speaks against yet; the others go to `rejected`."""
    for table, reasons in scratch.read(number):
        dropped = pc.is_valid(reasons)
        rejected = table.filter(dropped).append_column("reason", reasons.drop_null())
        _reject(rejected, writer, tally)
        progress.advance(rejected.num_rows)
        yield table.filter(pc.invert(dropped))


def _reject(table: pa.Table, writer: DatasetWriter | None, tally: Tally) -> None:
    if writer is not None:
        writer.write(REJECTED_PART, table)
    tally.dropped.update(reason_kind(reason) for reason in table.column("reason").to_pylist())
    tally.licences.setdefault(REJECTED_PART, set()).update(pc.unique(table.column("licence")).to_pylist())


def _has_langid() -> bool:
    return importlib.util.find_spec("langid") is not None
