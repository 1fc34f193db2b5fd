"""A service on loopback that never ends an answer: silent, or with a byte now and then."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Self

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"


class HangingServer:
    """The server. Use as a context manager.

    Args:
        dribble: whether it begins an answer and sends a space twenty times a second, so that no single read takes long.
    """

    def __init__(self, dribble: bool) -> None:
        self._dribble, self._stop = dribble, threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.05)
        self._thread = threading.Thread(target=self._accept)
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._server.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self._server.accept()
            except TimeoutError:
                continue
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                if self._dribble:
                    connection.sendall(HEAD)
                while not self._stop.wait(0.05):
                    if self._dribble:
                        connection.sendall(b" ")
            except OSError:
                return
