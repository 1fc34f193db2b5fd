"""A Hub on loopback, for the unmodified huggingface_hub, datasets, evaluate, transformers and peft.

    with LoopbackHub() as hub:
        hub.add_account("hf_writer", "maker")
        subprocess.run([...], env={**os.environ, **hub.environment(tmp_path, "hf_writer")})

Strict: a request that no route answers is kept in `hub.unexpected`, and leaving the block raises if there is one.
HF_ENDPOINT is read when the clients are imported, so a client runs in a process of its own.
Large files are served from `localhost`, another host than the Hub's 127.0.0.1, as the real one's come from a CDN: a
client that sends its token there is refused.
"""

from __future__ import annotations

import io
import socket
import struct
import threading
import traceback
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.servers.hub_routes import Handler, LineCutError
from tests.servers.hub_store import Account, Repository
from tests.servers.loopback import Loopback


@dataclass(slots=True)
class Fault:
    """Something that goes wrong on the requests whose method and path match, `times` times.

    Attributes:
        status: answer with this status; or, where it is 0, close the connection hard
        after: after that many bytes of the request's body (for status 0).
        headers: sent with the answer, e.g. `Retry-After`.
    """

    method: str
    path: str
    status: int = 0
    after: int = 0
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)


class Wire(io.RawIOBase):
    """A connection that counts the bytes that pass and goes dead when the server's allowance is used up."""

    def __init__(self, connection: socket.socket, hub: LoopbackHub) -> None:
        self._connection, self._hub = connection, hub

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._connection.recv_into(buffer)
        if self._hub.spend(count) < count:
            self.abort()
        return count

    def write(self, data: Any) -> int:
        allowed = self._hub.spend(len(data))
        self._connection.sendall(memoryview(data)[:allowed])
        if allowed < len(data):
            self.abort()
        return len(data)

    def abort(self) -> None:
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.close()
        raise LineCutError


class LoopbackHub(Loopback):
    """The server. Use as a context manager.

    Args:
        page_size: entries on one page of a tree listing.
        part_size: files larger than this many bytes are uploaded in parts of this size.
    """

    def __init__(self, page_size: int = 50, part_size: int = 4_000_000) -> None:
        self.page_size, self.part_size = page_size, part_size
        self.accounts: dict[str, Account] = {}
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.unexpected: list[str] = []
        self.uploads: list[str] = []
        """SHA-256 of each large file received, in order."""
        self.parts: dict[tuple[str, int], bytes] = {}
        self.lock = threading.RLock()
        self._allowance: int | None = None
        self.bytes_passed = 0
        hub = self

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def verify_request(self, request: Any, client_address: Any) -> bool:
                return not hub.is_cut

            def handle_error(self, request: Any, client_address: Any) -> None:
                hub.unexpected.append(f"server error: {traceback.format_exc()}")

        super().__init__(type("Handler", (Handler,), {"hub": self}), kind=Server)

    @property
    def endpoint(self) -> str:
        return self.origin

    @property
    def storage(self) -> str:
        return f"http://localhost:{self.port}"

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, value, trace)
        if kind is None and self.unexpected:
            raise AssertionError("The loopback Hub met what it does not know:\n" + "\n".join(self.unexpected))

    def environment(self, home: Path, token: str = "") -> dict[str, str]:
        """Variables for a client in a process of its own, with an empty cache under `home` unless it holds one."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_TOKEN": token,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # evaluate would ask a host of its own
            "KOLLM_LEDGER": str(home / "ledger.sqlite"),
        }

    def add_account(self, token: str, name: str, role: str = "write", **more: Any) -> None:
        self.accounts[token] = Account(name, role, **more)

    def repository(self, kind: str, name: str) -> Repository:
        """An existing repository; `kind` is `models`, `datasets` or `spaces`."""
        return self.repositories[kind, name]

    def wire(self, connection: socket.socket) -> Wire:
        return Wire(connection, self)

    def cut_after(self, count: int) -> None:
        """Kill every connection once that many more bytes have passed, and refuse new ones until `mend`."""
        with self.lock:
            self._allowance = count

    def mend(self) -> None:
        with self.lock:
            self._allowance = None

    @property
    def is_cut(self) -> bool:
        return self._allowance == 0

    def spend(self, count: int) -> int:
        """Count bytes; the share of them that may pass."""
        with self.lock:
            if self._allowance is not None:
                count = min(count, self._allowance)
                self._allowance -= count
            self.bytes_passed += count
            return count
