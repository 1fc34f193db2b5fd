"""What a build would take: rows, characters, requests, cost and time of each source, before anything is spent.

This is the first pass of a build without its second: no key is needed, nothing is sent, nothing is left on disk.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from kollm.core.errors import InputError
from kollm.dataset.build import open_inputs
from kollm.dataset.executors import Executor
from kollm.dataset.executors.local import LocalExecutor
from kollm.dataset.pipeline import find_processes, prepare_build
from kollm.dataset.remaining import Remaining
from kollm.dataset.settings import SourceInput, Tally
from kollm.dataset.stages import count_remaining, reasons_by_source, run_before_spending
from kollm.recipe.engines import EngineFacts, engine_facts
from kollm.recipe.schema import BuildSettings
from kollm.services.endpoint import Endpoint, translator_endpoint

NO_ENGINE = EngineFacts("", "")
"""Of a build that leaves the text as it is."""


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One source of a plan.

    Attributes:
        name: the source.
        read: its rows.
        records: what they became, conversations split; the counts that follow are of these.
        rejected: rows that cannot be used.
        duplicates: rows that repeat others.
        leaks: rows that hold an evaluation task.
        routed: rows that routing leaves out, since translation would void them.
        rows: rows left.
        characters: characters to be translated, code and formulas not counted; 0 where nothing is billed.
        requests: requests, about.
        seconds: least time that the requests take, where a rate is known.
        cost: USD; None where another unit is billed.
        personal: whether its text may carry personal data.
    """

    name: str
    read: int
    records: int
    rejected: int
    duplicates: int
    leaks: int
    routed: int
    rows: int
    characters: int
    requests: int
    seconds: float | None
    cost: float | None
    personal: bool


@dataclass(frozen=True, slots=True)
class DataPlan:
    """What a build would take.

    Attributes:
        rows: the sources.
        service: who would get the text; empty if it stays on this machine.
        endpoint: where that service is asked, and whose key goes there; None likewise.
        masked: personal data found and masked, by kind.
    """

    rows: tuple[PlanRow, ...]
    service: str
    endpoint: Endpoint | None
    masked: dict[str, int]


def plan_build(
    sources: Sequence[str | SourceInput],
    *,
    translator: str = "deepl",
    settings: BuildSettings | None = None,
    price: float | None = None,
    processes: int | None = None,
    executor: Executor | None = None,
    place: Path | None = None,
) -> DataPlan:
    """Count what a build would send and cost.

    Args:
        sources: names, or SourceInputs.
        translator: one of TRANSLATORS.
        settings: as for the build; leaks are counted, never refused.
        price: USD for a million characters, in place of the engine's.
        processes: as for the build.
        executor: as for the build.
        place: folder for the shards, which all workers see; None for this machine's temporary one.

    Raises:
        InputError: a source, file or option that cannot be used, or no row at all.
    """
    engine = engine_facts(translator) or NO_ENGINE
    engine = engine if price is None else replace(engine, price=price)
    inputs = [(SourceInput(item) if isinstance(item, str) else item).opened() for item in sources]
    chosen = settings or BuildSettings(leaks="drop")
    opened = open_inputs(inputs, chosen, None)
    tally = Tally()
    workers = find_processes(inputs) if processes is None else processes
    with (
        closing(executor or LocalExecutor(workers)) as runs,
        tempfile.TemporaryDirectory(prefix=".kollm-plan-", dir=place) as folder,
    ):
        build = prepare_build(Path(folder), opened, chosen, None, billed=bool(engine.service))
        run_before_spending(build, runs, tally)
        remaining = count_remaining(build, runs)
        reasons = reasons_by_source(build)
    rows = tuple(
        _row(item, engine, tally, left, reasons[item.name]) for item, left in zip(inputs, remaining, strict=True)
    )
    if not sum(row.read for row in rows):
        raise InputError(f"{', '.join(item.name for item in inputs)}: no rows at all in the input - check the file.")
    masked = {name: count for name, count in sorted(tally.mended.items()) if name.endswith("_masked")}
    return DataPlan(rows, engine.service, translator_endpoint(translator), masked)


def _row(item: SourceInput, engine: EngineFacts, tally: Tally, left: Remaining, reasons: Counter[str]) -> PlanRow:
    name = item.name
    requests = _requests(engine, left)
    duplicates = reasons["duplicate_exact"] + reasons["duplicate_near"]
    return PlanRow(
        name,
        tally.read[name],
        tally.records[name],
        tally.records[name] - left.rows - left.routed - duplicates - reasons["leak"],
        duplicates,
        reasons["leak"],
        left.routed,
        left.rows,
        left.characters,
        requests,
        requests / engine.requests_per_second if engine.requests_per_second else None,
        left.characters * engine.price / 1e6 if engine.price is not None else None,
        item.source.personal,
    )


def _requests(engine: EngineFacts, left: Remaining) -> int:
    if not engine.service:
        return 0
    return max(math.ceil(left.sent / engine.rows), math.ceil(left.characters / engine.characters))
