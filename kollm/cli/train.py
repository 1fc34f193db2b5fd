"""`kollm plan`, `kollm train` and `kollm merge`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from kollm.cli.overrides import TRL_NAMES, trl_options, trl_overrides
from kollm.cli.own import DATASET, own_from, own_options
from kollm.core.counting import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kollm.core.records import Record
    from kollm.hub.checkpoints import Pushes
    from kollm.recipe.schema import GivenDataset, Recipe
_SET = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one value of the recipe.")


@click.command()
@click.argument("recipe", required=False)
@click.option("--base", "model", help="A base to plan for without a recipe: a folder or ORG/NAME.")
@_SET
@click.option("--gpu", default="a100-80gb", show_default=True, help="Kind of GPU; an unknown one lists the known.")
@click.option("--gpus", default=4, show_default=True, type=click.IntRange(1), help="Number of GPUs.")
@click.option("--config", help="Accelerate config that it is to run with; decides what is shared between GPUs.")
@click.option("--rows", type=click.IntRange(1), help="Rows of the dataset; default: the paper's three sources.")
@click.option("--tokens-per-row", type=click.IntRange(1), help="Mean tokens of a row; default: an assumption.")
def plan(
    recipe: str | None,
    model: str | None,
    overrides: tuple[str, ...],
    gpu: str,
    gpus: int,
    config: str | None,
    rows: int | None,
    tokens_per_row: int | None,
) -> None:
    """Memory, tokens per second and hours that a recipe needs.

    From shapes alone: no network, no weights. For LoRA on GPT-NeoX the figures are held against an H100; the rest is
    counted, see docs/train.md.
    """
    from kollm.recipe.load import load_recipe
    from kollm.train.check import check_recipe, sharding_of
    from kollm.train.gpus import GPUS
    from kollm.train.plan import ROWS, TOKENS_PER_ROW, make_plan

    loaded = load_recipe(recipe, overrides) if recipe else _made(model, overrides)
    check_recipe(loaded, config)
    made = make_plan(
        loaded,
        gpu,
        gpus,
        sharding=sharding_of(config) if config else "ddp",
        rows=rows or ROWS,
        tokens_per_row=tokens_per_row or TOKENS_PER_ROW,
    )
    gib = 2**30
    click.echo(
        f"{loaded.name} on {gpus} x {gpu}: {made.facts.parameters:,} parameters, {made.trainable:,} of them trained"
    )
    for part, size in made.memory._asdict().items():
        click.echo(f"  {part:<12}{size / gib:8.1f} GiB")
    verdict = "fits" if made.fits else "does not fit"
    click.echo(
        f"  {'total':<12}{made.memory.total / gib:8.1f} of {GPUS[gpu].memory / gib:.1f} GiB: {verdict} ({made.basis[0]})"
    )
    if not made.fits:
        click.echo(f"  to make it fit: {made.fix or 'no single change does - use a larger card, or a smaller base'}")
    click.echo(
        f"  {made.flop_per_token / 1e9:.1f} GFLOP a token, about {made.tokens_per_second:,.0f} tokens a second ({made.basis[1]})"
    )
    click.echo(
        f"  about {made.hours:.1f} hours for {counted(rows or ROWS, 'row')} of {counted(tokens_per_row or TOKENS_PER_ROW, 'token')}"
    )
    if loaded.method != "sft":
        click.echo(
            f"  method {loaded.method}: a row is a pair, two such sequences; passes without a gradient are counted in"
        )
    if made.compile_hours:
        click.echo(
            f"  trainer.torch_compile=true would save about {made.compile_hours:.1f} of them, its start included"
        )


@click.command()
@click.argument("recipe", required=False)
@click.option(
    "--dataset",
    "datasets",
    multiple=True,
    metavar=DATASET,
    help="Dataset folder, Hub id, or rows of yours: a file, a folder, or - for standard input; several make a mixture.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder for the adapter.")
@click.option(
    "--config", default="single_gpu", show_default=True, help="Accelerate config: a shipped one's name, or a file."
)
@click.option("--processes", type=click.IntRange(1), help="Number of processes, if not the config's.")
@click.option("--base", "model", help="Base model: a folder or ORG/NAME; with a recipe, the folder of its base.")
@click.option("--start", metavar="ADAPTER", help="Adapter that training starts from, and that preferences are held to.")
@click.option("--sweep", metavar="KEY=A,B,C", help="Train once for each value, into OUTPUT/KEY-VALUE.")
@click.option("--dry-run", is_flag=True, help="Make a dataset of rows of yours, print the command and stop.")
@click.option(
    "--push-to", metavar="ORG/NAME", help="Publish each checkpoint on the Hub while it trains, then the adapter."
)
@click.option("--private", is_flag=True, help="With --push-to: only you and your organisation may see it.")
@click.option("--smoke", is_flag=True, help="Train a tiny random model of the same architecture for 5 steps instead.")
@own_options
@trl_options
@_SET
def train(
    recipe: str | None,
    datasets: tuple[str, ...],
    output: Path | None,
    config: str,
    processes: int | None,
    model: str | None,
    start: str | None,
    sweep: str | None,
    dry_run: bool,
    push_to: str | None,
    private: bool,
    smoke: bool,
    overrides: tuple[str, ...],
    **options: Any,
) -> None:
    """Print, then run, the accelerate launch line of a recipe.

    Without RECIPE, one is made for --base MODEL and the rows, and kept beside the output.

    Killed at any moment, the same command goes on from the last checkpoint.
    """
    from kollm.core.errors import InputError, ServiceError
    from kollm.core.progress import say
    from kollm.dataset.given import given_datasets
    from kollm.dataset.pairs.dataset import one_of_pairs
    from kollm.recipe.load import load_recipe
    from kollm.train.check import check_recipe
    from kollm.train.launch import Machine, check_launch, launch, launch_command

    overrides = (*overrides, *trl_overrides(options))
    if push_to and (sweep or smoke):
        raise click.UsageError(f"--push-to publishes one training - leave out {'--sweep' if sweep else '--smoke'}.")
    if private and not push_to:
        raise click.UsageError("--private is for --push-to - leave it out.")
    if smoke:
        _refuse_beside_smoke(click.get_current_context())
        _smoke(load_recipe(recipe, overrides) if recipe else _made(model, overrides), output)
        return
    given, seed = _given(recipe, datasets, overrides, model)
    method = _method(recipe, overrides)
    if not given or output is None:
        raise click.UsageError("Missing option '--dataset' or '-o': both are needed, except with --smoke.")
    base = Path(model) if recipe and model else None
    try:
        if method == "sft":
            dataset = given_datasets(given, output.absolute().parent, own_from(options), seed)
        else:
            dataset = one_of_pairs(given, output.absolute().parent, own_from(options), method)
    except (InputError, ServiceError) as error:
        if not dry_run or recipe is None or not _may_come(given):
            raise
        dataset = given[0].dataset
        say(f"Note: {error} The line below takes '{dataset}' for a dataset that is there when it runs.")
    if recipe is None:
        recipe = _new_recipe(model, dataset, output, method)
    if dry_run and Path(dataset).is_dir():
        _say_rows(load_recipe(recipe, overrides), recipe, dataset, overrides)
    for values, folder in _sweep(sweep, output):
        chosen = (*overrides, *values)
        loaded = load_recipe(recipe, chosen)
        if dry_run:
            check_recipe(loaded, config, base)
        else:
            check_launch(loaded, dataset, config=config, base=base, output=folder)
        command = launch_command(recipe, dataset, folder, Machine(config, processes), base=base, overrides=chosen)
        if start is not None:
            command += ["--start", start]
        if push_to is not None:
            command.append("--outbox")
        click.echo(shlex.join(["accelerate", "launch", *command[3:]]))
        if dry_run:
            continue
        if push_to is None:
            launch(command)
        else:
            _launch_and_push(command, _pushes(push_to, private, loaded, dataset, base, folder))


def _may_come(given: Sequence[GivenDataset]) -> bool:
    """Whether what a dry run does not find may be a dataset that is still to be built, or on a Hub out of reach."""
    from kollm.sources.own.reading import PACKED, READERS

    path = Path(given[0].dataset)
    return len(given) == 1 and not path.exists() and path.suffix.lower() not in {*READERS, *PACKED}


def _say_rows(recipe: Recipe, name: str, dataset: str, overrides: Sequence[str]) -> None:
    """How much there is to train on, and what tells how long that takes."""
    from kollm.core.progress import say
    from kollm.train.launch import training_rows

    rows = training_rows(recipe, dataset)
    line = f"{dataset}: {counted(rows, 'row' if recipe.method == 'sft' else 'pair')} to train on"
    if not recipe.base.is_toy:
        sets = [part for text in overrides for part in ("--set", text)]
        line += "; memory and hours: " + shlex.join(["kollm", "plan", name, "--rows", str(rows), *sets])
    say(line)


def _pushes(repository: str, private: bool, recipe: Recipe, dataset: str, base: Path | None, output: Path) -> Pushes:
    """What publishes the checkpoints, once all that would stop it was looked for."""
    from huggingface_hub.utils import disable_progress_bars

    from kollm.core.errors import RecipeError
    from kollm.hub.checkpoints import Pushes
    from kollm.hub.preparation import Names

    if recipe.adapter.method == "full":
        raise RecipeError(
            "--push-to publishes adapters, and adapter.method is full - publish the model at the end with `kollm push model`."
        )
    if not sys.stderr.isatty():
        disable_progress_bars()
    pushes = Pushes(output, repository, Names(dataset=dataset, unjudged=True), private)
    pushes.check(str(base or recipe.base.model), recipe.base.revision, dataset)
    return pushes


def _launch_and_push(command: list[str], pushes: Pushes) -> None:
    from kollm.train.launch import launch

    with pushes:
        launch(command)
    pushes.finish()


def _given(
    recipe: str | None, datasets: tuple[str, ...], overrides: tuple[str, ...], model: str | None
) -> tuple[list[GivenDataset], int]:
    """What is trained on, as said here, else in the recipe; and the seed of a draw."""
    from kollm.dataset.mixture import parse_given
    from kollm.recipe.load import load_recipe, override
    from kollm.recipe.schema import Base, GivenDataset, Recipe

    data = (
        load_recipe(recipe, overrides) if recipe else override(Recipe(base=Base(model=model or "")), overrides)
    ).data
    if datasets:
        return [parse_given(text) for text in datasets], data.seed
    return [*data.datasets, *([GivenDataset(dataset=data.dataset)] if data.dataset else [])], data.seed


def _method(recipe: str | None, overrides: tuple[str, ...]) -> str:
    """How is trained, as said here, else in the recipe."""
    from kollm.recipe.load import load_recipe, override
    from kollm.recipe.schema import Base, Recipe

    if recipe:
        return load_recipe(recipe, overrides).method
    said = tuple(text for text in overrides if text.startswith("method="))
    return override(Recipe(base=Base(model="")), said).method


def _made(model: str | None, overrides: tuple[str, ...]) -> Recipe:
    """A recipe for a base, before its rows are known."""
    from kollm.recipe.load import override
    from kollm.train.new_recipe import new_recipe

    if model is None:
        raise click.UsageError(
            "Missing argument 'RECIPE' - name a recipe (kollm recipe list), or a base with --base MODEL."
        )
    return override(new_recipe(model, method=_method(None, overrides)), overrides)


def _new_recipe(model: str | None, dataset: str, output: Path, method: str) -> str:
    """Make a recipe for a base and its rows, print it, and keep it beside the output; the file's name."""
    from kollm.dataset.folder import read_records
    from kollm.dataset.preferences import read_preferences
    from kollm.train.new_recipe import new_recipe, recipe_text, save_recipe

    if model is None:
        raise click.UsageError(
            "Missing argument 'RECIPE' - name a recipe (kollm recipe list), or a base with --base MODEL."
        )
    path = output.with_name(f"{output.name}.yaml")
    records: Iterable[Record] = read_records(dataset, split="train")
    if method != "sft":
        records = (pair.record(side) for pair in read_preferences(dataset, "train") for side in ("chosen", "rejected"))
    made = new_recipe(model, records, method=method)
    click.echo(recipe_text(made))
    save_recipe(made, path)
    click.echo(f"recipe: {path}")
    return str(path)


def _refuse_beside_smoke(context: click.Context) -> None:
    taken = ["recipe", "output", "overrides", "smoke", *TRL_NAMES]
    if context.params["recipe"] is None:  # a recipe is made for the base
        taken.append("model")
    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name not in taken and context.get_parameter_source(parameter.name or "") != ParameterSource.DEFAULT
    ]
    if given:
        raise click.UsageError(
            f"--smoke trains a tiny random base on kollm's own rows in this process - leave out {', '.join(given)}."
        )


def _smoke(recipe: Recipe, output: Path | None) -> None:
    import time

    started = time.monotonic()
    from kollm.train.smoke import smoke as run_smoke

    for method, metrics in run_smoke(recipe, output).items():
        losses = ", ".join(f"{entry['loss']:.3f}" for entry in metrics["history"])
        trained = metrics["model"]["trainable_parameters"]
        told = f"{method}, {recipe.adapter.method}, {recipe.quantization}, {trained:,} parameters"
        click.echo(f"smoke: {recipe.name} trains ({told}): loss {losses}")
    click.echo(f"smoke: {time.monotonic() - started:.0f} s")


def _sweep(sweep: str | None, output: Path) -> list[tuple[tuple[str, ...], Path]]:
    if sweep is None:
        return [((), output)]
    key, separator, values = sweep.partition("=")
    if not separator or not all(values.split(",")):
        raise click.UsageError(f"--sweep '{sweep}' is not KEY=A,B,C.")
    return [((f"{key}={value}",), output / f"{key}-{value}") for value in values.split(",")]


@click.command()
@click.argument("adapter")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder for the merged model.")
@click.option("--base", help="Where the base is, if not where the adapter says.")
@click.option("--tolerance", type=float, help="Largest mean difference of log-probabilities, in nats.")
def merge(adapter: str, output: Path, base: str | None, tolerance: float | None) -> None:
    """Merge an adapter into its base in bf16, checked.

    The base is loaded in bf16 whatever it was trained in. What was saved is loaded again and compared with the adapter
    on that base; where they differ by more than the tolerance, nothing is kept.
    """
    from kollm.train.export import TOLERANCE
    from kollm.train.export import merge as run_merge

    parity = run_merge(adapter, output, base=base, tolerance=TOLERANCE if tolerance is None else tolerance)
    click.echo(f"{output}: merged; differs by {parity.mean:.5f} nats a token on average, {parity.largest:.5f} at most")
    click.echo(f"  the adapter itself moves the base by {parity.effect:.5f}")
    if parity.quantised is not None:
        click.echo(
            f"  the quantised base that it was trained on differs from the merged model by {parity.quantised:.5f}"
        )
