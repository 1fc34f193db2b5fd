"""The dataset pipeline: read, mask personal data, drop duplicates, translate, filter, write the dataset folder.

Two passes over batches. The first ends before anything is spent: rows are read and prepared, and what repeats or leaks
an evaluation task is known. The second translates, filters and writes. Every row that a source yields ends in exactly
one place: a config of the folder, or the config `rejected` with its reason. Evaluation sources get the split `test`;
neither duplicates, leaks nor filters take rows from them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kollm.core.errors import InputError
from kollm.core.files import file_sha256
from kollm.core.progress import say
from kollm.dataset.finish import UNTRANSLATED
from kollm.dataset.folder import MANIFEST, REJECTED, DatasetWriter
from kollm.dataset.manifest import make_card, make_manifest
from kollm.dataset.passes import Build, announce, first_pass, second_pass
from kollm.dataset.pool import Pool
from kollm.dataset.scratch import Scratch
from kollm.dataset.settings import Engines, SourceInput, Tally, make_settings
from kollm.recipe.schema import BuildSettings
from kollm.services.budget import Budget
from kollm.services.ledger import Ledger
from kollm.sources import SAMPLE
from kollm.translate import Translator

__all__ = ["BuildReport", "BuildSettings", "SourceInput", "build_dataset"]

POOL_BYTES = 16 << 20
"""Bytes of local input from which on worker processes pay: they take a quarter of a second to start."""
MAX_PROCESSES = 4
"""More do not help: the parent, which cuts, compresses and writes, is then the slowest."""


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
    engines = Engines(translator, translator_model, translator_options)
    budget = Budget(max_characters, max_cost)
    build = Build(inputs, chosen, engines)
    workers = find_processes(inputs) if processes is None else processes
    with DatasetWriter(Path(output)) as writer, Pool(build, workers) as pool, Scratch(writer.work) as scratch:
        tally = Tally()
        first_pass(build, pool, scratch, writer, tally)
        announce(build, scratch)
        second_pass(build, pool, scratch, writer, tally, budget, ledger)
        scratch.close()
        if not writer.rows:
            raise InputError(
                f"{', '.join(item.name for item in inputs)}: no rows at all in the input - check the file."
            )
        manifest = make_manifest(inputs, engines.name, chosen, tally, writer.rows)
        folder = writer.publish(manifest, make_card(inputs, manifest, tally, writer.rows))
    for item in inputs:
        if item.own is not None:
            item.own.counts.update({f"left out: {reason}": count for reason, count in tally.dropped.items()})
            say(item.own.summary())
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
        {
            name.removeprefix(UNTRANSLATED): rows
            for name, rows in sorted(tally.flags.items())
            if name.startswith(UNTRANSLATED)
        },
        _comparison(build.rival, tally),
        budget.spending().reconciliation() if budget.spending().requests else "",
        file_sha256(folder / MANIFEST),
    )


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
    return min(MAX_PROCESSES, os.cpu_count() or 1) if size >= POOL_BYTES else 0
