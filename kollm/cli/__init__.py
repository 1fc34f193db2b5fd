"""The command line. Each command lives in a small file of its own and is imported only when it is called,
so that `kollm --help` answers at once."""

from __future__ import annotations

import functools
import importlib
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from kollm.core.errors import one_line
from kollm.core.program import prepare_process
from kollm.core.progress import quiet_libraries
from kollm.core.text import existing_path
from kollm.core.version import __version__

COMMANDS = {
    "run": ("kollm.cli.run:run", "Everything: dataset, adapter, answers, verdicts, report; resumes."),
    "recipe": ("kollm.cli.recipe:recipe", "List, show and check recipes."),
    "data": ("kollm.cli.data:data", "Plan, build and check Korean instruction datasets."),
    "plan": ("kollm.cli.train:plan", "Memory, tokens per second and hours that a recipe needs."),
    "preview": ("kollm.cli.preview:preview", "Decoded training samples with the loss mask shown."),
    "vocabulary": ("kollm.cli.vocabulary:vocabulary", "Extend a base's vocabulary by Korean tokens."),
    "train": ("kollm.cli.train:train", "Print, then run, the accelerate launch line of a recipe."),
    "generate": ("kollm.cli.generate:generate", "Answer evaluation tasks with a model or an adapter."),
    "serve": ("kollm.cli.serve:serve", "Serve an adapter or a model with the API of OpenAI."),
    "chat": ("kollm.cli.chat:chat", "Talk with an adapter, a model or a served one."),
    "judge": ("kollm.cli.judge:judge", "Judge answers by a rubric."),
    "verdicts": (
        "kollm.cli.verdicts:verdicts",
        "Import others' verdicts, plan how many are needed, watch a judge, bridge two.",
    ),
    "bench": ("kollm.cli.bench:bench", "Public benchmarks: KMMLU, HAE-RAE, KoBEST, CLIcK, HRM8K and others."),
    "compare": ("kollm.cli.compare:compare", "Paired intervals and tests between systems."),
    "report": ("kollm.cli.report:report", "Tables, figures and samples in one HTML file."),
    "app": ("kollm.cli.app:app", "Local pages: look at data, review translations, compare answers, chat."),
    "merge": ("kollm.cli.train:merge", "Merge an adapter into its base in bf16, checked."),
    "push": ("kollm.cli.hub:push", "Publish a dataset, adapter, model or metric to the Hub."),
    "ledger": ("kollm.cli.ledger:ledger", "What was bought from paid services."),
    "show": ("kollm.cli.show:show", "Follow one example through every stage."),
    "doctor": ("kollm.cli.doctor:doctor", "Check versions, devices, keys, disk and the Hub."),
    "completion": ("kollm.cli.completion:completion", "Print shell completion for bash, zsh or fish."),
}
"""Command name -> (module:attribute, one line of help). The help stands here too so that nothing is imported for it."""


def refuse_repeats(command: click.Command) -> click.Command:
    """Make a command and those below it refuse an option of one value that is given twice; click would take the last."""
    if isinstance(command, click.Group):
        for below in command.commands.values():
            refuse_repeats(below)
    parse = command.parse_args
    if not isinstance(parse, functools.partial):
        setattr(command, "parse_args", functools.partial(_parse_once, command, parse))  # noqa: B010 - mypy knows methods
    return command


def _parse_once(
    command: click.Command,
    parse: Callable[[click.Context, list[str]], list[str]],
    context: click.Context,
    arguments: list[str],
) -> list[str]:
    _, _, order = command.make_parser(context).parse_args(args=list(arguments))
    for parameter in order:
        single = isinstance(parameter, click.Option) and not (
            parameter.multiple or parameter.count or parameter.is_flag
        )
        if single and order.count(parameter) > 1:
            raise click.UsageError(
                f"{parameter.opts[0]} is given {order.count(parameter)} times - give it once.", context
            )
    return parse(context, arguments)


def hold_outputs(command: click.Command) -> click.Command:
    """Make a command and those below it hold what `-o` names while they run, so that no other process writes it meanwhile."""
    if isinstance(command, click.Group):
        for below in command.commands.values():
            hold_outputs(below)
    invoke = command.invoke
    holds = any(parameter.name == "output" for parameter in command.params)
    if holds and not isinstance(invoke, functools.partial):
        setattr(command, "invoke", functools.partial(_invoke_alone, invoke))  # noqa: B010 - mypy knows methods
    return command


def _invoke_alone(invoke: Callable[[click.Context], Any], context: click.Context) -> Any:
    from kollm.core.lock import output_lock

    output = context.params["output"]
    # Of several processes of one `accelerate launch`, the first holds the output for all.
    if output is None or context.params.get("dry_run") or os.environ.get("RANK", "0") != "0":
        return invoke(context)
    with output_lock(Path(output), command=context.command_path):
        return invoke(context)


def _resolved(
    group: click.Group, context: click.Context, args: list[str]
) -> tuple[str | None, click.Command | None, list[str]]:
    """As click resolves a command below a group; one that stands above it is named, and not the next best spelling."""
    if args[0] not in group.commands and args[0] in COMMANDS:
        context.fail(f"No such command '{args[0]}' - it is kollm {args[0]}, without {group.name}.")
    return click.Group.resolve_command(group, context, args)


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called; a test compares the help lines with theirs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        if isinstance(command, click.Group):
            setattr(command, "resolve_command", functools.partial(_resolved, command))  # noqa: B010 - mypy knows methods
        return hold_outputs(refuse_repeats(command))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        import difflib

        close = difflib.get_close_matches(args[0], COMMANDS, n=1)
        if args[0] not in COMMANDS and close:
            ctx.fail(f"No such command '{args[0]}' - did you mean '{close[0]}'?")
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, "-V", "--version", prog_name="kollm")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Korean instruction tuning: from English instructions to a judged Korean adapter.

    Start with: kollm run demo -o demo
    """
    ctx.obj = {"debug": debug}
    if not debug:
        quiet_libraries()


def _existing(argument: str) -> str:
    name, sign, value = argument.rpartition("=")
    return f"{name}{sign}{existing_path(Path(value))}" if value and not value.isascii() else argument


def main(args: list[str] | None = None) -> Any:
    """Run the command line: exit code 0, 1 for an error that one sentence explains, 2 for wrong usage."""
    if "--debug" in (sys.argv[1:] if args is None else args):
        os.environ["KOLLM_DEBUG"] = "1"  # for the processes of a training too
    prepare_process()
    debug = bool(os.environ.get("KOLLM_DEBUG"))
    for stream in (sys.stdout, sys.stderr):  # a terminal that has no Hangul shows escapes
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # A Korean file name that is written in another form of Unicode on disk, as macOS does, is that file all the same.
    args = [_existing(argument) for argument in (sys.argv[1:] if args is None else args)]
    try:
        return cli.main(args=args, prog_name="kollm", standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt) as stop:
        said = str(stop.__cause__ or "") or str(stop)  # click makes an Abort of a KeyboardInterrupt
        click.echo(said or "Stopped. What was finished is kept; the same command resumes.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        if debug:
            raise
        click.echo(f"Error: {one_line(error)}", err=True)
        sys.exit(1)
