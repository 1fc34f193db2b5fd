"""The dataset pipeline: read, mask personal data, drop duplicates, translate, filter, write the dataset folder.

The inputs are cut into shards (shards.py), the stages (stages.py) run over them, and an executor (executors/) says where.
Every row that a source yields ends in exactly one place: a config of the folder, or the config `rejected` with its reason.
Evaluation sources get the split `test`; neither duplicates, leaks nor filters take rows from them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from kollm.core.errors import InputError
from kollm.core.files import file_sha256, full_disk
from kollm.core.progress import say
from kollm.dataset.build import FOLDERS, Build, Inputs, find_buckets, make_build, open_inputs
from kollm.dataset.buying import Buyers, buy_in_workers, merge_bought
from kollm.dataset.executors import Executor
from kollm.dataset.executors.local import LocalExecutor
from kollm.dataset.finish import UNTRANSLATED
from kollm.dataset.folder import MANIFEST, REJECTED, DatasetWriter, require_place
from kollm.dataset.manifest import describe, make_card, make_manifest
from kollm.dataset.memory import write_memory
from kollm.dataset.parts import checksums
from kollm.dataset.settings import Engines, SourceInput, Tally, make_settings
from kollm.dataset.shards import Shard, copy_shards, cut_file, save_shards
from kollm.dataset.stages import announce, recall_bought, run_before_spending, run_finishing, run_translation
from kollm.dataset.work import work_folder, work_place
from kollm.quality.leaks import save_tasks
from kollm.recipe.schema import BuildSettings
from kollm.services.budget import Budget
from kollm.services.ledger import Ledger, default_path
from kollm.sources import SAMPLE
from kollm.translate import Translator

__all__ = ["BuildReport", "BuildSettings", "SourceInput", "build_dataset"]

POOL_BYTES = 16 << 20
"""Bytes of local input from which on worker processes pay: they take a second to start."""


class Comparison(NamedTuple):
    """What another filter set would do to the first rows of each training source.

    Attributes:
        filters: name of that set.
        rows: rows compared.
        drops: rows that it would drop.
        drops_kept: of these, rows that were kept.
        keeps_dropped: rows that were dropped and that it would keep.
    """

    filters: str
    rows: int
    drops: int
    drops_kept: int
    keeps_dropped: int


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
        untranslated: kept rows with a field as it was in English although it holds words, by field.
        comparison: what the other filters would do, the paper's or the default; None where nothing was compared.
        bill: one line on requests and characters of a paid engine; empty without one.
        manifest_sha256: hash of the manifest, which holds the hash of every file.
    """

    folder: Path
    rows: dict[str, int]
    dropped: dict[str, int]
    characters: int
    cost: float
    leaks: tuple[str, ...]
    untranslated: dict[str, int]
    comparison: Comparison | None
    bill: str
    manifest_sha256: str


def build_dataset(
    sources: Sequence[str | SourceInput],
    *,
    translator: str | Translator = "memory",
    output: str | Path,
    settings: BuildSettings | None = None,
    max_characters: int | None = None,
    max_cost: float | None = None,
    translator_model: str | None = None,
    translator_options: Mapping[str, Any] | None = None,
    ledger: Ledger | None = None,
    processes: int | None = None,
    executor: Executor | None = None,
    buyers: Buyers | None = None,
    **changes: Any,
) -> BuildReport:
    """Build a dataset folder from English sources.

    Args:
        sources: names, or SourceInputs where more than the name is to be said.
        translator: `deepl`, `openai`, `local`, `memory`, `none` to leave the text as it is, or a Translator. Sources
            that are Korean already are never translated.
        output: the folder; an earlier dataset there is replaced once the new one is whole.
        settings: what is done to every source, e.g. a recipe's `data.build`; None for the defaults.
        max_characters: cap on the characters billed for these rows.
        max_cost: cap on their price in USD.
        translator_model: the engine's model, where it has a choice.
        translator_options: further options of the engine's class.
        ledger: where answers of paid services are kept; None for the default ledger.
        processes: worker processes; None to choose by the size of the input, 0 for none.
        executor: who runs the tasks; None for processes of this machine.
        buyers: how workers buy from servers of one's own, of the kind that `translator` names; None where this process buys.
        changes: single settings by name (see BuildSettings), in place of those in `settings`.

    Raises:
        InputError: a source, file or option that cannot be used, no row at all, or a leak that is to be refused.
        QuotaError, ServiceError: as the engine raises them; what was answered is in the ledger, and no folder is left.
    """
    chosen = make_settings(settings, **changes)
    inputs = [(SourceInput(item) if isinstance(item, str) else item).opened() for item in sources]
    if not inputs:
        raise InputError("No source was named - name one or more, e.g. dolly.")
    if len({item.name for item in inputs}) < len(inputs):
        raise InputError("A source was named twice - name each once.")
    options = buyers.engine_options() if buyers is not None else translator_options
    engines = Engines(translator, translator_model, options)
    budget = Budget(max_characters, max_cost)
    require_place(Path(output))
    opened = open_inputs(inputs, chosen, engines)
    workers = find_processes(inputs) if processes is None else processes
    tally = Tally()
    about = describe(opened, engines, chosen)
    merge_bought(work_place(Path(output)), ledger)
    with (
        closing(executor or LocalExecutor(workers)) as runs,
        work_folder(Path(output), about) as work,
        full_disk(Path(output)),
    ):
        build = prepare_build(work, opened, chosen, engines)
        run_before_spending(build, runs, tally)
        build = replace(build, ledger=_shared_ledger(runs, ledger))
        recall_bought(build, runs)
        announce(build, opened.engines, runs)
        if buyers is not None:
            buy_in_workers(build, buyers, runs, budget, ledger)
            build = replace(build, ledger=_shared_ledger(runs, ledger))
            recall_bought(build, runs, "collect")
        cost = run_translation(build, opened.engines, runs, budget, ledger)
        rows = run_finishing(build, runs, tally)
        if not rows:
            raise InputError(
                f"{', '.join(item.name for item in inputs)}: no rows at all in the input - check the file."
            )
        manifest = make_manifest(inputs, engines.name, chosen, tally, rows)
        with DatasetWriter(Path(output)) as writer:
            writer.take(work / "dataset")
            folder = writer.publish(manifest, make_card(inputs, manifest, tally, rows), checksums(build))
    for item in inputs:
        if item.own is not None:
            item.own.counts.update({f"left out: {reason}": count for reason, count in tally.dropped.items()})
            say(item.own.summary())
    kept = {part.config: count for part, count in sorted(rows.items()) if part.config != REJECTED}
    if not kept:
        reason, count = tally.dropped.most_common(1)[0]
        rows_in_all = f"every row was rejected ({sum(tally.dropped.values()):,}), {count:,} of them for '{reason}'"
        say(
            f"Warning: {rows_in_all}; the config '{REJECTED}' holds each with its reason - check the file and its form."
        )
    return BuildReport(
        folder,
        kept,
        dict(sorted(tally.dropped.items())),
        tally.characters,
        cost,
        tuple(tally.leaks),
        {
            name.removeprefix(UNTRANSLATED): count
            for name, count in sorted(tally.flags.items())
            if name.startswith(UNTRANSLATED)
        },
        _comparison(opened.rival, tally),
        budget.spending().reconciliation() if budget.spending().requests else "",
        file_sha256(folder / MANIFEST),
    )


def _shared_ledger(executor: Executor, ledger: Ledger | None) -> Path | None:
    """The ledger's file where all workers may read it: SQLite is never read over a network's disk."""
    path = ledger.path if ledger is not None else default_path()
    return path.absolute() if executor.name == "local" and path.is_file() else None


def prepare_build(
    work: Path, inputs: Inputs, settings: BuildSettings, engines: Engines | None, billed: bool = False
) -> Build:
    """Cut the inputs into shards and put into the work folder what the tasks need; what is there already is used.

    Args:
        work: the work folder.
        inputs: the sources, opened.
        settings: what is done to them.
        engines: who translates; None to plan only.
        billed: for a plan: whether the engine that is planned for bills characters.

    Raises:
        InputError: malformed input.
    """
    for name in FOLDERS:
        (work / name).mkdir(exist_ok=True)
    build = make_build(work, inputs, settings, engines, billed)
    shards = build.saved_shards()
    if shards is None:
        shards = [shard for number in range(len(inputs.items)) for shard in _cut(work, inputs, settings, number)]
        save_tasks(inputs.tasks, work / "tasks.npz")
        for number, item in enumerate(inputs.items):
            if engines is not None and engines.translation(item) == "memory":
                rows = engines.memory_rows(item, settings.turns)
                if not write_memory(rows, build.path("memory", number), engines.by_place(item)):
                    raise InputError(
                        f"{item.name}: the memory holds no row that can be read as {item.source.title} - give it the form of "
                        "the English rows, with their ids or in their order."
                    )
        save_shards(shards, work / "shards.json")
    return replace(build, shards=len(shards), buckets=find_buckets(shards))


def _cut(work: Path, inputs: Inputs, settings: BuildSettings, number: int) -> Iterable[Shard]:
    opened, limit = inputs.opened[number], inputs.items[number].rows(settings.limit)
    shards = cut_file(number, opened.path, limit) if opened.path is not None else None
    return shards if shards is not None else copy_shards(number, opened.batches, work / "read")


def _comparison(rival: str, tally: Tally) -> Comparison | None:
    flags = tally.flags
    if not flags["rows_compared"]:
        return None
    return Comparison(
        rival, flags["rows_compared"], flags["rival_drops"], flags["rival_alone_drops"], flags["rival_keeps_dropped"]
    )


def find_processes(inputs: Iterable[SourceInput]) -> int:
    """Workers for local files of POOL_BYTES and for the Hub; none for less."""
    size = 0
    for item in inputs:
        if item.input == SAMPLE or item.own is not None:
            continue
        path = Path(item.input) if item.input is not None else None
        size += path.stat().st_size if path is not None and path.is_file() else POOL_BYTES
    return (os.cpu_count() or 1) if size >= POOL_BYTES else 0
