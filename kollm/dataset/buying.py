"""Workers that buy: with servers of one's own no rate limit is shared, so each buys for its shards, in a ledger of its own.

The ledgers are merged into the user's, and the build then takes what it needs from there, as after any purchase: which
worker bought a text changes nothing, and nothing that was answered is lost. The caps are divided among the shards; what a
shard leaves unused is divided anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from kollm.core.errors import InputError
from kollm.core.progress import say
from kollm.dataset.build import Build
from kollm.dataset.decide import read_summary, write_summary
from kollm.dataset.executors import Executor, Stage
from kollm.dataset.tasks import kept_records
from kollm.services.budget import Budget, CapError
from kollm.services.ledger import Ledger
from kollm.services.ledger.transfer import WorkerLedger, copy_ledger, merge_ledger
from kollm.translate import translate_stream
from kollm.translate.engines import make_translator

LEDGERS = "ledgers"
"""Folder of the workers' ledgers, one a shard, in the work folder."""
_KNOWN = "known.copy"
"""There too: what the user's ledger had when the buying began."""


@dataclass(frozen=True, slots=True)
class Buyers:
    """How workers make their engines.

    Attributes:
        engine: name of the engine.
        options: of its class.
        servers: of one's own, which serve the same model; a shard is sent to one of them. The first names them in the
            ledger.

    Raises:
        InputError: the engine is a service whose rate limit is the bound.
    """

    engine: str
    options: Mapping[str, Any] = field(default_factory=dict)
    servers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.engine not in ("openai", "local"):
            raise InputError(
                f"Each worker can buy from servers of your own (--translator openai with --server), or load a model (local); of "
                f"'{self.engine}' one process buys."
            )
        if self.servers and self.engine != "openai":
            raise InputError(f"--server names an OpenAI-compatible server, and the translator is '{self.engine}'.")

    def engine_options(self, number: int = 0) -> dict[str, Any]:
        """The options of the engine that buys for a shard."""
        if not self.servers:
            return dict(self.options)
        server = self.servers[number % len(self.servers)]
        return {**self.options, "base_url": self.servers[0], "client_options": {"server": server}}


@dataclass(frozen=True, slots=True)
class _Share:
    """What a shard may spend."""

    characters: int | None
    cost: float | None


def buy_in_workers(build: Build, buyers: Buyers, executor: Executor, budget: Budget, ledger: Ledger | None) -> None:
    """Buy what the shards need, and put it into the user's ledger.

    Args:
        build: the build, after `decide`.
        buyers: how workers make their engines.
        executor: who has the workers.
        budget: the caps; nothing is counted in it, since the build counts what it takes from the ledger.
        ledger: the user's; None for the default one.

    Raises:
        KollmError: a server or a task failed; what was answered is in the ledger.
    """
    folder = build.folder / LEDGERS
    folder.mkdir(exist_ok=True)
    engine = make_translator(buyers.engine, **buyers.engine_options())
    with nullcontext(ledger) if ledger is not None else Ledger.open() as book:
        copy_ledger(book, ("translate", engine.name, engine.model), folder / _KNOWN)
    turn = 1
    while todo := _unfinished(build):
        share = _share(build, budget, len(todo))
        while _ended(build, turn):
            turn += 1
        before = _spent(build)
        stage = Stage(f"buy-{turn}", build.shards, partial(_buy_shard, build, buyers, share), build.folder)
        try:
            executor.run(stage)
        finally:
            merge_bought(build.folder, ledger)
        if not budget.capped or _spent(build) == before:
            return


def merge_bought(folder: Path, ledger: Ledger | None) -> None:
    """Put what the workers of a build bought into the user's ledger; also of a build that was killed.

    Args:
        folder: the build's work folder.
        ledger: the user's; None for the default one.
    """
    paths = sorted((folder / LEDGERS).glob("*.sqlite3"))
    if not paths:
        return
    with nullcontext(ledger) if ledger is not None else Ledger.open() as book:
        added = 0
        for path in paths:
            with Ledger.open(path, alone=True) as other:
                added += merge_ledger(book, other)
    if added:
        say(f"{added:,} answers that workers bought are in the ledger now.")


def _buy_shard(build: Build, buyers: Buyers, share: _Share, number: int) -> int:
    """Task: what a shard needs, bought into the shard's ledger, as far as its share goes."""
    source = build.shard(number).source
    if number not in _unfinished(build, [number]):
        return 0
    engine = make_translator(buyers.engine, **buyers.engine_options(number))
    budget, rows, finished = Budget(share.characters, share.cost), 0, True
    folder = build.folder / LEDGERS
    with (
        Ledger.open_copy(folder / _KNOWN) as known,
        WorkerLedger.open(folder / f"{number:05d}.sqlite3", alone=True) as ledger,
    ):
        ledger.known = known
        outcomes = translate_stream(
            kept_records(build, number),
            engine,
            mode=build.finishing[source].mode,
            ledger=ledger,
            budget=budget,
            router=build.preparing[source].router,
        )
        try:
            for _ in outcomes:
                rows += 1
        except CapError:
            finished = False
    spent = budget.spending()
    cost, characters = spent.cost + spent.lost.cost, spent.characters + spent.lost.characters
    write_summary(build, "bought", number, {"finished": finished, "cost": cost, "characters": characters})
    return rows


def _bought(build: Build) -> list[int]:
    return [number for number in range(build.shards) if build.path("bought", number, "json").is_file()]


def _unfinished(build: Build, among: Sequence[int] | None = None) -> list[int]:
    """The shards that are to be bought and are not bought whole."""
    numbers = range(build.shards) if among is None else among
    return [
        number
        for number in numbers
        if build.finishing[build.shard(number).source].translation == "bought"
        and not build.path("translated", number).is_file()
        and not (build.path("bought", number, "json").is_file() and read_summary(build, "bought", number)["finished"])
    ]


def _ended(build: Build, turn: int) -> bool:
    done = build.folder / "done" / f"buy-{turn}"
    return done.is_dir() and sum(1 for _ in done.glob("[0-9]*")) == build.shards


def _spent(build: Build) -> tuple[int, float]:
    summaries = [read_summary(build, "bought", number) for number in _bought(build)]
    return sum(item["characters"] for item in summaries), sum(item["cost"] for item in summaries)


def _share(build: Build, budget: Budget, shards: int) -> _Share:
    """An equal part, for each shard that is not bought whole, of what the others leave of the caps."""
    unfinished = set(_unfinished(build))
    whole = [read_summary(build, "bought", number) for number in _bought(build) if number not in unfinished]
    characters, cost = budget.max_characters, budget.max_cost
    if characters is not None:
        characters = max(0, characters - sum(item["characters"] for item in whole)) // shards
    if cost is not None:
        cost = max(0.0, cost - sum(item["cost"] for item in whole)) / shards
    return _Share(characters, cost)
