"""`kollm bench`: public benchmarks of a model or an adapter, through lm-evaluation-harness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kollm.core.counting import counted


@click.command(short_help="Public benchmarks: KMMLU, HAE-RAE, KoBEST, CLIcK, HRM8K and others.")
@click.argument("model")
@click.option(
    "--tasks",
    required=True,
    help="Tasks or groups of lm-evaluation-harness, with commas: kmmlu,haerae,kobest,click,hrm8k.",
)
@click.option("-o", "--output", default="benchmarks.jsonl", type=click.Path(path_type=Path), show_default=True)
@click.option("--system", help="Name of this system in reports [default: adapter, merged or base].")
@click.option("--base", help="Where the adapter's base is, if not where its config says.")
@click.option(
    "--prompt",
    help="Prompt template, or none for the task's text as it stands [default: the model's own; a base without one: none].",
)
@click.option("--shots", type=click.IntRange(0), help="Solved examples before each question [default: the task's].")
@click.option(
    "--limit", type=click.IntRange(1), help="Ask about the first N documents of each task: a trial, no result."
)
@click.option("--batch-size", default=16, show_default=True, type=click.IntRange(1))
@click.option(
    "--dtype",
    default="bfloat16",
    show_default=True,
    type=click.Choice(["bfloat16", "float16", "float32"]),
    help="Weights on a GPU; a CPU computes in float32.",
)
@click.option("--include", type=click.Path(path_type=Path), help="Folder with task files (.yaml) of your own.")
@click.option("--dry-run", is_flag=True, help="Show which tasks would be asked; load nothing.")
def bench(model: str, tasks: str, output: Path, include: Path | None, dry_run: bool, **options: Any) -> None:
    """Ask MODEL, an adapter, a merged model or a base, the tasks of public benchmarks.

    Each task is written down when it is done: killed and run again, it goes on. `kollm report` and the model's card show
    the scores. Several GPUs: accelerate launch -m kollm bench ...
    """
    from kollm.core.errors import MissingExtraError

    try:
        from kollm.answer.harness import find_tasks
    except ImportError as error:
        raise MissingExtraError(error.name or "lm-eval", "bench") from error
    names = tuple(dict.fromkeys(name for part in tasks.split(",") if (name := part.strip())))
    manager = find_tasks(names, include)
    if dry_run:
        groups = [name for name in names if name in manager.all_groups]
        click.echo(
            f"{model} would be asked {', '.join(names)} into {output}"
            + (f"; groups of tasks: {', '.join(groups)}." if groups else ".")
        )
        return
    _ask(model, manager, names, output, options)


def _ask(model: str, manager: Any, names: tuple[str, ...], output: Path, options: dict[str, Any]) -> None:
    from kollm.answer.harness import Asking, load_tasks, run_benchmarks
    from kollm.answer.local import Loading, load_system, says_its_prompt
    from kollm.core.files import ensure_folder

    ensure_folder(output.parent)
    prompt, base = options["prompt"], options["base"]
    raw = prompt == "none" or (prompt is None and not says_its_prompt(model, base))
    asking = Asking(options["shots"], options["limit"], options["batch_size"], raw)
    loaded = load_tasks(manager, names)
    system = load_system(
        model, name=options["system"], base=base, prompt="plain" if raw else prompt, loading=Loading(options["dtype"])
    )
    scores = run_benchmarks(system, loaded, asking, output)
    for score in scores:
        for item in score.scores:
            error = "" if item.stderr is None else f" ± {item.stderr:.4f}"
            click.echo(f"{score.task:32} {item.metric:24} {item.value:.4f}{error}")
    if scores:
        limited = (
            f" Only the first {counted(asking.limit, 'document of each task was', 'documents of each task were')} asked: no result."
            if asking.limit
            else ""
        )
        click.echo(f"{counted(len(scores), 'score')} of {system.name} in {output}.{limited}")
