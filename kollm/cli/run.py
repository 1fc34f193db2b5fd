"""`kollm run`: the main job."""

from __future__ import annotations

from pathlib import Path

import click

from kollm.cli.own import DATASET


@click.command(short_help="Everything: dataset, adapter, answers, verdicts, report; resumes.")
@click.argument("recipe")
@click.option(
    "-o", "--output", "folder", required=True, type=click.Path(path_type=Path), help="Work folder; resumes there."
)
@click.option("--eval", "evaluation", help="Dataset folder or ORG/NAME@REVISION to answer, in place of the recipe's.")
@click.option(
    "--dataset",
    "datasets",
    multiple=True,
    metavar=DATASET,
    help="Dataset folder, ORG/NAME@REVISION or rows of yours to train on, in place of building one; several make a mixture.",
)
@click.option("--restart", metavar="STAGE", help="Clear this stage and those after it, and begin again there.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one value of the recipe.")
@click.option("--config", help="Accelerate config for training, e.g. ddp_4gpu [default: what fits this machine].")
@click.option("--processes", type=click.IntRange(1), help="Training processes, in place of the config's.")
@click.option("--limit", type=click.IntRange(1), help="Rows read from each source, and tasks answered.")
@click.option("--max-characters", type=click.IntRange(1), help="Cap on characters sent to a paid translator.")
@click.option("--max-cost", type=float, help="Cap in USD on each paid stage.")
@click.option("--dry-run", is_flag=True, help="Say which stages would run and what would stop them, and do nothing.")
def run(
    recipe: str,
    folder: Path,
    evaluation: str | None,
    datasets: tuple[str, ...],
    restart: str | None,
    overrides: tuple[str, ...],
    config: str | None,
    processes: int | None,
    limit: int | None,
    max_characters: int | None,
    max_cost: float | None,
    dry_run: bool,
) -> None:
    """Run RECIPE from data to report: a shipped name (`kollm recipe list`) or a YAML file.

    Everything that would stop a later stage (a key, a name, a file, a setting) is found before the first one starts. Killed
    or stopped and run again with the same options, it resumes and says what it skips.
    """
    from kollm.dataset.given import with_datasets
    from kollm.recipe.load import load_recipe
    from kollm.run.checks import require_runnable
    from kollm.run.destinations import destinations
    from kollm.run.journal import planned, run_recipe
    from kollm.run.stage import RunOptions

    loaded, dataset = with_datasets(load_recipe(recipe, overrides), datasets)
    options = RunOptions(
        folder=folder,
        evaluation=evaluation,
        dataset=dataset,
        config=config,
        processes=processes,
        limit=limit,
        max_characters=max_characters,
        max_cost=max_cost,
    )
    if dry_run:
        for stage, state in planned(loaded, options, restart):
            click.echo(f"{stage:<16} {state}")
        require_runnable(loaded, options, restart)
        for line in destinations(loaded, bool(dataset or loaded.data.is_given)):
            click.echo(line)
        return
    results = run_recipe(loaded, options, restart)
    click.echo(f"\n{loaded.name} is done. It made:")
    for stage, text in (
        ("dataset", "the Korean dataset: load_dataset reads it"),
        ("adapter", "the adapter, its tokenizer, recipe and metrics"),
        ("pairs", "preference pairs of its samples"),
        ("preferred", "the adapter that was trained on them"),
        ("answers", "what each system answered"),
        ("verdicts", "what the judge said of each answer"),
        ("report", "open this one in a browser"),
    ):
        if stage not in results:
            continue
        location = folder / results[stage].location
        click.echo(f"  {location if location.exists() else results[stage].location!s:<40}  {text}")
