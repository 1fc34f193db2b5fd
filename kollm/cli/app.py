"""`kollm app`: the local pages."""

from __future__ import annotations

import click


@click.command(short_help="Local pages: look at data, review translations, compare answers.")
@click.argument("folders", nargs=-1, required=True, metavar="DIR...")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port; a free one by default.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; another one lets others in who have the link.")  # fmt: skip
@click.option("--rubric", default="kullm2023", show_default=True, help="Rubric whose axes people score.")
def app(folders: tuple[str, ...], port: int, host: str, rubric: str) -> None:
    """Open local pages on dataset folders and work folders: look, review, compare.

    Prints a link that carries a token; who has it may read and decide. Decisions are written beside the folders, in
    DIR.review, at once.
    """
    from pathlib import Path

    from kollm.app.serve import serve

    serve([Path(folder) for folder in folders], host, port, rubric)
