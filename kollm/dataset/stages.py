"""The stages of a build over its shards, in their order:

    prepare -> repeats -> near -> decide -> recall -> (count -> buy) -> bills -> finish -> write

Each is a list of tasks that an executor runs; a task reads what the stages before wrote and writes its own result whole.
Before buying nothing is spent; what was bought before is recalled and finished in one go, and what is left is counted. What
is bought is bought by the driving process, shard by shard; every other task (tasks.py, repeats.py, decide.py, remaining.py, bills.py, parts.py)
is a function of a Build and a number, and runs anywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial

from kollm.core.counting import counted
from kollm.core.errors import InputError
from kollm.core.progress import Progress, say
from kollm.dataset.bills import recall_bills, settle_bills
from kollm.dataset.build import Build
from kollm.dataset.decide import decide, read_summary, summaries
from kollm.dataset.executors import Executor, Stage
from kollm.dataset.folder import Part
from kollm.dataset.parts import list_files, part_of, write_file
from kollm.dataset.remaining import Remaining, count_shard, remaining_of
from kollm.dataset.repeats import find_near, find_repeats
from kollm.dataset.settings import REJECTED_PART, Tally
from kollm.dataset.tasks import KEPT, LEFT_OUT, REJECTED, finish_shard, prepare_shard, recall_shard, translate_shard
from kollm.services.budget import Budget
from kollm.services.ledger import Ledger
from kollm.translate import Translator, translate_stream


def run_before_spending(build: Build, executor: Executor, tally: Tally) -> None:
    """Prepare all rows and decide which are not to be translated.

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
    leaks = []
    for number, (prepared, decided) in enumerate(
        zip(summaries(build, "prepared"), summaries(build, "decided"), strict=True)
    ):
        name = build.preparing[build.shard(number).source].source.name
        tally.read[name] += prepared["rows"]
        tally.records[name] += prepared["records"] + prepared["left_out"]
        tally.mended.update(prepared["notes"])
        if decided["renamed"]:
            tally.mended["double_id_renamed"] += decided["renamed"]
        leaks += decided["leaks"]
    _judge_leaks(build, leaks, tally)


def recall_bought(build: Build, executor: Executor, stage: str = "recall") -> None:
    """Translate and finish in workers the shards that were bought before, whole.

    Args:
        build: the build, after `run_before_spending`.
        executor: who has the workers.
        stage: name of the stage; another one where more was bought since.
    """
    if build.ledger is not None and _to_buy(build):
        _run(build, executor, stage, build.shards, recall_shard)


def count_remaining(build: Build, executor: Executor) -> list[Remaining]:
    """What is left to translate of each source, the shards that are translated left out."""
    _run(build, executor, "count", build.shards, count_shard)
    remaining = [Remaining()] * len(build.preparing)
    for number in range(build.shards):
        source = build.shard(number).source
        remaining[source] = remaining[source].plus(remaining_of(build, number))
    return remaining


def announce(build: Build, engines: Sequence[Translator | None], executor: Executor) -> None:
    """Say what is about to be spent, and with whom."""
    if not _to_buy(build):
        return
    for plan, engine, left in zip(build.finishing, engines, count_remaining(build, executor), strict=True):
        if engine is not None and engine.kept and left.characters:
            say(
                f"{plan.source.name}: {counted(left.characters, 'character')} of {counted(left.rows, 'row goes', 'rows go')} to "
                f"{engine.name}, {getattr(engine, 'endpoint', engine.base_url)}; the text leaves this machine, unless the ledger has it."
            )


def run_translation(
    build: Build, engines: Sequence[Translator | None], executor: Executor, budget: Budget, ledger: Ledger | None
) -> float:
    """Buy what is left to translate, in this process, shard by shard, since a service's rate limit is the bound.

    Returns:
        USD that the translation of all rows has cost, whoever bought it.
    """
    bought, left = _bought(build), _to_buy(build)
    if not bought:
        return 0.0
    if left:
        if budget.capped and len(left) < len(bought):
            with nullcontext(ledger) if ledger is not None else Ledger.open() as book:
                recall_bills(build, sorted({*bought} - {*left}), budget, book)
        _buy(build, engines, left, budget, ledger)
    _run(build, executor, "bills", build.buckets, settle_bills)
    return sum(float(read_summary(build, "repaid", bucket)["cost"]) for bucket in range(build.buckets))


def _bought(build: Build) -> list[int]:
    """The shards whose translation is bought."""
    return [n for n in range(build.shards) if build.finishing[build.shard(n).source].translation == "bought"]


def _to_buy(build: Build) -> list[int]:
    """Those of them that are not translated yet."""
    return [number for number in _bought(build) if not build.is_translated(number)]


def _buy(
    build: Build, engines: Sequence[Translator | None], shards: Sequence[int], budget: Budget, ledger: Ledger | None
) -> None:
    with Progress("translate", len(shards), "shard") as progress:
        for number in shards:
            source = build.shard(number).source
            engine, router = engines[source], build.preparing[source].router
            assert engine is not None, "what is bought has an engine"
            mode = build.finishing[source].mode
            buy = partial(translate_stream, translator=engine, mode=mode, ledger=ledger, budget=budget, router=router)
            translate_shard(build, number, buy)
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
        rows[part] += finished[KEPT]
        rows[REJECTED_PART] += finished[REJECTED] + finished[LEFT_OUT]
        tally.dropped.update(finished["reasons"])
        tally.flags.update(finished["flags"])
        tally.characters += finished["characters"]
        leaks += [leak for leak in finished["leaks"] if leak not in known]
        for where, licences in ((part, finished["licences"][0]), (REJECTED_PART, finished["licences"][1])):
            tally.licences.setdefault(where, set()).update(licences)
    if any(plan.leaks == "refuse" for plan in build.finishing) and leaks:
        raise leak_error(leaks)
    tally.leaks += leaks
    _run(build, executor, "write", list_files(build), write_file)
    return {part: count for part, count in rows.items() if count}


def reasons_by_source(build: Build) -> dict[str, Counter[str]]:
    """How many rows of each source are to be left out so far for each reason, without its detail."""
    found: dict[str, Counter[str]] = {plan.source.name: Counter() for plan in build.preparing}
    for number, decided in enumerate(summaries(build, "decided")):
        found[build.preparing[build.shard(number).source].source.name].update(decided["reasons"])
    return found


def leak_error(leaks: Sequence[str]) -> InputError:
    """The error of a build that found evaluation tasks among its rows."""
    shown = "; ".join(leaks[:3]) + ("; ..." if len(leaks) > 3 else "")
    return InputError(
        f"{counted(len(leaks), 'row holds', 'rows hold')} a task of the evaluation set ({shown}) - drop them with --leaks drop (data.leaks in a recipe), "
        "or keep them with --leaks keep; nothing was written."
    )


def _run(build: Build, executor: Executor, name: str, tasks: int, work: Callable[[Build, int], int | None]) -> None:
    executor.run(Stage(name, tasks, partial(work, build), build.folder))


def _judge_leaks(build: Build, leaks: Sequence[str], tally: Tally) -> None:
    """Refuse, drop or keep what leaks in the source's own language, before it is translated."""
    policies = {plan.leaks for plan in build.finishing}
    if leaks and "refuse" in policies:
        raise leak_error(leaks)
    if "keep" in policies:
        tally.leaks.extend(leaks)
