"""`kollm push`: publish on the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kollm.core.counting import counted

if TYPE_CHECKING:
    from kollm.hub.preparation import Names


@click.command()
@click.argument("kind", type=click.Choice(["dataset", "adapter", "model", "metric"]))
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("repository", metavar="ORG/NAME", required=False)
@click.option("--private", is_flag=True, help="Only you and your organisation may see it.")
@click.option("--tag", help="Name of the tag [default: the next free v1, v2, ...].")
@click.option("--dry-run", is_flag=True, help="Check everything, list every file and print the card; send nothing.")
@click.option("--base", metavar="ORG/NAME", help="The base's name on the Hub, where it was a folder.")
@click.option("--dataset", metavar="ORG/NAME[@REV]", help="The training data's name on the Hub, where it was a folder.")
@click.option(
    "--eval",
    "evaluation",
    metavar="ORG/NAME[@REV]",
    help="The evaluation set's name on the Hub, where it was a folder.",
)
@click.option(
    "--report", type=click.Path(path_type=Path), help="report.json with its scores [default: the work folder's]."
)
@click.option("--unjudged", is_flag=True, help="Publish a model without scores; its card says so.")
@click.option("--allow", multiple=True, metavar="PLACE", help="A place that looks like a secret and is none.")
def push(
    kind: str,
    folder: Path,
    repository: str | None,
    private: bool,
    tag: str | None,
    dry_run: bool,
    base: str | None,
    dataset: str | None,
    evaluation: str | None,
    report: Path | None,
    unjudged: bool,
    allow: tuple[str, ...],
) -> None:
    """Publish a dataset, adapter, model or metric to the Hub.

    All files go in one commit, which is then tagged; cut off, the same command is run again. HF_TOKEN must have write
    access. FOLDER is demo/dataset, demo/adapter or a merged model; the metric's need not be named.
    """
    from huggingface_hub import get_token

    from kollm.hub import listing, plan_offline, plan_push
    from kollm.hub.preparation import Names
    from kollm.metrics import metric_path

    if repository is None:
        if kind != "metric":
            raise click.UsageError("Missing argument 'ORG/NAME'.")
        folder, repository = Path(metric_path()), str(folder)
    names = Names(base, dataset, evaluation, report, unjudged, allow)
    if dry_run:
        if get_token():
            plans = plan_push(kind, folder, repository, private=private, tag=tag, names=names)
        else:
            plans = plan_offline(kind, folder, repository, tag=tag, names=names)
        for line in listing(plans):
            click.echo(line)
        return
    publish_folder(kind, folder, repository, private=private, tag=tag, names=names)


def publish_folder(
    kind: str, folder: Path, repository: str, *, private: bool, tag: str | None = None, names: Names | None = None
) -> None:
    """Publish a folder, and print revision, tag and the lines that use it."""
    import sys

    from huggingface_hub.utils import disable_progress_bars

    from kollm.hub import push as publish

    if not sys.stderr.isatty():
        disable_progress_bars()
    for published in publish(kind, folder, repository, private=private, tag=tag, names=names):
        state = f"{counted(len(published.sent), 'file')} sent" if published.sent else "nothing had changed"
        click.echo(f"{published.repository}: revision {published.commit}, tag {published.tag} ({state})\n")
        click.echo(published.snippet)
