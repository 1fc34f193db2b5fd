"""An OpenAI-compatible chat service on loopback whose model is a function of the request.

    with LoopbackChat(lambda body: "네.") as chat:
        ChatClient(ChatService("gpt-4", chat.url), kind="answer", ledger=ledger)

For tests in which the answer must depend on the prompt and not on the order in which requests come in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from tests.servers.loopback import JsonHandler, Loopback


class Said(NamedTuple):
    """An answer with the reason why it ended."""

    text: str
    finish_reason: str = "stop"


class Raw(NamedTuple):
    """A reply of any status, body and headers."""

    status: int
    body: Any
    headers: Mapping[str, str] = MappingProxyType({})


Model = Callable[[dict[str, Any]], "Said | Raw | str | int"]
"""Body of the request -> the answer; a number is an HTTP status to refuse it with."""


def completion(model: str, /, **changes: Any) -> dict[str, Any]:
    """A chat completion's body, some of its parts replaced: `message`, `choice`, or a key of its own."""
    message = {"role": "assistant", "content": "네.", **changes.pop("message", {})}
    choice = {"index": 0, "message": message, "finish_reason": "stop", **changes.pop("choice", {})}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return {"id": "x", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage, **changes}


class LoopbackChat(Loopback):
    """The server. Use as a context manager; `bodies` holds the requests that came in."""

    def __init__(self, model: Model) -> None:
        self.bodies: list[dict[str, Any]] = []
        bodies = self.bodies

        class Handler(JsonHandler):
            def do_POST(self) -> None:
                body = self.json_body()
                assert self.path == "/v1/chat/completions", self.path
                bodies.append(body)
                answer = model(body)
                if isinstance(answer, int):
                    self.reply(answer, {"error": {"message": f"refused with {answer}"}})
                    return
                if isinstance(answer, Raw):
                    self.reply(answer.status, answer.body, answer.headers)
                    return
                said = Said(answer) if isinstance(answer, str) else answer
                choice = {"finish_reason": said.finish_reason}
                self.reply(200, completion(body["model"], message={"content": said.text}, choice=choice))

        super().__init__(Handler)

    @property
    def url(self) -> str:
        return f"{self.origin}/v1"
