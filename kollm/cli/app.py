"""`kollm app`: the local pages."""

from __future__ import annotations

from typing import Any

import click


@click.command(short_help="Local pages: look at data, review translations, compare answers, chat.")
@click.argument("folders", nargs=-1, metavar="DIR...")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port; a free one by default.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; another one lets others in who have the link.")  # fmt: skip
@click.option("--rubric", default="kullm2023", show_default=True, help="Rubric whose axes people score.")
@click.option("--chat", "models", multiple=True, metavar="MODEL", help="An adapter or model to chat with; give two to have them side by side.")  # fmt: skip
@click.option("--api", is_flag=True, help="The models of --chat are served by an OpenAI-compatible service.")
@click.option("--base-url", help="Its address, if not OpenAI's.")
@click.option("--key-env", metavar="NAME", help="Variable that holds its key, if not the host's own.")
@click.option("--base", help="The adapter's base, if not where its config says.")
@click.option("--prompt", help="Prompt template, for a model that does not bring one.")
@click.option("--preset", type=click.Choice(["greedy", "sample"]), default="sample", show_default=True)
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=512, show_default=True)
def app(folders: tuple[str, ...], port: int, host: str, rubric: str, models: tuple[str, ...], **options: Any) -> None:
    """Open local pages on dataset folders and work folders: look, review, compare; with --chat also a conversation.

    Prints a link that carries a token; who has it may read and decide. Decisions are written beside the folders, in
    DIR.review, at once.
    """
    from pathlib import Path

    from kollm.app.serve import serve
    from kollm.core.errors import InputError

    if not folders and not models:
        raise click.UsageError("Name a dataset folder or a work folder, or a model with --chat.")
    if len(models) > 2:
        raise InputError(f"--chat is given {len(models)} times - two systems stand side by side at most.")
    speakers = []
    if models:
        from kollm.answer.talk import SpeakerOptions, make_speaker

        speakers = [make_speaker(name, SpeakerOptions(**options)) for name in models]
    serve([Path(folder) for folder in folders], host, port, rubric, speakers)
