"""`kollm chat`: a conversation in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from kollm.answer.talk import Speaker, Talk

HELP = """/system TEXT  set the system message; without TEXT, remove it
/reset        forget what was said
/edit TEXT    take the last turn back and say TEXT instead
/retry        answer the last turn again
/result TEXT  answer the call of a tool with its result
/save FILE    append the conversation to FILE, as a row of training data
/quit         leave; Ctrl-D too. Ctrl-C stops an answer."""


@click.command(short_help="Talk with an adapter, a model or a served one.")
@click.argument("model")
@click.option("--beside", help="A second model that answers the same.")
@click.option("--api", is_flag=True, help="MODEL, and --beside, are served by an OpenAI-compatible service.")
@click.option("--base-url", help="Its address, if not OpenAI's.")
@click.option("--key-env", metavar="NAME", help="Variable that holds its key, if not the host's own.")
@click.option("--base", help="The adapter's base, if not where its config says.")
@click.option("--prompt", help="Prompt template, for a model that does not bring one.")
@click.option("--system", "system_message", default="", help="System message.")
@click.option("--tools", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Tools that MODEL may call: a file with their definitions, a JSON list.")  # fmt: skip
@click.option("--preset", type=click.Choice(["greedy", "sample"]), default="sample", show_default=True, help="The likeliest tokens, or temperature 0.7 and top-p 0.9.")  # fmt: skip
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=512, show_default=True)
def chat(
    model: str,
    beside: str | None,
    system_message: str,
    tools: Path | None,
    **options: Any,
) -> None:
    """Talk with MODEL: a folder or Hub id of an adapter or a model, or with --api the name of a served one.

    /help lists what can be typed beside messages. With --tools a call is printed as rows have it.
    """
    from kollm.answer.talk import SpeakerOptions, Talk, make_speaker, read_tools

    definitions = read_tools(tools) if tools else ""
    speakers = [make_speaker(name, SpeakerOptions(**options)) for name in (model, beside) if name]
    talks = [Talk(system_message, tools=definitions) for _ in speakers]
    click.echo(f"{' and '.join(speaker.name for speaker in speakers)} - /help for help")
    while True:
        try:
            line = _read()
        except EOFError:
            return
        if line is None or not line.strip():
            continue
        if line.startswith("/"):
            if line.split()[0] in ("/quit", "/exit"):
                return
            message = _obey(line, talks)
        else:
            message = line
        if message is not None:
            for speaker, talk in zip(speakers, talks, strict=True):
                _say(speaker, talk, message, named=len(speakers) > 1)


def _read() -> str | None:
    """A line; None where Ctrl-C was pressed. `input` edits lines, and leaves composing Hangul to the terminal."""
    import contextlib
    import sys

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - gives `input` its history and editing
    try:
        return input("> " if sys.stdin.isatty() else "")
    except KeyboardInterrupt:
        click.echo("\n/quit or Ctrl-D leaves.")
        return None


def _obey(line: str, talks: list[Talk]) -> str | None:
    """Do what a line with a slash says; the message to be answered next, if there is one."""
    from kollm.core.errors import InputError, KollmError
    from kollm.core.files import json_line
    from kollm.core.lock import output_lock
    from kollm.recipe.tools import result_turn

    command, _, text = line.partition(" ")
    text = text.strip()
    try:
        if command == "/help":
            click.echo(HELP)
        elif command == "/system":
            for talk in talks:
                talk.system = text
        elif command == "/reset":
            for talk in talks:
                talk.exchanges.clear()
        elif command == "/save":
            if not text:
                raise InputError("/save needs a file: /save talk.jsonl")
            with output_lock(Path(text), command="kollm chat"), Path(text).open("a", encoding="utf-8") as file:
                file.writelines(json_line(talk.row()) for talk in talks)
            click.echo(f"saved to {text}")
        elif command == "/result":
            if not text:
                raise InputError("/result needs what the tool gave: /result TEXT")
            return result_turn(text)
        elif command in ("/edit", "/retry"):
            if command == "/edit" and not text:
                raise InputError("/edit needs the new text: /edit TEXT")
            before = [talk.take_back() for talk in talks]
            return text or before[0]
        else:
            raise InputError(f"'{command}' is unknown - /help lists what there is.")
    except (KollmError, OSError) as error:
        click.echo(f"Error: {error}", err=True)
    return None


def _say(speaker: Speaker, talk: Talk, message: str, named: bool) -> None:
    """Print the answer as it comes and keep it; Ctrl-C stops the answer, and what was said of it is kept."""
    from contextlib import closing

    from kollm.answer.talk import Exchange
    from kollm.core.errors import KollmError

    if named:
        click.secho(f"[{speaker.name}]", bold=True)
    said: list[str] = []
    pieces: Any = speaker.answer(talk.record(message))
    try:
        with closing(pieces):
            for piece in pieces:
                said.append(piece)
                click.echo(piece, nl=False)
        click.echo()
    except KeyboardInterrupt:
        click.echo(" [stopped]")
    except KollmError as error:
        click.echo(f"Error: {error}", err=True)
        return
    talk.exchanges.append(Exchange(message, "".join(said).strip()))
