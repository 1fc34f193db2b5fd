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

from kollm.core.counting import counted
from kollm.core.errors import InputError, QuotaError
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


_FEWER = 4
"""By so much fewer shards buy where no part of the cap was large enough for a request."""


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
        QuotaError: a cap leaves no room for the rest.
        KollmError: a server or a task failed. In every case what was answered is in the ledger.
    """
    folder = build.folder / LEDGERS
    folder.mkdir(exist_ok=True)
    engine = make_translator(buyers.engine, **buyers.engine_options())
    with nullcontext(ledger) if ledger is not None else Ledger.open() as book:
        copy_ledger(book, ("translate", engine.name, engine.model), folder / _KNOWN)
    turn, most = 1, build.shards
    while todo := _unfinished(build):
        while _ended(build, turn):
            turn += 1
        shares, before = _shares(build, budget, todo[:most]), _spent(build)
        try:
            executor.run(Stage(f"buy-{turn}", build.shards, partial(_buy_shard, build, buyers, shares), build.folder))
        finally:
            merge_bought(build.folder, ledger)
        if _spent(build) == before:
            if most == 1 and _unfinished(build):
                raise QuotaError(
                    f"Stopped before the cap: workers have bought for USD {before[1]:.4g}, {counted(before[0], 'character')}, and the "
                    "next request may pass it - raise --max-cost or --max-characters and run the same command again; what was "
                    "answered is kept and is not paid for again."
                )
            most = max(1, min(most, len(todo)) // _FEWER)  # a part of the cap may be too small for one request


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
        say(f"{counted(added, 'answer')} that workers bought are in the ledger now.")


def _buy_shard(build: Build, buyers: Buyers, shares: Mapping[int, _Share], number: int) -> int:
    """Task: what a shard needs, bought into the shard's ledger, as far as its share goes."""
    if number not in shares:
        return 0
    source, share = build.shard(number).source, shares[number]
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


def _bought(build: Build, number: int) -> dict[str, Any]:
    """What a shard has cost, and whether it is bought whole."""
    if not build.path("bought", number, "json").is_file():
        return {"finished": False, "cost": 0.0, "characters": 0}
    return read_summary(build, "bought", number)


def _unfinished(build: Build) -> list[int]:
    """The shards that are to be bought and are not bought whole."""
    return [
        number
        for number in range(build.shards)
        if build.finishing[build.shard(number).source].translation == "bought"
        and not build.is_translated(number)
        and not _bought(build, number)["finished"]
    ]


def _ended(build: Build, turn: int) -> bool:
    done = build.folder / "done" / f"buy-{turn}"
    return done.is_dir() and sum(1 for _ in done.glob("[0-9]*")) == build.shards


def _spent(build: Build) -> tuple[int, float]:
    found = [_bought(build, number) for number in range(build.shards)]
    return sum(item["characters"] for item in found), sum(item["cost"] for item in found)


def _shares(build: Build, budget: Budget, shards: Sequence[int]) -> dict[int, _Share]:
    """For each of these shards what it has spent, and an equal part of what is left of the caps."""
    characters, cost = _spent(build)
    more_characters = None if budget.max_characters is None else max(0, budget.max_characters - characters)
    more_cost = None if budget.max_cost is None else max(0.0, budget.max_cost - cost)
    shares = {}
    for number in shards:
        own = _bought(build, number)
        shares[number] = _Share(
            None if more_characters is None else own["characters"] + more_characters // len(shards),
            None if more_cost is None else own["cost"] + more_cost / len(shards),
        )
    return shares
