"""`kollm completion SHELL` prints the script that makes TAB complete kollm's commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

WHERE = {
    "bash": "~/.bashrc",
    "zsh": "~/.zshrc",
    "fish": "~/.config/fish/completions/kollm.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(list(WHERE)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print shell completion for bash, zsh or fish.

    Add it for good: kollm completion bash >> ~/.bashrc
    """
    kind = get_completion_class(shell)
    assert kind is not None
    root = ctx.find_root().command
    click.echo(kind(root, {}, "kollm", "_KOLLM_COMPLETE").source())
    click.echo(f"Append this to {WHERE[shell]} and open a new shell.", err=True)
