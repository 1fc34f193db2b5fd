"""An OpenAI-compatible chat service on loopback that streams the same pieces, of text or whole deltas, to every request."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.servers.loopback import JsonHandler, Loopback


class LoopbackStream(Loopback):
    """The server. Use as a context manager; `bodies` holds the requests that came in."""

    def __init__(self, pieces: Sequence[str | dict[str, Any]]) -> None:
        self.bodies: list[dict[str, Any]] = []
        bodies = self.bodies

        class Handler(JsonHandler):
            protocol_version = "HTTP/1.0"  # a stream ends with its connection

            def do_POST(self) -> None:
                body = self.json_body()
                bodies.append(body)
                assert body["stream"] is True
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                for piece in pieces:
                    delta = piece if isinstance(piece, dict) else {"content": piece}
                    choice = {"index": 0, "delta": delta, "finish_reason": None}
                    chunk = {
                        "id": "x",
                        "object": "chat.completion.chunk",
                        "created": 0,
                        "model": "m",
                        "choices": [choice],
                    }
                    self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
                self.wfile.write(b"data: [DONE]\n\n")

        super().__init__(Handler)

    @property
    def url(self) -> str:
        return f"{self.origin}/v1"
