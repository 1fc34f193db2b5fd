"""`kollm serve`: an OpenAI-compatible server of an adapter or a model."""

from __future__ import annotations

import shlex

import click


@click.command()
@click.argument("model")
@click.option("--engine", default="auto", show_default=True, type=click.Choice(["auto", "vllm", "transformers"]))
@click.option("--base", help="Where the adapter's base is, if not where its config says.")
@click.option("--host", default="localhost", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65_535), help="Port to listen on.")
@click.option("--dry-run", is_flag=True, help="Print the command and stop.")
def serve(model: str, engine: str, base: str | None, host: str, port: int, dry_run: bool) -> None:
    """Serve an adapter or a model with the API of OpenAI.

    The exact line is printed first: vLLM's where it is installed, else that of transformers.
    """
    import os

    from kollm.answer.serving import serve_command, served_name

    command = serve_command(model, engine=engine, base=base, host=host, port=port)  # type: ignore[arg-type]
    click.echo(shlex.join(command))
    name = served_name(model, command)
    url = f"http://{host}:{port}/v1"
    click.echo(
        f"ask it: kollm generate {shlex.quote(name)} --api --base-url {url} --price 0 0 --prompt {shlex.quote(model)} --dataset D"
    )
    if not dry_run:
        os.execvp(command[0], command)  # the server's own signals and exit code
