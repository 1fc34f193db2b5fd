"""Options that say where the tasks of a build run, and `kollm data status`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kollm.cli.tables import table

if TYPE_CHECKING:
    from kollm.dataset.executors import Executor
    from kollm.dataset.executors.settings import ExecutorSettings


def executor_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--executor`, `--workers`, `--slurm` and `--executor-settings`."""
    for option in reversed(
        (
            click.option("--executor", type=click.Choice(["local", "slurm", "ray"]), help="Where the work is done: processes of this machine (default), jobs of a Slurm cluster, workers of a Ray cluster."),
            click.option("--workers", "--processes", "workers", type=click.IntRange(min=0), help="How many at once; on this machine chosen by the input's size."),
            click.option("--slurm", metavar="KEY=VALUE,...", help="What Slurm is told, e.g. partition=cpu,time=02:00:00,mem_per_cpu_gb=8."),
            click.option("--executor-settings", type=click.Path(dir_okay=False), help="YAML file with executor, workers, slurm and ray; options stand over it."),
        )
    ):  # fmt: skip
        function = option(function)
    return function


def settings_from(options: dict[str, Any]) -> ExecutorSettings:
    """What the options say; they leave `options`."""
    from kollm.dataset.executors.settings import parse_pairs, read_settings

    path, slurm = options.pop("executor_settings"), options.pop("slurm")
    pairs = parse_pairs(slurm) if slurm else {}
    return read_settings(Path(path) if path else None, options.pop("executor"), options.pop("workers"), pairs)


def executor_from(settings: ExecutorSettings) -> Executor | None:
    """The executor; None where the build chooses its processes itself."""
    from kollm.dataset.executors.settings import make_executor

    return make_executor(settings)


def shared_place(settings: ExecutorSettings) -> Path | None:
    """Where a command without an output puts its work: with a cluster, in the current folder, which its machines share."""
    return None if settings.executor == "local" else Path.cwd()


@click.command()
@click.argument("folder", type=click.Path(file_okay=False))
@click.option("--log", metavar="STAGE/TASK", help="Show the log of a failed task.")
def status(folder: str, log: str | None) -> None:
    """How far a build has come: tasks done, running and failed by stage, rows a second. FOLDER is its --output."""
    from kollm.dataset.executors.status import read_status, task_log
    from kollm.dataset.folder import MANIFEST
    from kollm.dataset.work import work_place

    work = work_place(Path(folder))
    if not work.is_dir():
        work = Path(folder)
    if log is not None:
        name, _, number = log.partition("/")
        if not number.isdecimal():
            raise click.UsageError(f"--log {log}: write STAGE/TASK, e.g. prepare/3.")
        click.echo(task_log(work, name, int(number)))
        return
    if not (work / "stages").is_dir() and (work / MANIFEST).is_file():
        click.echo(f"{folder} is built; nothing is under way.")
        return
    stages = read_status(work)
    click.echo(
        table(
            {
                "stage": stage.name,
                "tasks": f"{stage.tasks:,}",
                "done": f"{stage.done:,}",
                "running": f"{stage.running:,}",
                "failed": f"{len(stage.failed):,}",
                "rows": f"{stage.rows:,}" if stage.rows else "-",
                "rows/s": f"{stage.rate:,.0f}" if stage.rate else "-",
                "on": stage.executor,
            }
            for stage in stages
        )
    )
    for stage in stages:
        for failure in stage.failed[:5]:
            click.echo(f"{stage.name}/{failure.task}: {failure.sentence}")
