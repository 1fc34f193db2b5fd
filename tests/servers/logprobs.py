"""A loopback chat service that reports log-probabilities, which llmock does not; the real openai client talks to it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from tests.servers.loopback import JsonHandler, Loopback


class LogprobServer(Loopback):
    """Replies with one text, and says how probable each token was.

    Args:
        reply: what the model writes.
        chances: score as the reply writes it (`- 자연스러움 (1 - 3): 2` -> key `자연스러움`) -> alternatives of its token with
            their probabilities; other tokens are certain.
        reports: False for a server that leaves log-probabilities out.
    """

    def __init__(self, reply: str, chances: Mapping[str, Mapping[str, float]], reports: bool = True) -> None:
        self.reply, self.chances, self.reports = reply, chances, reports
        self.bodies: list[dict[str, Any]] = []
        self.authorizations: list[str] = []
        owner = self

        class Handler(JsonHandler):
            def do_POST(self) -> None:
                owner.bodies.append(self.json_body())
                owner.authorizations.append(self.headers["authorization"])
                self.reply(200, owner.completion(owner.bodies[-1]))

        super().__init__(Handler)

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"

    def completion(self, body: Mapping[str, Any]) -> dict[str, Any]:
        tokens = self.tokens() if self.reports and body.get("logprobs") else None
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": f"{body['model']}-served",
            "system_fingerprint": "fp_loopback",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": self.reply},
                    "finish_reason": "stop",
                    "logprobs": None if tokens is None else {"content": tokens},
                }
            ],
            "usage": {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150},
        }

    def tokens(self) -> list[dict[str, Any]]:
        """The reply in tokens: score tokens take the space before them along; each Hangul syllable is cut in two."""
        tokens: list[dict[str, Any]] = []
        for line in self.reply.splitlines(keepends=True):
            label = next((label for label in self.chances if label in line), None)
            for piece in re.findall(r" ?\d|[가-힣]|[^\d가-힣 ]+| ", line):
                if re.fullmatch("[가-힣]", piece):
                    tokens += [_token(piece.encode()[:2], 1.0, {}), _token(piece.encode()[2:], 1.0, {})]
                else:
                    tokens.append(_token(piece.encode(), 1.0, {}))
            if label is not None:
                place = max(i for i, token in enumerate(tokens) if re.fullmatch(rb" ?\d", bytes(token["bytes"])))
                chosen = bytes(tokens[place]["bytes"]).decode()
                tokens[place] = _token(chosen.encode(), self.chances[label][chosen], self.chances[label])
        return tokens


def _token(written: bytes, chance: float, alternatives: Mapping[str, float]) -> dict[str, Any]:
    token: dict[str, Any] = {
        "token": written.decode("utf-8", "replace"),
        "bytes": list(written),
        "logprob": math.log(chance),
    }
    return {**token, "top_logprobs": [_token(text.encode(), p, {}) for text, p in alternatives.items()]}
