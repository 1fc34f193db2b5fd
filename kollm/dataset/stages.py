"""The stages of a build over its shards, in their order:

    prepare -> repeats -> near -> decide -> translate -> finish -> write

Each is a list of tasks that an executor runs; a task reads what the stages before wrote and writes its own result whole.
Before `translate` nothing is spent. What is bought is bought here, in the driving process, shard by shard; every other
task is a function of this module on a Build and a number, and runs anywhere.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kollm.core.errors import InputError
from kollm.core.files import file_sha256, write_atomic
from kollm.core.progress import Progress, say
from kollm.core.records import Record
from kollm.dataset.build import Build
from kollm.dataset.decide import Remaining, decide, read_decided, read_summary, summaries, write_summary
from kollm.dataset.executors import Executor, Stage
from kollm.dataset.finish import Finished, Finishing, finish, finish_memory, reason_kind
from kollm.dataset.folder import SHARD_ROWS, Part, part_file, write_part
from kollm.dataset.memory_rows import read_memory
from kollm.dataset.prepare import Prepared, prepare
from kollm.dataset.repeats import ROWS, Ids, find_near, find_repeats, write_bands, write_keys
from kollm.dataset.settings import REJECTED_PART, Tally
from kollm.dataset.shards import read_shard
from kollm.dataset.tables import REJECTED_SCHEMA, SCHEMA, to_records, to_table
from kollm.dataset.work import arrow_batches, whole_arrow
from kollm.quality.dedup import Prints
from kollm.services.budget import Budget
from kollm.services.ledger import Ledger
from kollm.translate import MemoryTranslator, Outcome, Translator, translate_records, translate_stream

BATCH_ROWS = 500
"""Translated rows that are filtered together."""
_TRANSLATED = SCHEMA.append(pa.field("reason", pa.string())).append(pa.field("untranslated", pa.list_(pa.string())))
_KEPT, _REJECTED, _LEFT_OUT = "kept", "rejected", "left_out"


# --- what runs in workers ---------------------------------------------------------------------------------------------


def prepare_shard(build: Build, number: int) -> None:
    """Task: rows into Records, personal data masked, leaks found, duplicates made findable, characters counted."""
    shard = build.shard(number)
    plan, tasks = build.preparing[shard.source], build.evaluation_tasks()
    found = _Found()
    with whole_arrow(build.path("prepared", number), SCHEMA, sync=build.sync) as file:
        for batch in read_shard(shard, plan.limit):
            prepared = prepare(plan, batch, tasks)
            file.write_table(prepared.table)
            found.add(prepared)
    if found.rejected:
        with whole_arrow(build.path("prepared", number, "left_out.arrow"), REJECTED_SCHEMA, sync=build.sync) as file:
            for table in found.rejected:
                file.write_table(table)
    ids = Ids(*(_strings(tables, "id") for tables in (found.ids, found.rejected)))
    places = [*_places(found.ids), *_places(found.rejected)]
    characters = [*found.characters, *[0] * len(ids.left_out)]
    with whole_arrow(build.path("rows", number), ROWS, None, build.sync) as file:
        file.write_table(pa.table([[*ids.used, *ids.left_out], places, characters], schema=ROWS))
    write_keys(build, number, ids, np.concatenate(found.exact) if found.exact else None)
    if found.prints:
        write_bands(build, number, Prints(*(np.concatenate(column) for column in zip(*found.prints, strict=True))))
    summary = {"rows": found.rows, "records": len(ids.used), "left_out": len(ids.left_out)}
    write_summary(build, "prepared", number, {**summary, "leaks": found.leaks, "notes": found.notes})


def finish_shard(build: Build, number: int) -> None:
    """Task: what was decided taken out, the rest translated where that costs nothing, filtered and checked."""
    finishing = build.finishing_of(build.shard(number).source)
    total = _Totals()
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(
                whole_arrow(build.path("finished", number, f"{name}.arrow"), schema, sync=build.sync)
            )
            for name, schema in ((_KEPT, SCHEMA), (_REJECTED, REJECTED_SCHEMA), (_LEFT_OUT, REJECTED_SCHEMA))
        }
        for table in _left_out(build, number):
            files[_LEFT_OUT].write_table(table)
            total.reject(_LEFT_OUT, table)
        for dropped, finished in _finished(build, number, finishing):
            files[_REJECTED].write_table(dropped)
            total.reject(_REJECTED, dropped)
            if finished is not None:
                files[_KEPT].write_table(finished.kept)
                files[_REJECTED].write_table(finished.rejected)
                total.add(finished)
    write_summary(build, "finished", number, total.summary())


def write_file(build: Build, number: int) -> None:
    """Task: one parquet file of the dataset."""
    item = _File(*json.loads((build.folder / "files.json").read_text(encoding="utf-8"))[number])
    path = build.folder / "dataset" / item.config / part_file(item.split, item.number)
    path.parent.mkdir(exist_ok=True)
    schema = REJECTED_SCHEMA if item.config == REJECTED_PART.config else SCHEMA
    write_part(path, (table for piece in item.pieces for table in _piece(build, *piece)), schema, build.sync)
    write_summary(build, "written", number, {"name": f"{item.config}/{path.name}", "sha256": file_sha256(path)})


# --- the stages -------------------------------------------------------------------------------------------------------


def run_before_spending(build: Build, executor: Executor, tally: Tally) -> list[Remaining]:
    """Prepare all rows and decide which are not to be translated.

    Returns:
        What remains of each source.

    Raises:
        InputError: malformed input, or a leak that is to be refused.
    """
    _run(build, executor, "prepare", build.shards, prepare_shard)
    _run(build, executor, "repeats", build.buckets, find_repeats)
    if build.near <= 1:
        _run(build, executor, "near", build.buckets, find_near)
    _run(build, executor, "decide", build.shards, decide)
    for plan in build.preparing:
        tally.revisions[plan.source.name] = plan.place.revision
    remaining, leaks = [Remaining()] * len(build.preparing), []
    for number, (prepared, decided) in enumerate(
        zip(summaries(build, "prepared"), summaries(build, "decided"), strict=True)
    ):
        source = build.shard(number).source
        name = build.preparing[source].source.name
        tally.read[name] += prepared["rows"]
        tally.records[name] += prepared["records"] + prepared["left_out"]
        tally.mended.update(prepared["notes"])
        if decided["renamed"]:
            tally.mended["double_id_renamed"] += decided["renamed"]
        remaining[source] = remaining[source].plus(Remaining(*decided["remaining"]))
        leaks += decided["leaks"]
    _judge_leaks(build, leaks, tally)
    return remaining


def announce(build: Build, engines: Sequence[Translator | None], remaining: Sequence[Remaining]) -> None:
    """Say what is about to be spent, and with whom."""
    for plan, engine, left in zip(build.finishing, engines, remaining, strict=True):
        if engine is not None and engine.kept and left.characters:
            say(
                f"{plan.source.name}: {left.rows:,} rows with {left.characters:,} characters go to "
                f"{engine.name}, {getattr(engine, 'endpoint', engine.base_url)}; the text leaves this machine, unless the ledger has it."
            )


def run_translation(build: Build, engines: Sequence[Translator | None], budget: Budget, ledger: Ledger | None) -> None:
    """Buy what is to be bought, shard by shard, in this process: a service's rate limit is the bound."""
    bought = [n for n in range(build.shards) if build.finishing[build.shard(n).source].translation == "bought"]
    with Progress("translate", len(bought), "shards") as progress:
        for number in bought:
            source = build.shard(number).source
            engine = engines[source]
            assert engine is not None, "what is bought has an engine"
            buy = partial(
                translate_stream,
                translator=engine,
                mode=build.finishing[source].mode,
                ledger=ledger,
                budget=budget,
                router=build.preparing[source].router,
            )
            _translate_shard(build, number, buy)
            progress.advance()


def run_finishing(build: Build, executor: Executor, tally: Tally) -> dict[Part, int]:
    """Finish all rows and write the dataset's files.

    Returns:
        How many rows each part has.

    Raises:
        InputError: a leak that is to be refused.
    """
    _run(build, executor, "finish", build.shards, finish_shard)
    known, leaks = set(tally.leaks), []
    rows = Counter[Part]()
    for number, finished in enumerate(summaries(build, "finished")):
        part = part_of(build, number)
        rows[part] += finished[_KEPT]
        rows[REJECTED_PART] += finished[_REJECTED] + finished[_LEFT_OUT]
        tally.dropped.update(finished["reasons"])
        tally.flags.update(finished["flags"])
        tally.characters += finished["characters"]
        leaks += [leak for leak in finished["leaks"] if leak not in known]
        for where, licences in ((part, finished["licences"][0]), (REJECTED_PART, finished["licences"][1])):
            tally.licences.setdefault(where, set()).update(licences)
    if any(plan.leaks == "refuse" for plan in build.finishing) and leaks:
        raise leak_error(leaks)
    tally.leaks += leaks
    files = list(_files(build))
    write_atomic(build.folder / "files.json", json.dumps(files))
    _run(build, executor, "write", len(files), write_file)
    return {part: count for part, count in rows.items() if count}


def checksums(build: Build) -> dict[str, str]:
    """Of the dataset's files, by name."""
    files = len(json.loads((build.folder / "files.json").read_text(encoding="utf-8")))
    written = (read_summary(build, "written", number) for number in range(files))
    return {item["name"]: item["sha256"] for item in written}


def reasons_by_source(build: Build) -> dict[str, Counter[str]]:
    """How many rows of each source are to be left out so far for each reason, without its detail."""
    found: dict[str, Counter[str]] = {plan.source.name: Counter() for plan in build.preparing}
    for number, decided in enumerate(summaries(build, "decided")):
        found[build.preparing[build.shard(number).source].source.name].update(decided["reasons"])
    return found


def part_of(build: Build, number: int) -> Part:
    """The config and split of a shard's rows."""
    source = build.preparing[build.shard(number).source].source
    return Part(source.config, source.split)


def leak_error(leaks: Sequence[str]) -> InputError:
    """The error of a build that found evaluation tasks among its rows."""
    shown = "; ".join(leaks[:3]) + ("; ..." if len(leaks) > 3 else "")
    return InputError(
        f"{len(leaks)} rows hold a task of the evaluation set ({shown}) - drop them with --leaks drop (data.leaks in a recipe), "
        "or keep them with --leaks keep; nothing was written."
    )


def _run(build: Build, executor: Executor, name: str, tasks: int, work: Callable[[Build, int], None]) -> None:
    executor.run(Stage(name, tasks, partial(work, build), build.folder))


def _judge_leaks(build: Build, leaks: Sequence[str], tally: Tally) -> None:
    """Refuse, drop or keep what leaks in the source's own language, before it is translated."""
    policies = {plan.leaks for plan in build.finishing}
    if leaks and "refuse" in policies:
        raise leak_error(leaks)
    if "keep" in policies:
        tally.leaks.extend(leaks)


# --- a shard's rows ---------------------------------------------------------------------------------------------------


class _Found:
    """What the batches of a shard gave, but for its rows."""

    def __init__(self) -> None:
        self.rows = 0
        self.ids: list[pa.Table] = []
        self.rejected: list[pa.Table] = []
        self.characters: list[int] = []
        self.exact: list[Any] = []
        self.prints: list[Prints] = []
        self.leaks: list[tuple[int, str]] = []
        self.notes = Counter[str]()

    def add(self, prepared: Prepared) -> None:
        self.leaks += [(len(self.characters) + leak.row, leak.task) for leak in prepared.leaks]
        self.rows += prepared.rows
        self.ids.append(prepared.table.select(["id", "provenance"]))
        self.characters += prepared.characters.tolist()
        if prepared.rejected.num_rows:
            self.rejected.append(prepared.rejected)
        if prepared.exact is not None:
            self.exact.append(prepared.exact)
        if prepared.prints is not None:
            self.prints.append(prepared.prints)
        self.notes.update(prepared.notes)


def _strings(tables: Sequence[pa.Table], name: str) -> list[str]:
    return [value for table in tables for value in table.column(name).to_pylist()]


def _places(tables: Sequence[pa.Table]) -> list[int]:
    chunks = (chunk for table in tables for chunk in table.column("provenance").chunks)
    return [place for chunk in chunks for place in pc.struct_field(chunk, "index").to_pylist()]


class _Totals:
    """What the rows of a shard came to."""

    def __init__(self) -> None:
        self.rows = Counter[str]()
        self.reasons, self.flags = Counter[str](), Counter[str]()
        self.licences: tuple[set[str], set[str]] = (set(), set())
        self.characters = 0
        self.leaks: list[str] = []

    def reject(self, where: str, table: pa.Table) -> None:
        self.rows[where] += table.num_rows
        self.reasons.update(reason_kind(reason) for reason in table.column("reason").to_pylist())
        self.licences[1].update(pc.unique(table.column("licence")).to_pylist())

    def add(self, finished: Finished) -> None:
        self.rows[_KEPT] += finished.kept.num_rows
        self.rows[_REJECTED] += finished.rejected.num_rows
        self.reasons.update(finished.reasons)
        self.flags.update(finished.flags)
        for mine, theirs in zip(self.licences, finished.licences, strict=True):
            mine.update(theirs)
        self.characters += finished.characters
        self.leaks += finished.leaks

    def summary(self) -> dict[str, Any]:
        counts = {name: self.rows[name] for name in (_KEPT, _REJECTED, _LEFT_OUT)}
        licences = [sorted(names) for names in self.licences]
        more = {"reasons": self.reasons, "flags": self.flags, "licences": licences}
        return {**counts, **more, "characters": self.characters, "leaks": self.leaks}


def _decided(build: Build, number: int) -> Iterator[tuple[pa.Table, pa.Table]]:
    """The rows of a shard that are kept so far, and those that are not with their reasons, batch by batch."""
    decided = read_decided(build, number)
    start = 0
    for batch in arrow_batches(build.path("prepared", number)):
        table, end = pa.Table.from_batches([batch]), start + batch.num_rows
        table = _named(table, decided.names, start)
        reasons = pa.array([decided.reasons.get(row) for row in range(start, end)], pa.string())
        dropped = pc.is_valid(reasons)
        yield table.filter(pc.invert(dropped)), table.filter(dropped).append_column("reason", reasons.drop_null())
        start = end


def _left_out(build: Build, number: int) -> Iterator[pa.Table]:
    """The rows of a shard that cannot be used."""
    path = build.path("prepared", number, "left_out.arrow")
    if not path.is_file():
        return
    names = read_decided(build, number).names
    start = read_summary(build, "prepared", number)["records"]
    for batch in arrow_batches(path):
        yield _named(pa.Table.from_batches([batch]), names, start)
        start += batch.num_rows


def _named(table: pa.Table, names: dict[int, str], start: int) -> pa.Table:
    """The rows of a table under the ids that were settled."""
    if not any(start <= row < start + table.num_rows for row in names):
        return table
    ids = [names.get(row, name) for row, name in enumerate(table.column("id").to_pylist(), start=start)]
    return table.set_column(table.schema.get_field_index("id"), "id", pa.array(ids, pa.string()))


def _finished(build: Build, number: int, finishing: Finishing) -> Iterator[tuple[pa.Table, Finished | None]]:
    """What was decided to be left out, and the rest, finished, batch by batch."""
    if finishing.plan.translation == "bought":
        for _, dropped in _decided(build, number):
            yield dropped, None
        none = REJECTED_SCHEMA.empty_table()
        for batch in arrow_batches(build.path("translated", number)):
            yield none, finish(finishing, _outcomes(batch))
        return
    for kept, dropped in _decided(build, number):
        yield dropped, _finish_here(build, number, finishing, to_records(kept))


def _finish_here(build: Build, number: int, finishing: Finishing, records: list[Record]) -> Finished:
    plan = finishing.plan
    if plan.translation == "memory":
        path = build.path("memory", build.shard(number).source)
        return finish_memory(finishing, records, read_memory(path, records, plan.by_place))
    if plan.engine is None:
        return finish(finishing, [Outcome(record, None, "") for record in records])
    if isinstance(plan.engine, MemoryTranslator):
        return finish_memory(finishing, records, plan.engine)
    return finish(finishing, translate_records(records, plan.engine, mode=plan.mode))


def _translate_shard(build: Build, number: int, buy: Callable[[Iterator[Record]], Iterator[Outcome]]) -> None:
    records = (record for kept, _ in _decided(build, number) for record in to_records(kept))
    with whole_arrow(build.path("translated", number), _TRANSLATED, sync=build.sync) as file:
        waiting: list[Outcome] = []
        for outcome in buy(records):
            waiting.append(outcome)
            if len(waiting) == BATCH_ROWS:
                file.write_table(_translated(waiting))
                waiting = []
        if waiting:
            file.write_table(_translated(waiting))


def _translated(outcomes: Sequence[Outcome]) -> pa.Table:
    table = to_table([outcome.record for outcome in outcomes])
    table = table.append_column("reason", pa.array([outcome.reason for outcome in outcomes], pa.string()))
    untranslated = pa.array([outcome.untranslated for outcome in outcomes], pa.list_(pa.string()))
    return table.append_column("untranslated", untranslated)


def _outcomes(batch: pa.RecordBatch) -> list[Outcome]:
    columns = (batch.column("reason").to_pylist(), batch.column("untranslated").to_pylist())
    return [
        Outcome(record, reason, record.provenance.route, tuple(untranslated))
        for record, reason, untranslated in zip(to_records(batch), *columns, strict=True)
    ]


# --- the dataset's files ----------------------------------------------------------------------------------------------


class _File(NamedTuple):
    """One file of the dataset: its part, its number there, and its rows as (shard, kind, first row, rows)."""

    config: str
    split: str
    number: int
    pieces: list[tuple[int, str, int, int]]


def _files(build: Build) -> Iterator[_File]:
    """The files that hold the finished rows: shards in their order, a fixed number of rows a file."""
    parts: dict[Part, list[tuple[int, str, int]]] = {REJECTED_PART: []}
    counts = list(summaries(build, "finished"))
    parts[REJECTED_PART] += [(number, _LEFT_OUT, found[_LEFT_OUT]) for number, found in enumerate(counts)]
    parts[REJECTED_PART] += [(number, _REJECTED, found[_REJECTED]) for number, found in enumerate(counts)]
    for number, found in enumerate(counts):
        parts.setdefault(part_of(build, number), []).append((number, _KEPT, found[_KEPT]))
    for part, pieces in parts.items():
        waiting: list[tuple[int, str, int, int]] = []
        room, file = SHARD_ROWS, 0
        for number, kind, rows in pieces:
            start = 0
            while start < rows:
                taken = min(room, rows - start)
                waiting.append((number, kind, start, taken))
                start, room = start + taken, room - taken
                if not room:
                    yield _File(*part, file, waiting)
                    waiting, room, file = [], SHARD_ROWS, file + 1
        if waiting:
            yield _File(*part, file, waiting)


def _piece(build: Build, number: int, kind: str, start: int, rows: int) -> Iterator[pa.Table]:
    place, end = 0, start + rows
    for batch in arrow_batches(build.path("finished", number, f"{kind}.arrow")):
        first, last = max(start - place, 0), min(end - place, batch.num_rows)
        if first < last:
            yield pa.Table.from_batches([batch]).slice(first, last - first)
        place += batch.num_rows
