"""`kollm data synthesize`: rows made by a model or by task templates, as a file that `kollm data build synthetic` reads."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kollm.core.counting import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kollm.core.records import Record
    from kollm.services.chat import ChatClient
    from kollm.services.chat.messages import ChatRequest
    from kollm.synthesize.made import Made

Command = Callable[..., Any]


@click.group()
def synthesize() -> None:
    """Make rows: new tasks, conversations, new answers, or templates over annotated data.

    Each writes rows.jsonl, which becomes a dataset with: kollm data build synthetic --input rows.jsonl -o DIR
    """


def model_options(command: Command) -> Command:
    """What every command that asks a model takes."""
    for option in (
        click.option("--dry-run", is_flag=True, help="Show what would be asked and what it costs at most; ask nobody."),
        click.option("--concurrency", default=32, show_default=True, type=click.IntRange(1), help="Requests at once."),
        click.option("--price", nargs=2, type=float, help="USD for a million tokens in and out, if not known."),
        click.option("--max-cost", type=float, help="Stop before spending more than this many USD."),
        click.option("--option", "options", multiple=True, help="Decoding option, KEY=VALUE, e.g. temperature=0.5."),
        click.option("--key-env", metavar="NAME", help="Variable with that server's key [default: the host's own]."),
        click.option("--base-url", help="OpenAI-compatible server, if not OpenAI's [env: OPENAI_BASE_URL]."),
        click.option("--model", required=True, help="Model that writes, as the service calls it."),
        click.option("-o", "--output", default="rows.jsonl", type=click.Path(path_type=Path), show_default=True),
    ):
        command = option(command)
    return command


@synthesize.command("self-instruct")
@click.option("--count", default=100, show_default=True, type=click.IntRange(1), help="New instructions.")
@click.option("--seeds", type=click.Path(path_type=Path), help="Seed tasks [default: 34 Korean ones, with kollm].")
@click.option("--language", default="ko", show_default=True, help="ko or en.")
@click.option("--seed", default=0, show_default=True, help="Another seed makes other prompts.")
@click.option("--licence", default="LicenseRef-model-terms", show_default=True, help="Licence that the rows get.")
@model_options
def self_instruct(
    count: int, seeds: Path | None, language: str, seed: int, licence: str, options: tuple[str, ...], **rest: Any
) -> None:
    """New tasks with instances from seed tasks (Self-Instruct)."""
    from kollm.core.errors import InputError
    from kollm.synthesize import self_instruct as making
    from kollm.synthesize.seeds import BUNDLED, read_seeds
    from kollm.synthesize.wording import load_wording

    if seeds is None and language != "ko":
        raise InputError(f"The seed tasks that come with kollm are Korean - name some in '{language}' with --seeds.")
    tasks, wording = read_seeds(seeds or BUNDLED), load_wording(language)
    settings = making.Settings(count, seed=seed, options=_options(options), licence=licence)
    client = _client(rest)
    _make(
        client,
        making.sketch(client, tasks, wording, settings),
        lambda: making.self_instruct(client, tasks, wording, language, settings),
        instructions=True,
        **rest,
    )


@synthesize.command("self-chat")
@click.argument("topics")
@click.option("--turns", default=4, show_default=True, type=click.IntRange(1), help="Exchanges asked for.")
@click.option("--language", default="ko", show_default=True, help="ko or en.")
@click.option("--limit", type=click.IntRange(1), help="Use the first N topics only.")
@click.option("--licence", default="LicenseRef-model-terms", show_default=True, help="Licence that the rows get.")
@model_options
def self_chat(
    topics: str, turns: int, language: str, limit: int | None, licence: str, options: tuple[str, ...], **rest: Any
) -> None:
    """Conversations in which a model plays both roles (Baize).

    TOPICS: a text file with one topic a line, or a dataset, whose instructions are the topics.
    """
    from kollm.synthesize.self_chat import Settings, chat_requests, self_chat
    from kollm.synthesize.wording import load_wording

    chosen, wording = _topics(topics)[:limit], load_wording(language)
    settings = Settings(turns, _options(options), licence)
    client = _client(rest)
    _make(
        client,
        chat_requests(client, chosen, wording, settings),
        lambda: self_chat(client, chosen, wording, language, settings),
        **rest,
    )


@synthesize.command("regenerate")
@click.argument("dataset")
@click.option("--all", "everything", is_flag=True, help="All rows, not only those set aside.")
@click.option("--system", default="", help="System message [default: none].")
@click.option("--limit", type=click.IntRange(1), help="Answer the first N rows only.")
@model_options
def regenerate(
    dataset: str, everything: bool, system: str, limit: int | None, options: tuple[str, ...], **rest: Any
) -> None:
    """Answers asked anew for the rows of DATASET that routing, or `build --fresh-answers`, set aside for it."""
    from kollm.core.errors import InputError
    from kollm.dataset.folder import REJECTED, read_any_records
    from kollm.synthesize.regenerate import ROUTE, answer_requests, regenerate

    kept = read_any_records(dataset) if everything else []
    aside = (row for row in read_any_records(dataset, REJECTED) if row.provenance.route == ROUTE)
    records = [*kept, *aside][:limit]
    if not records:
        raise InputError(f"'{dataset}' has no rows that wait for an answer - add --all to answer every row anew.")
    client, decoding = _client(rest), _options(options)
    _make(
        client,
        answer_requests(client, records, system, decoding),
        lambda: regenerate(client, records, system=system, options=decoding),
        **rest,
    )


@synthesize.command("templates")
@click.argument("rows", type=click.Path(path_type=Path))
@click.option("--task", required=True, help="Shipped task (classification, summarization, ...) or a .yaml file.")
@click.option("--map", "columns", multiple=True, help="FIELD=COLUMN where the rows have another name.")
@click.option("--set", "constants", multiple=True, help="FIELD=TEXT for all rows, e.g. choices='긍정, 부정'.")
@click.option("--phrasings", default=1, show_default=True, type=click.IntRange(1), help="Phrasings a row.")
@click.option("--seed", default=0, show_default=True, help="Another seed chooses other phrasings.")
@click.option("--licence", required=True, help="Licence of the rows, e.g. CC-BY-4.0.")
@click.option("--limit", type=click.IntRange(1), help="Use the first N rows only.")
@click.option("-o", "--output", default="rows.jsonl", type=click.Path(path_type=Path), show_default=True)
def templates(
    rows: Path,
    task: str,
    columns: tuple[str, ...],
    constants: tuple[str, ...],
    phrasings: int,
    seed: int,
    licence: str,
    limit: int | None,
    output: Path,
) -> None:
    """ROWS of annotated data (JSON, JSON Lines, parquet, KorQuAD's form) as instructions. No model is asked."""
    import itertools

    from kollm.core.ownership import require_new
    from kollm.recipe.task import load_task
    from kollm.sources.annotated import read, read_annotations
    from kollm.synthesize.templates import Filling, fill_templates

    require_new(output, "the rows")
    chosen = load_task(task)

    def fields(row: Mapping[str, Any]) -> Mapping[str, Any]:
        """The row, and where its form is known the task's fields in it, such as the answer in KorQuAD's."""
        found = [item.values for item in read_annotations(row) if item.task == chosen.name]
        return {**row, **found[0]} if found else row

    made = fill_templates(
        (fields(row) for row in itertools.islice(read(rows), limit)),
        chosen,
        Filling(_pairs(columns, "--map"), _pairs(constants, "--set"), phrasings, seed),
        licence=licence,
    )
    _write(made, output)


def _client(rest: dict[str, Any]) -> ChatClient:
    from kollm.services.chat import ChatClient, ChatService

    return ChatClient(ChatService.of_options(rest.pop("model"), rest), kind="synthesize")


def _make(
    client: ChatClient,
    requests: Sequence[ChatRequest],
    make: Callable[[], Coroutine[Any, Any, Made]],
    *,
    output: Path,
    dry_run: bool,
    instructions: bool = False,
) -> None:
    """Say what it costs; then ask, and write the rows."""
    from kollm.core.files import ensure_folder
    from kollm.core.ownership import require_new
    from kollm.core.progress import say
    from kollm.services.chat import run_async

    client.say_estimate(requests, f"{client.model}, if every new instruction is kept" if instructions else "")
    if dry_run:
        return
    ensure_folder(require_new(output, "the rows").absolute().parent)
    made = run_async(make())
    _write(made, output)
    if client.facts.priced:
        say(f"Cost so far: USD {client.spent:.4f}.")


def _write(made: Made, output: Path) -> None:
    from kollm.core.files import ensure_folder, json_line, write_atomic
    from kollm.core.ownership import require_new
    from kollm.core.progress import say

    ensure_folder(require_new(output, "the rows").absolute().parent)
    write_atomic(output, "".join(json_line(record.to_row()) for record in made.records))
    for reason, count in sorted(made.dropped.items()):
        click.echo(f"dropped, {reason}: {count}")
    click.echo(f"{output}: {counted(len(made.records), 'row')}")
    if not made.records:
        say("Warning: no row was made.")
    else:
        say(f"Next: kollm data build synthetic --input {output} -o DIR")


def _topics(name: str) -> list[str]:
    from kollm.core.errors import InputError
    from kollm.core.files import read_text
    from kollm.core.text import normalise
    from kollm.dataset.folder import read_records

    path = Path(name)
    if path.is_file():
        topics = [line.strip() for line in normalise(read_text(path)).splitlines() if line.strip()]
    else:
        topics = list(dict.fromkeys(_first_question(record) for record in read_records(name)))
    if not topics:
        raise InputError(f"'{name}' holds no topics - write one a line.")
    return topics


def _first_question(record: Record) -> str:
    return record.history[0][0] if record.history else record.instruction


def _options(values: tuple[str, ...]) -> dict[str, Any]:
    from kollm.core.reading import parse_yaml

    return {key: parse_yaml(text, f"--option {key}") for key, text in _pairs(values, "--option").items()}


def _pairs(values: tuple[str, ...], option: str) -> dict[str, str]:
    pairs = {}
    for value in values:
        key, separator, text = value.partition("=")
        if not separator or not key:
            raise click.UsageError(f"{option} {value}: write NAME=VALUE.")
        pairs[key] = text
    return pairs
