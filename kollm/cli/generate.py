"""`kollm generate`: answers of an adapter, a model, or a served model to the evaluation tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from kollm.cli.own import own_from, own_options
from kollm.core.counting import counted


@click.command(short_help="Answer evaluation tasks with a model or an adapter.")
@click.argument("model")
@click.option(
    "--dataset",
    required=True,
    help="Evaluation tasks: a dataset folder, ORG/NAME@REVISION on the Hub, or questions of yours: a file, a folder, -.",
)
@click.option("-o", "--output", default="generations.jsonl", type=click.Path(path_type=Path), show_default=True)
@click.option(
    "--system", help="Name of this system in reports [default: adapter, merged or base, or the served model's name]."
)
@click.option("--base", help="Where the adapter's base is, if not where its config says.")
@click.option(
    "--prompt",
    help="Prompt template; an adapter of kollm brings its own. With --api: that of the served model, or its folder.",
)
@click.option("--preset", default="paper", show_default=True, help="Decoding: paper, beam-sample, sample or greedy.")
@click.option(
    "--samples",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Answers to each task, to choose among (kollm data pairs); by a preset that samples.",
)
@click.option("--max-new-tokens", type=click.IntRange(1), help="[default: the preset's]")
@click.option(
    "--engine",
    default="transformers",
    show_default=True,
    type=click.Choice(["transformers", "vllm"]),
    help="What decodes; a search with beams is always transformers'.",
)
@click.option("--batch-size", type=click.IntRange(1), help="Prompts at once [default: 16; 512 with vLLM].")
@click.option(
    "--shots", default=0, show_default=True, type=click.IntRange(0), help="Solved examples before each prompt."
)
@click.option("--shots-from", help="Dataset that the shots come from (its first rows); never the evaluation set.")
@click.option(
    "--dtype",
    default="bfloat16",
    show_default=True,
    type=click.Choice(["bfloat16", "float16", "float32"]),
    help="Weights on a GPU; a CPU decodes in float32.",
)
@click.option("--limit", type=click.IntRange(1), help="Answer the first N tasks only.")
@click.option("--dry-run", is_flag=True, help="Show what would be answered, load nothing.")
@click.option("--api", is_flag=True, help="MODEL is served by an OpenAI-compatible server; costs money.")
@click.option("--base-url", help="The server, if not OpenAI's [env: OPENAI_BASE_URL].")
@click.option("--key-env", metavar="NAME", help="Variable with that server's key [default: the host's own].")
@click.option("--price", nargs=2, type=float, help="USD for a million tokens in and out, if kollm does not know them.")
@click.option("--max-cost", type=float, help="Stop before spending more than this many USD (with --api).")
@own_options
@click.pass_context
def generate(
    context: click.Context,
    /,
    model: str,
    dataset: str,
    output: Path,
    system: str | None,
    base: str | None,
    prompt: str | None,
    preset: str,
    max_new_tokens: int | None,
    engine: str,
    batch_size: int | None,
    samples: int,
    shots: int,
    shots_from: str | None,
    dtype: str,
    limit: int | None,
    dry_run: bool,
    api: bool,
    base_url: str | None,
    key_env: str | None,
    price: tuple[float, float] | None,
    max_cost: float | None,
    **own: Any,
) -> None:
    """Answer the tasks of a dataset with MODEL: an adapter, a merged model or a base; a folder or ORG/NAME@REVISION.

    Killed and run again, it goes on where it stopped. Several GPUs: accelerate launch -m kollm generate ...
    """
    from kollm.core.errors import InputError
    from kollm.core.files import ensure_folder
    from kollm.dataset.folder import read_records
    from kollm.dataset.given import given_records

    _refuse_options_without_effect(context, api)
    if shots and not shots_from:
        raise InputError(f"--shots is {shots} and nothing says where they come from - add --shots-from DATASET.")
    if shots_from and not shots:
        raise InputError(f"--shots-from is {shots_from} and nothing says how many - add --shots K.")
    tasks = list(given_records(dataset, own_from(own, asked=True)))
    records = tasks[:limit]
    examples = [record for _, record in zip(range(shots), read_records(shots_from), strict=False)] if shots_from else []
    if len(examples) < shots:
        raise InputError(f"'{shots_from}' has {counted(len(examples), 'row')} and --shots is {shots} - ask for fewer.")
    if shared := {record.id for record in examples} & {record.id for record in tasks}:
        raise InputError(f"The example '{min(shared)}' is one of the tasks - take the shots from another dataset.")
    if not api:
        from kollm.answer.engines import ENGINES, engine_for
        from kollm.answer.presets import Decoding
        from kollm.core.progress import say

        how = Decoding(preset, max_new_tokens, samples)
        engine, instead = engine_for(engine, how.params())
        if instead:
            say(f"generate: {instead}")
    if dry_run and not api:
        each = f", {counted(samples, 'time')} each" if samples > 1 else ""
        click.echo(f"{model} would answer {counted(len(records), 'task')} of {dataset} ({preset}{each}) into {output}.")
        return
    ensure_folder(output.parent)
    if api:
        from kollm.answer.served import ServedAsking, answer_by_api
        from kollm.services.chat import ChatClient, ChatService

        client = ChatClient(ChatService(model, base_url, key_env, price, max_cost), kind="answer")
        asking = ServedAsking(max_new_tokens, samples, examples, prompt or "")
        kept = answer_by_api(records, client, output, asking, system=system, dry_run=dry_run)
        if dry_run:
            return
    else:
        from accelerate import PartialState

        from kollm.answer.local import Loading, generate_answers, load_system

        loaded = load_system(model, name=system, base=base, prompt=prompt, loading=Loading(dtype, engine))
        batch_size = batch_size or ENGINES[engine].batch_size
        kept = generate_answers(records, loaded, output, how, batch_size=batch_size, shots=examples)
        if not PartialState().is_main_process:
            return
    click.echo(f"{counted(len(records) * samples, 'answer')} in {output} ({kept} were there before).")


def _refuse_options_without_effect(context: click.Context, api: bool) -> None:
    from kollm.core.errors import InputError

    for name in (
        ("base", "preset", "engine", "batch_size", "dtype") if api else ("base_url", "key_env", "price", "max_cost")
    ):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = f"--{name.replace('_', '-')}"
            where = "is the server's business" if api else "is for served models"
            raise InputError(f"{option} {where} - leave it out, or {'drop' if api else 'add'} --api.")
