"""`kollm data`: plan, build and check Korean instruction datasets."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kollm.cli.corpus import corpus
from kollm.cli.executors import executor_from, executor_options, settings_from, shared_place, status
from kollm.cli.mix import mix
from kollm.cli.own import own_from, own_options
from kollm.cli.pairs import pairs
from kollm.cli.review import review
from kollm.cli.synthesize import synthesize
from kollm.cli.translation import judge
from kollm.core.counting import counted
from kollm.recipe.engines import TRANSLATORS

if TYPE_CHECKING:
    from kollm.dataset.buying import Buyers
    from kollm.dataset.plan import DataPlan
    from kollm.dataset.settings import SourceInput
    from kollm.recipe.schema import BuildSettings


@click.group()
def data() -> None:
    """Plan, build and check Korean instruction datasets."""


data.add_command(corpus)
data.add_command(judge)
data.add_command(mix)
data.add_command(pairs)
data.add_command(review)
data.add_command(status)
data.add_command(synthesize)


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    """What `plan` and `build` share."""
    for option in reversed(
        (
            click.argument("sources", nargs=-1, required=True),
            click.option(
                "--input",
                "inputs",
                multiple=True,
                metavar="[NAME=]PATH",
                help="File, Hub id or 'sample'; without it, the source's place on the Hub.",
            ),
            own_options,
            click.option("--revision", "revisions", multiple=True, metavar="[NAME=]COMMIT", help="Commit on the Hub."),
            click.option("--turns", type=click.Choice(["conversation", "pairs", "first"]), default="conversation", show_default=True, help="A conversation as one row, one row a pair, or its first pair."),
            click.option("--privacy", type=click.Choice(["auto", "mask", "drop", "off"]), default="auto", show_default=True, help="Personal data: auto masks it in shared conversations alone, mask and drop look into every source."),
            click.option("--near", type=click.FloatRange(0.5, 1.01), default=0.8, show_default=True, help="Least similarity of a near duplicate; 1.01 for none."),
            click.option("--against", multiple=True, default=("human_eval",), show_default=True, metavar="SET", help="Evaluation set to look for: human_eval, sample, a file, folder or Hub id; 'none' for none."),
            click.option("--limit", type=click.IntRange(min=1), help="Rows to read of each source."),
            click.option("--seed", type=int, default=0, show_default=True, help="Of the sample of a huge source."),
        )
    ):  # fmt: skip
        function = option(function)
    return function


@data.command()
@_options
@click.option("--translator", type=click.Choice(TRANSLATORS), default="deepl", show_default=True)
@click.option("--price", type=click.FloatRange(min=0), help="USD for a million characters, in place of the engine's.")
@executor_options
def plan(sources: tuple[str, ...], translator: str, price: float | None, **options: Any) -> None:
    """Rows, characters, cost and time of a build, before anything is spent."""
    from kollm.dataset.plan import plan_build

    where = settings_from(options)
    settings = _settings(options, leaks="drop")
    result = plan_build(
        _inputs(sources, options),
        translator=translator,
        settings=settings,
        price=price,
        executor=executor_from(where),
        place=shared_place(where),
    )
    _show_plan(result)


@data.command()
@_options
@click.option(
    "--memory", "memories", multiple=True, metavar="[NAME=]PATH", help="Korean rows for the memory translator."
)
@click.option("--translator", type=click.Choice(TRANSLATORS), default="memory", show_default=True)
@click.option("--model", help="Model of the translator, where it has a choice.")
@click.option("--mode", type=click.Choice(["row", "field"]), default="row", show_default=True, help="A row as one document, or its fields apart.")  # fmt: skip
@click.option("--filters", default="default", show_default=True, help="default, paper, paper-all or none.")
@click.option("--leaks", type=click.Choice(["refuse", "drop", "keep"]), default="refuse", show_default=True, help="Rows that hold an evaluation task.")  # fmt: skip
@click.option("--corrections", type=click.Path(), default="", help="Review file, or folder of decisions (kollm app), to replay.")  # fmt: skip
@click.option("--keep-english", is_flag=True, help="Each translated row is followed by its English original.")
@click.option("--fresh-answers", is_flag=True, help="Translate questions alone; answers come from `synthesize regenerate`.")  # fmt: skip
@click.option("--max-characters", type=click.IntRange(min=0), help="Cap on the characters billed.")
@click.option("--max-cost", type=click.FloatRange(min=0), help="Cap on their price in USD.")
@executor_options
@click.option("--server", "servers", multiple=True, metavar="URL", help="OpenAI-compatible server of your own, for --translator openai; with one or several, each worker buys from one of them.")  # fmt: skip
@click.option("--each-worker-buys", is_flag=True, help="Every worker loads the model of --translator local, or asks your --server, for its part.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show the plan and stop.")
@click.option("--push", "repository", metavar="ORG/NAME", help="Check it and publish it on the Hub, once it is built.")
@click.option("--private", is_flag=True, help="With --push: only you and your organisation may see it.")
@click.option("-o", "--output", required=True, type=click.Path(), help="Folder of the dataset.")
def build(
    sources: tuple[str, ...],
    translator: str,
    model: str | None,
    filters: str,
    max_characters: int | None,
    max_cost: float | None,
    dry_run: bool,
    repository: str | None,
    private: bool,
    output: str,
    servers: tuple[str, ...],
    each_worker_buys: bool,
    **options: Any,
) -> None:
    """Build a dataset folder: read, translate, filter, write; with --push, publish it.

    Stopped anywhere, the same command goes on: what was translated is not bought again, and what the Hub has is not sent again.
    """
    from kollm.dataset.folder import said_place
    from kollm.dataset.pipeline import build_dataset
    from kollm.dataset.plan import plan_build

    names = ("mode", "leaks", "corrections", "keep_english", "fresh_answers")
    where = settings_from(options)
    settings = _settings(options, filters=filters, **{name: options[name] for name in names})
    inputs = _inputs(sources, options)
    if private and repository is None:
        raise click.UsageError("--private is for --push - leave it out.")
    executor = executor_from(where)
    if dry_run:
        what_becomes = said_place(Path(output))
        place = shared_place(where)
        _show_plan(plan_build(inputs, translator=translator, settings=settings, executor=executor, place=place))
        click.echo(what_becomes)
    if repository is not None:
        _require_pushable(repository, private, inputs)
    if dry_run:
        return
    buyers = _buyers(translator, model, servers) if servers or each_worker_buys else None
    report = build_dataset(
        inputs,
        translator=translator,
        translator_model=model,
        output=output,
        max_characters=max_characters,
        max_cost=max_cost,
        executor=executor,
        buyers=buyers,
        settings=settings,
    )
    for config, rows in report.rows.items():
        click.echo(f"{config}: {counted(rows, 'row')}")
    for reason, rows in report.dropped.items():
        click.echo(f"left out, {reason}: {rows:,}")
    if report.leaks:
        click.echo(f"kept although they hold an evaluation task: {len(report.leaks):,}")
    if report.untranslated:
        fields = ", ".join(f"{field} of {counted(rows, 'row')}" for field, rows in report.untranslated.items())
        click.echo(f"kept as in English although they hold words: {fields}")
    if (other := report.comparison) is not None:
        click.echo(
            f"of {counted(other.rows, 'row')} compared, --filters {other.filters} would drop {other.drops:,}, "
            f"{other.drops_kept:,} of them kept here, and keep {other.keeps_dropped:,} of those dropped here"
        )
    if report.bill:
        click.echo(report.bill)
    click.echo(f"{report.folder}")
    if repository is not None:
        from kollm.cli.hub import publish_folder

        publish_folder("dataset", report.folder, repository, private=private)


def _require_pushable(repository: str, private: bool, inputs: list[SourceInput]) -> None:
    """Refuse what the Hub would not take, before anything is translated for it."""
    from kollm.core.errors import InputError
    from kollm.hub.publish import find_target

    for item in inputs:
        if item.own is not None and not item.own.options.licence:
            raise InputError(
                f"The rows '{item.own.where}' name no licence, which a push needs - name it with --licence, e.g. --licence CC-BY-4.0."
            )
    find_target("dataset", repository, private)


@data.command()
@click.argument("folder")
@own_options
@click.option("--against", multiple=True, default=("human_eval",), show_default=True, metavar="SET", help="human_eval, sample, a file, folder or Hub id.")  # fmt: skip
@click.option("--show", type=click.IntRange(min=0), default=20, show_default=True, help="Leaks to list.")
@executor_options
def leaks(folder: str, against: tuple[str, ...], show: int, **options: Any) -> None:
    """Overlap of a dataset, or of rows of yours, with evaluation sets, in Korean and in English. Exit code 1 if there is any."""
    from kollm.dataset.given import given_records, is_own
    from kollm.dataset.leak_check import find_leaks, load_references
    from kollm.dataset.leak_stage import find_leaks_by

    where = settings_from(options)
    executor = executor_from(where)
    tasks = load_references(against)
    records = given_records(folder, own_from(options), split="train")
    if executor is None:
        found = list(find_leaks(records, tasks))
    else:
        with closing(executor):
            rows = Path(folder) if Path(folder).is_dir() and not is_own(folder) else records
            found = find_leaks_by(executor, rows, tasks, shared_place(where))
    click.echo(
        f"{counted(len(found), 'row holds', 'rows hold')} one of the {counted(len(set(tasks.ids)), 'task')} of {', '.join(against)}"
    )
    for leak in found[:show]:
        click.echo(f"{leak.row}: {leak.task} ({leak.share:.0%})")
    if len(found) > show:
        click.echo(f"... and {len(found) - show:,} more (--show)")
    if found:
        raise SystemExit(1)


def _buyers(translator: str, model: str | None, servers: tuple[str, ...]) -> Buyers:
    from kollm.dataset.buying import Buyers
    from kollm.translate.engines import model_options

    return Buyers(translator, model_options(translator, model), servers)


def _settings(options: dict[str, Any], **more: Any) -> BuildSettings:
    from kollm.dataset.settings import make_settings

    names = ("turns", "privacy", "near", "limit", "seed")
    against = tuple(name for name in options["against"] if name != "none")
    return make_settings(**{name: options[name] for name in names}, against=against, **more)


def _inputs(sources: tuple[str, ...], options: dict[str, Any]) -> list[SourceInput]:
    from kollm.dataset.settings import SourceInput
    from kollm.sources.own import OWN, read_own

    paths = _by_source(options["inputs"], sources, "--input")
    revisions = _by_source(options["revisions"], sources, "--revision")
    memories = _by_source(options.get("memories", ()), sources, "--memory")
    said = own_from(options)
    inputs = []
    for name in sources:
        item = SourceInput(name, paths.get(name), revisions.get(name), memories.get(name))
        if name == OWN and item.input is not None:
            own = read_own(item.input, said, item.revision)
            item = item._replace(name=own.options.name, own=own)
        inputs.append(item)
    return inputs


def _by_source(values: tuple[str, ...], sources: tuple[str, ...], option: str) -> dict[str, str]:
    """`PATH` for the only source or for `sample`, `NAME=PATH` for one of several."""
    paths: dict[str, str] = {}
    for value in values:
        name, separator, path = value.partition("=")
        if separator and name in sources:
            paths[name] = path
        elif len(sources) == 1 or value == "sample":
            paths.update({source: value for source in sources if source not in paths})
        else:
            raise click.UsageError(f"{option} {value}: with several sources write {option} NAME={value}.")
    return paths


def _show_plan(plan: DataPlan) -> None:
    split = any(row.records != row.read for row in plan.rows)
    read_as = ("read", "records") if split else ("read",)
    head = ("source", *read_as, "unusable", "duplicates", "leaks", "routed out", "rows", "characters", "requests", "time", "USD")  # fmt: skip
    lines: list[tuple[str, ...]] = [head]
    for row in plan.rows:
        read = (row.read, row.records) if split else (row.read,)
        counts = (*read, row.rejected, row.duplicates, row.leaks, row.routed, row.rows, row.characters, row.requests)
        time = "-" if row.seconds is None else f"{row.seconds / 60:,.1f} min"
        cost = "?" if row.cost is None else f"{row.cost:,.2f}"
        lines.append((row.name, *(f"{count:,}" for count in counts), time, cost))
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        first, *rest = (cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in enumerate(zip(line, widths, strict=True)))  # fmt: skip
        click.echo("  ".join([first, *rest]))
    costs = [row.cost for row in plan.rows]
    known = [cost for cost in costs if cost is not None]
    total = f"USD {sum(known):,.2f}" if len(known) == len(costs) else "unknown: the service bills tokens"
    click.echo(f"Cost in all: {total}.")
    if plan.service and sum(row.characters for row in plan.rows):
        click.echo(f"The text leaves this machine for {plan.service}: {plan.endpoint}.")
    for row in plan.rows:
        if row.personal:
            found = ", ".join(f"{count:,} {name.removesuffix('_masked')}" for name, count in plan.masked.items())
            click.echo(f"{row.name} may carry personal data; masked before sending: {found or 'none found'}.")
