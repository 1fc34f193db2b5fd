"""The dataset pipeline: read, mask personal data, drop duplicates, translate, filter, write the dataset folder.

Two passes over batches. The first ends before anything is spent: rows are read and prepared, and what repeats or leaks
an evaluation task is known. The second translates, filters and writes. Every row that a source yields ends in exactly
one place: a config of the folder, or the config `rejected` with its reason. Evaluation sources get the split `test`;
neither duplicates, leaks nor filters take rows from them.
"""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from kollm.build_card import make_card, make_manifest
from kollm.dataset import MANIFEST, REJECTED, DatasetWriter, Part
from kollm.dedup import NEAR, find_duplicates, join
from kollm.errors import InputError
from kollm.files import file_sha256
from kollm.filters import FilterSet, find_filters
from kollm.finish import Finished, FinishPlan, LeakPolicy, finish, reason_kind, translate_and_finish
from kollm.leak_check import EVALUATION, load_references
from kollm.leaks import Tasks, tasks_of
from kollm.ledger import Ledger
from kollm.pool import Pool
from kollm.prepare import Prepared, SourcePlan, prepare
from kollm.privacy import Privacy
from kollm.progress import Progress, say
from kollm.records import Record
from kollm.scratch import Scratch
from kollm.sources import SAMPLE, Batch, Source, Turns, find_source, open_source, read_source, sample_file
from kollm.tables import to_records
from kollm.translate import MemoryTranslator, Translator, translate_stream
from kollm.translate.budget import Budget
from kollm.translate.engines import make_translator
from kollm.translate.review import Correction, read_review
from kollm.translate.routing import Router, fresh_answer_rules

BATCH_ROWS = 1_000
"""Outcomes of a paid engine that are filtered and written together."""
POOL_BYTES = 16 << 20
"""Bytes of local input from which on worker processes pay: they take a quarter of a second to start."""
MAX_PROCESSES = 4
"""More do not help: the parent, which cuts, compresses and writes, is then the slowest."""
COMPARED_KEYS = ("compared", "paper_drops", "paper_alone_drops", "paper_keeps_dropped")


class SourceInput(NamedTuple):
    """One source of a build.

    Attributes:
        name: a key of SOURCES.
        input: a path, a Hub id, `sample`, or None for the source's pinned place on the Hub.
        revision: another commit on the Hub than the pinned one.
        memory: for the memory translator, the Korean rows in the source's own form; with the input `sample`,
            those that come with it.
    """

    name: str
    input: str | Path | None = None
    revision: str | None = None
    memory: str | Path | None = None


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build made.

    Attributes:
        folder: the dataset folder.
        rows: rows kept, by config.
        dropped: rows rejected, by reason without its detail.
        characters: characters billed.
        cost: USD paid for them, by this and earlier builds.
        leaks: kept rows that hold an evaluation task, as `row id: task id`.
        compared: of the first rows of each training source (`compared`), those that `paper-all` would drop
            (`paper_drops`), of these those that were kept (`paper_alone_drops`), and dropped ones that it would keep
            (`paper_keeps_dropped`); empty where not counted.
        bill: one line on requests and characters of a paid engine; empty without one.
        manifest_sha256: hash of the manifest, which holds the hash of every file.
    """

    folder: Path
    rows: dict[str, int]
    dropped: dict[str, int]
    characters: int
    cost: float
    leaks: tuple[str, ...]
    compared: dict[str, int]
    bill: str
    manifest_sha256: str


@dataclass(frozen=True, slots=True)
class Settings:
    """What a build does to every source; stands in the manifest.

    Attributes:
        filters: name of the filter set.
        turns: what becomes of conversations.
        mode: `row` or `field`.
        privacy: what becomes of personal data in sources that carry it.
        near: least similarity of a near duplicate; above 1 for none.
        leaks: what becomes of rows that hold an evaluation task.
        against: evaluation sets to look for.
        limit: rows to read of each source.
        seed: of the sample of a huge source.
        corrections: path of a review file whose decisions are replayed; empty for none.
        keep_english: whether each translated row is followed by its English original.
        fresh_answers: whether only questions are translated, and rows set aside for `kollm data synthesize regenerate`.
    """

    filters: str = "default"
    turns: Turns = "conversation"
    mode: str = "row"
    privacy: Privacy = "mask"
    near: float = NEAR
    leaks: LeakPolicy = "refuse"
    against: tuple[str, ...] = (EVALUATION,)
    limit: int | None = None
    seed: int = 0
    corrections: str = ""
    keep_english: bool = False
    fresh_answers: bool = False


@dataclass(slots=True)
class Tally:
    """What has been counted so far: by source, by part, and in all."""

    read: Counter[str] = field(default_factory=Counter)
    revisions: dict[str, str] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    licences: dict[Part, set[str]] = field(default_factory=dict)
    mended: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    leaks: list[str] = field(default_factory=list)
    characters: int = 0

    def add(self, source: Source, finished: Finished) -> None:
        self.dropped.update(finished.reasons)
        self.flags.update(finished.flags)
        self.leaks.extend(finished.leaks)
        self.characters += finished.characters
        for part, licences in zip((Part(source.config, source.split), REJECTED_PART), finished.licences, strict=True):
            self.licences.setdefault(part, set()).update(licences)


REJECTED_PART = Part(REJECTED, "train")


def build_dataset(
    sources: Sequence[str | SourceInput],
    *,
    translator: str | Translator = "memory",
    output: str | Path,
    filters: str = "default",
    turns: Turns = "conversation",
    mode: str = "row",
    privacy: Privacy = "mask",
    near: float = NEAR,
    leaks: LeakPolicy = "refuse",
    against: Sequence[str] = (EVALUATION,),
    limit: int | None = None,
    seed: int = 0,
    corrections: str | Path = "",
    keep_english: bool = False,
    fresh_answers: bool = False,
    max_characters: int | None = None,
    max_cost: float | None = None,
    translator_model: str | None = None,
    translator_options: Mapping[str, Any] | None = None,
    ledger: Ledger | None = None,
    processes: int | None = None,
) -> BuildReport:
    """Build a dataset folder from English sources.

    Args:
        sources: names, or SourceInputs where more than the name is to be said.
        translator: `deepl`, `openai`, `local`, `memory`, `none` to leave the text as it is, or a Translator. Sources
            that are Korean already are never translated.
        output: the folder; an earlier dataset there is replaced once the new one is whole.
        filters: a key of FILTERS.
        turns: what becomes of conversations.
        mode: `row` translates a row as one document, `field` its fields apart.
        privacy: what becomes of personal data in sources that carry it, before any text leaves this machine.
        near: least similarity of a near duplicate; above 1 for none.
        leaks: what becomes of rows that hold an evaluation task.
        against: evaluation sets to look for: `human_eval` for the 252 user-oriented tasks, a file, a dataset folder or
            a Hub id; those among the sources are looked for in any case.
        limit: rows to read of each source: the first, or of a huge source a sample over its files.
        seed: of that sample.
        corrections: a review file (`kollm data review`) whose decisions are replayed.
        keep_english: whether each translated row is followed by its English original, as in KORani's data.
        fresh_answers: translate questions alone and set the rows aside for answers of a model, as KoAlpaca did.
        max_characters: cap on the characters billed for these rows.
        max_cost: cap on their price in USD.
        translator_model: the engine's model, where it has a choice.
        translator_options: further options of the engine's class.
        ledger: where answers of paid services are kept; None for the default ledger.
        processes: worker processes; None to choose by the size of the input, 0 for none.

    Raises:
        InputError: a source, file or option that cannot be used, no row at all, or a leak that is to be refused.
        QuotaError, ServiceError: as the engine raises them; what was answered is in the ledger, and no folder is left.
    """
    settings = Settings(
        filters,
        turns,
        mode,
        privacy,
        near,
        leaks,
        tuple(against),
        limit,
        seed,
        str(corrections),
        keep_english,
        fresh_answers,
    )
    inputs = [SourceInput(item) if isinstance(item, str) else item for item in sources]
    if not inputs:
        raise InputError("No source was named - name one or more, e.g. dolly.")
    if len({item.name for item in inputs}) < len(inputs):
        raise InputError("A source was named twice - name each once.")
    engines = Engines(translator, translator_model, translator_options)
    budget = Budget(max_characters, max_cost)
    build = Build(inputs, settings, engines)
    workers = find_processes(inputs) if processes is None else processes
    with DatasetWriter(Path(output)) as writer, Pool(build, workers) as pool, Scratch(writer.work) as scratch:
        tally = Tally()
        first_pass(build, pool, scratch, writer, tally)
        _announce(build, scratch)
        _second_pass(build, pool, scratch, writer, tally, budget, ledger)
        scratch.close()
        if not writer.rows:
            raise InputError(
                f"{', '.join(item.name for item in inputs)}: no rows at all in the input - check the file."
            )
        manifest = make_manifest(inputs, engines.name, settings, tally, writer.rows)
        folder = writer.publish(manifest, make_card(manifest, tally, writer.rows))
    rows = {part.config: count for part, count in sorted(writer.rows.items()) if part.config != REJECTED}
    if not rows:
        say(f"Warning: all {sum(tally.dropped.values())} rows were rejected; see the config '{REJECTED}'.")
    return BuildReport(
        folder,
        rows,
        dict(sorted(tally.dropped.items())),
        tally.characters,
        budget.spending().cost,
        tuple(tally.leaks),
        {key: tally.flags[key] for key in COMPARED_KEYS} if build.compared else {},
        budget.spending().reconciliation() if budget.spending().requests else "",
        file_sha256(folder / MANIFEST),
    )


class Engines:
    """The translator of each source: one for all, or for `memory` one that holds the source's own Korean rows."""

    def __init__(
        self, translator: str | Translator, model: str | None = None, options: Mapping[str, Any] | None = None
    ) -> None:
        self.name = translator if isinstance(translator, str) else translator.name
        self._engine: Translator | None = None
        if not isinstance(translator, str):
            self._engine = translator
        elif translator not in ("memory", "none"):
            chosen = {"model_type" if translator == "deepl" else "model": model} if model else {}
            self._engine = make_translator(translator, **chosen, **(options or {}))

    def of(self, item: SourceInput, turns: Turns) -> Translator | None:
        """The translator of one source; None for one that stays as it is."""
        if self.name == "none" or find_source(item.name).lang == "ko":
            return None
        if self._engine is not None:
            return self._engine
        memory = item.memory
        if memory == SAMPLE or (memory is None and item.input == SAMPLE):
            memory = sample_file(item.name, "ko")
        if memory is None:
            raise InputError(
                f"The memory translator needs the Korean rows of '{item.name}' - name their file with --memory."
            )
        rows = read_source(item.name, memory, turns=turns)
        return MemoryTranslator({row.id: row for row in rows if isinstance(row, Record)})


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
        self, inputs: Sequence[SourceInput], settings: Settings, engines: Engines | None, billed: bool = False
    ) -> None:
        self.settings = settings
        self.batches: list[Iterator[Batch]] = []
        self.plans: list[SourcePlan] = []
        self.finishing: list[FinishPlan] = []
        found = find_filters(settings.filters)
        self.compared = settings.filters in ("default", "none") and _has_langid()
        tasks = _tasks(inputs, settings)
        corrections = read_review(Path(settings.corrections)) if settings.corrections else {}
        rules = fresh_answer_rules() if settings.fresh_answers else None
        for item in inputs:
            source = find_source(item.name)
            engine = engines.of(item, settings.turns) if engines is not None else None
            english = source.lang != "ko"
            opened = open_source(
                source,
                item.input,
                revision=item.revision,
                turns=settings.turns,
                limit=settings.limit,
                seed=settings.seed,
            )
            training = source.split == "train"
            self.batches.append(opened.batches)
            self.plans.append(
                SourcePlan(
                    source,
                    opened.place,
                    settings.privacy if source.personal and training else "off",
                    tasks if training and len(tasks) else None,
                    Router(rules, evaluation=not training)
                    if (engine is not None and engine.markup) or (billed and english)
                    else None,
                    (engine is not None and engine.kept) or (billed and english),
                )
            )
            self.finishing.append(_finish_plan(source, engine, settings, found, tasks, self.compared, corrections))

    def jobs(self) -> Iterator[_Job]:
        """The raw batches of all sources, in order."""
        for number, batches in enumerate(self.batches):
            for batch in batches:
                yield _Job(number, batch)

    def prepare(self, job: _Job) -> tuple[int, Prepared]:
        return job.source, prepare(self.plans[job.source], job.content)

    def finish(self, job: _Job) -> Finished:
        return translate_and_finish(self.finishing[job.source], job.content)


def _finish_plan(
    source: Source,
    engine: Translator | None,
    settings: Settings,
    filters: FilterSet,
    tasks: Tasks,
    compared: bool,
    corrections: Mapping[str, Correction],
) -> FinishPlan:
    training = source.split == "train"
    # rows that stay as they are were checked for leaks in the first pass
    looked_for = tasks if training and engine is not None and len(tasks) else None
    english = settings.keep_english and training
    return FinishPlan(
        source, engine, settings.mode, filters, looked_for, settings.leaks, compared, corrections, english
    )


def _tasks(inputs: Sequence[SourceInput], settings: Settings) -> Tasks:
    """The evaluation tasks to look for: those that were named, and those among the sources."""
    tasks = load_references(settings.against)
    for item in inputs:
        if find_source(item.name).split == "test":
            rows = read_source(item.name, item.input, revision=item.revision, limit=settings.limit)
            tasks += tasks_of(row for row in rows if isinstance(row, Record))
    return tasks


def first_pass(build: Build, pool: Pool, scratch: Scratch, writer: DatasetWriter | None, tally: Tally) -> None:
    """Prepare all rows, put them on disk, and mark those that are not to be translated.

    Raises:
        InputError: malformed input, an id that occurs twice, or a leak that is to be refused.
    """
    found = []
    with Progress("prepare", None) as progress:
        for number, prepared in pool.map(Build.prepare, build.jobs()):
            source = build.plans[number].source
            leaks = [(leak.row, f"leak: {leak.task}") for leak in prepared.leaks]
            scratch.write(number, prepared.table, leaks, prepared.characters)
            _reject(prepared.rejected, writer, tally)
            tally.mended.update(prepared.notes)
            tally.read[source.name] += prepared.table.num_rows + prepared.rejected.num_rows
            scratch.add_ids(number, prepared.rejected.column("id"))
            if prepared.prints is not None:
                found.append(prepared.prints)
            progress.advance(prepared.table.num_rows)
    for plan in build.plans:
        tally.revisions[plan.source.name] = plan.place.revision
    scratch.check_ids()
    _judge_leaks(build.settings, scratch, tally)
    if found:
        training = [number for number, plan in enumerate(build.plans) if plan.source.split == "train"]
        scratch.mark_duplicates(training, find_duplicates(join(found), build.settings.near))


def _judge_leaks(settings: Settings, scratch: Scratch, tally: Tally) -> None:
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
        f"{len(leaks)} rows hold a task of the evaluation set ({shown}) - drop them with --leaks drop, "
        "or keep them with --leaks keep; nothing was written."
    )


def _announce(build: Build, scratch: Scratch) -> None:
    """Say what is about to be spent, and with whom."""
    for number, plan in enumerate(build.finishing):
        if plan.engine is not None and plan.engine.kept:
            left = scratch.remaining(number)
            say(
                f"{plan.source.name}: {left.rows:,} rows with {left.characters:,} characters go to "
                f"{plan.engine.name} ({plan.engine.base_url}); the text leaves this machine."
            )


def _second_pass(
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


def find_processes(inputs: Iterable[SourceInput]) -> int:
    """Workers for local files of POOL_BYTES and for the Hub; none for less."""
    size = 0
    for item in inputs:
        if item.input == SAMPLE:
            continue
        path = Path(item.input) if item.input is not None else None
        size += path.stat().st_size if path is not None and path.is_file() else POOL_BYTES
    return min(MAX_PROCESSES, os.cpu_count() or 1) if size >= POOL_BYTES else 0


def _has_langid() -> bool:
    return importlib.util.find_spec("langid") is not None
