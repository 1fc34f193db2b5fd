"""Binds the port, prints the link, and serves until Ctrl-C."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kollm.core.errors import InputError, MissingExtraError
from kollm.core.progress import say

if TYPE_CHECKING:
    from kollm.answer.talk import Speaker

LOCAL = ("127.0.0.1", "localhost", "::1")


def serve(folders: Sequence[Path], host: str, port: int, rubric: str, speakers: Sequence[Speaker] = ()) -> None:
    """Serve the pages of these folders.

    Args:
        folders: dataset folders and work folders.
        host: address to listen on.
        port: port; 0 for a free one.
        rubric: whose axes people score.
        speakers: one or two models to chat with; none for no such page.

    Raises:
        InputError: a folder holds nothing to show, or the address cannot be bound.
        MissingExtraError: the extra `app` is not installed.
    """
    try:
        import duckdb  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise MissingExtraError(error.name or "starlette", "app") from error
    from kollm.app.desk import Desk
    from kollm.app.library import open_library
    from kollm.app.room import ChatRoom
    from kollm.app.server import make_app
    from kollm.judge.rubric_file import load_rubric

    library = open_library(folders)
    listener = _listen(host, port)
    port = listener.getsockname()[1]
    names = {host, *(LOCAL if host in LOCAL else ()), *_own_names(host)}
    desk = Desk(
        library,
        frozenset(f"[{name}]:{port}" if ":" in name else f"{name}:{port}" for name in names),
        load_rubric(rubric),
        ChatRoom(list(speakers), Path("chat.review").resolve()) if speakers else None,
    )
    shown = f"[{host}]" if ":" in host else host
    if host not in LOCAL:
        say(f"Warning: the pages are open on {host} to everyone who has the link. It is not encrypted.")
    say(f"kollm app: http://{shown}:{port}/?token={desk.token}")
    say("Ctrl-C ends it. Every decision is on the disk already.")
    config = uvicorn.Config(make_app(desk), log_level="warning", access_log=False, server_header=False)
    # uvicorn sends the signal that ended it once more: without a handler it would end the process before `close`.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        desk.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)  # whoever opens the link at once waits and is not refused
    except OSError as error:
        raise InputError(
            f"The address {host}:{port} cannot be used ({error.strerror or error}) - choose another with --host or --port."
        ) from error
    return listener


def _own_names(host: str) -> list[str]:
    """Names by which this machine is called where it listens on all addresses."""
    if host not in ("0.0.0.0", "::"):
        return []
    name = socket.gethostname()
    try:
        addresses = {str(info[4][0]) for info in socket.getaddrinfo(name, None)}
    except OSError:
        addresses = set()
    return [name, "127.0.0.1", "localhost", *sorted(addresses)]
