"""What goes to a chat service and what comes back: requests, replies, and the part of an answer that is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kollm.core.records import Status


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One request.

    Attributes:
        messages: `role` and `content` of each message.
        options: everything else that the service gets (temperature, response_format, ...).
        context: kept with the purchase and not sent; part of its key.
        sample: number of the sample, from 0, where the same request is made several times.
        attempt: number of the attempt, from 1, where an answer was no use.
    """

    messages: Sequence[Mapping[str, str]]
    options: Mapping[str, Any] = field(default_factory=dict)
    context: str = ""
    sample: int = 0
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class ChatReply:
    """One answer, or why there is none.

    Attributes:
        text: what the model wrote; empty for none.
        status: `ok`, `refusal`, `truncated` (the token limit) or `api_error`.
        finish_reason: the service's own word.
        model_returned: the model that answered, by the service's account.
        usage: token counts and fingerprint as the service reported them.
        logprobs: log-probabilities of the answer's tokens, where asked for.
        refusal: the model's refusal, or what filtered its answer.
        error: why there is no answer, for `api_error`.
        cost: USD.
        replayed: True where the answer comes from the ledger.
    """

    text: str
    status: Status
    finish_reason: str = ""
    model_returned: str = ""
    usage: Mapping[str, Any] = field(default_factory=dict)
    logprobs: Sequence[Mapping[str, Any]] | None = None
    refusal: str = ""
    error: str = ""
    cost: float = 0.0
    replayed: bool = False


def answer_content(body: Mapping[str, Any]) -> dict[str, Any]:
    """What the ledger keeps of a chat completion's body.

    Raises:
        ValueError: the body has no choice with a message.
    """
    choices = body.get("choices") if isinstance(body, Mapping) else None
    if not choices or not isinstance(choices[0], Mapping) or not isinstance(choices[0].get("message"), Mapping):
        raise ValueError("no choice with a message in it")
    choice, message = choices[0], choices[0]["message"]
    return {
        "text": message.get("content") or "",
        "finish_reason": choice.get("finish_reason") or "",
        "refusal": message.get("refusal") or "",
        "logprobs": (choice.get("logprobs") or {}).get("content"),
        "model": body.get("model") or "",
        "usage": body.get("usage") or {},
        "fingerprint": body.get("system_fingerprint") or "",
    }


def reply_of(content: Mapping[str, Any], cost: float, replayed: bool = False) -> ChatReply:
    """The reply that a kept answer stands for."""
    status: Status = "ok"
    refusal = content["refusal"]
    if content["finish_reason"] == "content_filter":
        status, refusal = "refusal", refusal or "content_filter"
    elif refusal:
        status = "refusal"
    elif content["finish_reason"] == "length":
        status = "truncated"
    return ChatReply(
        text=content["text"],
        status=status,
        finish_reason=content["finish_reason"],
        model_returned=content["model"],
        usage={**content["usage"], "system_fingerprint": content["fingerprint"]},
        logprobs=content["logprobs"],
        refusal=refusal,
        cost=cost,
        replayed=replayed,
    )


def prompt_tokens(request: ChatRequest) -> int:
    """Tokens of the prompt, estimated on the high side: three ASCII characters a token, or one other character."""
    text = "".join(message["content"] for message in request.messages)
    others = len(text) - len(text.encode("ascii", "ignore"))
    schema = len(json.dumps(request.options.get("response_format", "")))
    return 8 + 4 * len(request.messages) + others + (len(text) - others + schema + 2) // 3


def answer_tokens(request: ChatRequest) -> int:
    """Tokens that the answer may have at most; 4,096 where the request sets no limit."""
    limit = request.options.get("max_completion_tokens") or request.options.get("max_tokens") or 4096
    return int(limit)


def token_counts(usage: Mapping[str, Any]) -> tuple[int, int]:
    """Tokens of prompt and answer, as the service counted them; 0 where it does not say."""
    return int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
