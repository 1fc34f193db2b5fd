"""What every task of a build knows: how each source is read, translated and filtered, and where the shards are.

A Build is small and can be pickled, since it goes to every worker; what is large, or cannot travel, is a file in its folder.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from kollm.core.errors import InputError, StateError
from kollm.core.records import Record
from kollm.dataset.finish import Finishing, FinishPlan
from kollm.dataset.leak_check import load_references
from kollm.dataset.prepare import SourcePlan, privacy_of
from kollm.dataset.settings import Engines, SourceInput
from kollm.dataset.shards import Shard, load_shards
from kollm.dataset.work import code_fingerprint
from kollm.quality.leaks import Tasks, load_tasks, tasks_of
from kollm.quality.review import Correction, read_review
from kollm.recipe.schema import BuildSettings
from kollm.sources import Opened, Place, Source, open_source, read_source
from kollm.sources.rows import row_batches
from kollm.translate import Translator
from kollm.translate.routing import Router, fresh_answer_rules
from kollm.translate.translator import Identity

BUCKET_ROWS = 1 << 17
"""Rows whose prints one task compares: the memory that this takes does not grow with the build."""
FOLDERS = ("read", "memory", "prepared", "rows", "keys", "bands", "signatures", "repeats", "names", "near", "decided", "counted", "translated", "recalled", "bills", "repaid", "elsewhere", "finished", "dataset", "written", "bought")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Build:
    """Attributes:
    folder: the work folder.
    preparing: how each source is prepared.
    finishing: how each source is finished.
    near: least similarity of a near duplicate.
    tasks: whether evaluation tasks are looked for.
    shards: how many there are.
    buckets: tasks among which the prints are divided.
    code: fingerprint of the code.
    ledger: where answers that were bought before may be looked up by any worker; None where only the driving process may.
    """

    folder: Path
    preparing: tuple[SourcePlan, ...]
    finishing: tuple[FinishPlan, ...]
    near: float
    tasks: bool
    shards: int = 0
    buckets: int = 1
    code: str = field(default_factory=code_fingerprint)
    ledger: Path | None = None

    @property
    def sync(self) -> bool:
        """Whether files survive a power cut: a build of a few seconds does not take longer for that."""
        return self.shards > 16

    def path(self, kind: str, number: int, suffix: str = "arrow") -> Path:
        """A file of a shard or bucket."""
        return self.folder / kind / f"{number:05d}.{suffix}"

    def is_translated(self, number: int) -> bool:
        """Whether a shard whose translation is bought has it, bought in this build or recalled and finished."""
        return self.path("translated", number).is_file() or self.path("recalled", number, "json").is_file()

    def shard(self, number: int) -> Shard:
        """A shard by its number.

        Raises:
            StateError: this worker has another kollm, or cannot see the folder.
        """
        return self.all_shards()[number]

    def all_shards(self) -> list[Shard]:
        """All shards in order; as `shard`."""
        path = self.folder / "shards.json"
        if self.code != code_fingerprint():
            raise StateError(
                "This worker's kollm is not that of the process that started the build - install the same version everywhere."
            )
        if not path.is_file():
            raise StateError(
                f"'{path}' cannot be seen by this worker - name an output on a disk that all machines of the build share."
            )
        return _shards(path, path.stat().st_mtime_ns)

    def saved_shards(self) -> list[Shard] | None:
        """The shards that an earlier build of the same order cut; None where there are none."""
        path = self.folder / "shards.json"
        return load_shards(path) if path.is_file() else None

    def evaluation_tasks(self) -> Tasks | None:
        """The evaluation tasks to look for; None for none."""
        path = self.folder / "tasks.npz"
        return _tasks(path, path.stat().st_mtime_ns) if self.tasks else None

    def finishing_of(self, source: int) -> Finishing:
        """How a source is finished, with what that needs."""
        plan = self.finishing[source]
        # rows that stay as they are were checked for leaks when they were prepared
        looked_for = plan.source.split == "train" and plan.translation != "none"
        corrections = _corrections(plan.corrections) if plan.corrections else {}
        return Finishing(plan, self.evaluation_tasks() if looked_for else None, corrections)


@functools.lru_cache(maxsize=1)
def _shards(path: Path, _changed: int) -> list[Shard]:
    return load_shards(path)


@functools.lru_cache(maxsize=1)
def _tasks(path: Path, _changed: int) -> Tasks:
    return load_tasks(path)


@functools.lru_cache(maxsize=1)
def _corrections(path: str) -> Mapping[str, Correction]:
    return read_review(Path(path))


class Inputs(NamedTuple):
    """The sources of a build, opened.

    Attributes:
        items: what was asked for.
        opened: the rows of each.
        engines: who translates each; None for no engine.
        tasks: evaluation tasks to look for.
        rival: the filter set that is compared; empty for none.
    """

    items: Sequence[SourceInput]
    opened: tuple[Opened, ...]
    engines: tuple[Translator | None, ...]
    tasks: Tasks
    rival: str


def open_inputs(items: Sequence[SourceInput], settings: BuildSettings, engines: Engines | None) -> Inputs:
    """Open the sources of a build.

    Args:
        items: the sources.
        settings: what is done to them.
        engines: who translates; None to plan only.

    Raises:
        InputError: a source or an option that cannot be used.
        ServiceError: the Hub cannot be reached.
    """
    rival = "default" if settings.filters.startswith("paper") else "paper-all" if _has_langid() else ""
    chosen = tuple(engines.of(item) if engines is not None else None for item in items)
    for item, engine in zip(items, chosen, strict=True):
        wanted = settings.fresh_answers and item.source.lang != "ko" and engines is not None
        if wanted and not (engine and engine.markup):
            raise InputError(
                f"The translator '{engines.name if engines else ''}' translates no question apart from its answer, which fresh "
                "answers need - use deepl or openai."
            )
    opened = tuple(_open(item, item.source, settings) for item in items)
    return Inputs(items, opened, chosen, _evaluation_tasks(items, settings), rival)


def make_build(folder: Path, inputs: Inputs, settings: BuildSettings, engines: Engines | None, billed: bool) -> Build:
    """The plan of a build, before its inputs are cut.

    Args:
        folder: the work folder.
        inputs: the sources.
        settings: what is done to them.
        engines: who translates; None to plan only.
        billed: for a plan: whether the engine that is planned for bills characters.
    """
    rules = fresh_answer_rules() if settings.fresh_answers else None
    preparing, finishing = [], []
    for item, opened, engine in zip(inputs.items, inputs.opened, inputs.engines, strict=True):
        source = item.source
        training, planned = source.split == "train", billed and source.lang != "ko"
        routed = planned or (engine is not None and engine.markup)
        preparing.append(
            SourcePlan(
                source,
                opened.place,
                privacy_of(source, settings.privacy),
                Router(rules, evaluation=not training) if routed else None,
                planned or (engine is not None and engine.kept),
                settings.near <= 1,
                item.rows(settings.limit),
            )
        )
        translation = engines.translation(item) if engines is not None else "none"
        finishing.append(
            FinishPlan(
                source,
                settings.mode,
                settings.filters,
                settings.leaks,
                inputs.rival,
                translation,
                engine if translation == "here" else None,
                Identity.of(engine) if engine and engine.kept and not engine.books_itself else None,
                translation == "memory" and engines is not None and engines.by_place(item),
                str(Path(settings.corrections).absolute()) if settings.corrections else "",
                settings.keep_english and training,
                privacy_of(source, settings.privacy),
            )
        )
    return Build(folder, tuple(preparing), tuple(finishing), settings.near, len(inputs.tasks) > 0)


def find_buckets(shards: Sequence[Shard]) -> int:
    """Tasks among which the prints of so many rows are divided."""
    return max(1, math.ceil(sum(shard.rows for shard in shards) / BUCKET_ROWS))


def _open(item: SourceInput, source: Source, settings: BuildSettings) -> Opened:
    limit = item.rows(settings.limit)
    if item.own is not None:
        place = Place(source.name, source.licence, source.lang, item.own.revision, turns=settings.turns)
        return Opened(row_batches(item.own.rows(limit)), place)
    return open_source(
        source, item.input, revision=item.revision, turns=settings.turns, limit=limit, seed=settings.seed
    )


def _evaluation_tasks(items: Sequence[SourceInput], settings: BuildSettings) -> Tasks:
    """The evaluation tasks to look for: those that were named, and those among the sources."""
    tasks = load_references(settings.against)
    for item in items:
        if item.own is not None and item.source.split == "test":
            tasks += tasks_of(row for row in item.own.records() if isinstance(row, Record))
        elif item.source.split == "test":
            rows = read_source(item.name, item.input, revision=item.revision, limit=item.rows(settings.limit))
            tasks += tasks_of(row for row in rows if isinstance(row, Record))
    return tasks


def _has_langid() -> bool:
    return importlib.util.find_spec("langid") is not None
