"""What a worker does to one shard: a function of a Build and the shard's number, which writes its result whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kollm.core.records import Record
from kollm.dataset.bills import repaid_of, write_bills
from kollm.dataset.build import Build
from kollm.dataset.decide import read_decided, read_summary, write_summary
from kollm.dataset.finish import Finished, Finishing, finish, finish_here, reason_kind
from kollm.dataset.prepare import Prepared, prepare
from kollm.dataset.repeats import ROWS, Ids, write_bands, write_keys
from kollm.dataset.shards import read_shard
from kollm.dataset.tables import REJECTED_SCHEMA, SCHEMA, to_records, to_table
from kollm.dataset.work import arrow_batches, whole_arrow
from kollm.quality.dedup import Prints
from kollm.services.ledger import Ledger
from kollm.translate import Outcome
from kollm.translate.parts import Paid
from kollm.translate.rows import NotBoughtError, recall_stream

BATCH_ROWS = 500
"""Translated rows that are filtered together."""
KEPT, REJECTED, LEFT_OUT = "kept", "rejected", "left_out"
"""Where a finished row goes: into its source's config, or among the rejected, behind those that could not be used."""
_TRANSLATED = SCHEMA.append(pa.field("reason", pa.string())).append(pa.field("untranslated", pa.list_(pa.string())))


def prepare_shard(build: Build, number: int) -> int:
    """Task: rows into Records, personal data masked, leaks found, duplicates made findable.

    Returns:
        Rows read.
    """
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
    with whole_arrow(build.path("rows", number), ROWS, None, build.sync) as file:
        file.write_table(pa.table([[*ids.used, *ids.left_out], places], schema=ROWS))
    write_keys(build, number, ids, np.concatenate(found.exact) if found.exact else None)
    if found.prints:
        write_bands(build, number, Prints(*(np.concatenate(column) for column in zip(*found.prints, strict=True))))
    summary = {"rows": found.rows, "records": len(ids.used), "left_out": len(ids.left_out)}
    write_summary(build, "prepared", number, {**summary, "leaks": found.leaks, "notes": found.notes})
    return found.rows


def finish_shard(build: Build, number: int) -> int:
    """Task: what was decided taken out, the rest translated where that costs nothing, filtered and checked.

    Returns:
        Rows finished.
    """
    plan = build.finishing[build.shard(number).source]
    if build.path("recalled", number, "json").is_file():
        summary = read_summary(build, "recalled", number)
    else:
        summary = _finish(build, number, _finished(build, number, build.finishing_of(build.shard(number).source)))
    if plan.translation == "bought" and (repaid := repaid_of(build, number)):
        ids = [name for batch in _decided(build, number) for name in batch.kept().column("id").to_pylist()]
        write_summary(build, "elsewhere", number, {ids[row]: characters for row, characters in repaid.items()})
        summary["characters"] -= sum(repaid.values())
    write_summary(build, "finished", number, summary)
    return sum(summary[name] for name in (KEPT, REJECTED, LEFT_OUT))


def _finish(build: Build, number: int, batches: Iterator[tuple[pa.Table, Finished | None]]) -> dict[str, Any]:
    """Write a shard's finished rows.

    Args:
        build: the build.
        number: number of the shard.
        batches: what was decided to be left out, and what was finished.

    Returns:
        What they came to.
    """
    total = _Totals()
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(
                whole_arrow(build.path("finished", number, f"{name}.arrow"), schema, sync=build.sync)
            )
            for name, schema in ((KEPT, SCHEMA), (REJECTED, REJECTED_SCHEMA), (LEFT_OUT, REJECTED_SCHEMA))
        }
        for table in _left_out(build, number):
            files[LEFT_OUT].write_table(table)
            total.reject(LEFT_OUT, table)
        for dropped, finished in batches:
            files[REJECTED].write_table(dropped)
            total.reject(REJECTED, dropped)
            if finished is not None:
                files[KEPT].write_table(finished.kept)
                files[REJECTED].write_table(finished.rejected)
                total.add(finished)
    return total.summary()


class _Found:
    """What the batches of a shard gave, but for its rows."""

    def __init__(self) -> None:
        self.rows = 0
        self.ids: list[pa.Table] = []
        self.rejected: list[pa.Table] = []
        self.records = 0
        self.exact: list[Any] = []
        self.prints: list[Prints] = []
        self.leaks: list[tuple[int, str]] = []
        self.notes = Counter[str]()

    def add(self, prepared: Prepared) -> None:
        self.leaks += [(self.records + leak.row, leak.task) for leak in prepared.leaks]
        self.rows += prepared.rows
        self.ids.append(prepared.table.select(["id", "provenance"]))
        self.records += prepared.table.num_rows
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
        self.rows[KEPT] += finished.kept.num_rows
        self.rows[REJECTED] += finished.rejected.num_rows
        self.reasons.update(finished.reasons)
        self.flags.update(finished.flags)
        for mine, theirs in zip(self.licences, finished.licences, strict=True):
            mine.update(theirs)
        self.characters += finished.characters
        self.leaks += finished.leaks

    def summary(self) -> dict[str, Any]:
        counts = {name: self.rows[name] for name in (KEPT, REJECTED, LEFT_OUT)}
        licences = [sorted(names) for names in self.licences]
        more = {"reasons": self.reasons, "flags": self.flags, "licences": licences}
        return {**counts, **more, "characters": self.characters, "leaks": self.leaks}


class _Decided(NamedTuple):
    """A batch of a shard's rows, and for each why it is left out; null for a row that is kept so far."""

    table: pa.Table
    reasons: pa.Array

    def kept(self) -> pa.Table:
        return self.table.filter(pc.is_null(self.reasons))

    def dropped(self) -> pa.Table:
        """The rows that are left out, with their reasons."""
        return self.table.filter(pc.is_valid(self.reasons)).append_column("reason", self.reasons.drop_null())


def _decided(build: Build, number: int) -> Iterator[_Decided]:
    """The rows of a shard, batch by batch."""
    decided = read_decided(build, number)
    start = 0
    for batch in arrow_batches(build.path("prepared", number)):
        table, end = pa.Table.from_batches([batch]), start + batch.num_rows
        reasons = [decided.reasons.get(row) for row in range(start, end)]
        yield _Decided(_named(table, decided.names, start), pa.array(reasons, pa.string()))
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
        yield from _bought(build, number, finishing, map(_outcomes, arrow_batches(build.path("translated", number))))
        return
    memory = build.path("memory", build.shard(number).source)
    for batch in _decided(build, number):
        yield batch.dropped(), finish_here(finishing, to_records(batch.kept()), memory)


def _bought(
    build: Build, number: int, finishing: Finishing, batches: Iterator[list[Outcome]]
) -> Iterator[tuple[pa.Table, Finished | None]]:
    """`_finished` of rows whose translation was bought."""
    for batch in _decided(build, number):
        yield batch.dropped(), None
    none = REJECTED_SCHEMA.empty_table()
    for outcomes in batches:
        yield none, finish(finishing, outcomes)


def recall_shard(build: Build, number: int) -> int:
    """Task: a shard translated by what was bought before, and finished; nothing where an answer is missing, which is bought
    later.

    Returns:
        Rows translated.
    """
    source = build.shard(number).source
    plan = build.finishing[source]
    if plan.purchases is None or build.ledger is None or build.is_translated(number):
        return 0
    router = build.preparing[source].router
    with Ledger.open(build.ledger) as ledger:
        outcomes = recall_stream(kept_records(build, number), plan.purchases, ledger, mode=plan.mode, router=router)
        translated = _Translated(outcomes)
        try:
            summary = _finish(build, number, _bought(build, number, build.finishing_of(source), translated.batches()))
        except NotBoughtError:
            return 0
    write_bills(build, number, translated.paid)
    write_summary(build, "recalled", number, summary)
    return translated.rows


def translate_shard(build: Build, number: int, buy: Callable[[Iterator[Record]], Iterator[Outcome]]) -> int:
    """Translate the rows of a shard that are kept so far; the file `translated` is the mark that it is done.

    Args:
        build: the build.
        number: number of the shard.
        buy: makes Outcomes of Records, in their order.

    Returns:
        Rows translated.
    """
    translated = _Translated(buy(kept_records(build, number)))
    with whole_arrow(build.path("translated", number), _TRANSLATED, sync=build.sync) as file:
        for batch in translated.batches():
            file.write_table(_translated(batch))
        write_bills(build, number, translated.paid)
    return translated.rows


class _Translated:
    """Outcomes in batches, and what is kept of them: how many there were, and what each text cost, with its row's number."""

    def __init__(self, outcomes: Iterator[Outcome]) -> None:
        self._outcomes = outcomes
        self.rows = 0
        self.paid: list[tuple[int, tuple[Paid, ...]]] = []

    def batches(self) -> Iterator[list[Outcome]]:
        while batch := list(islice(self._outcomes, BATCH_ROWS)):
            self.paid += [(row, part) for row, item in enumerate(batch, start=self.rows) for part in item.paid if part]
            self.rows += len(batch)
            yield batch


def kept_records(build: Build, number: int) -> Iterator[Record]:
    """The rows of a shard that are kept so far."""
    return (record for batch in _decided(build, number) for record in to_records(batch.kept()))


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
