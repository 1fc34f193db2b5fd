"""What goes to a chat service and what comes back: requests, replies, and the part of an answer that is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kollm.core.verdicts import Status
from kollm.recipe.tools import marked_calls
from kollm.services.purchase import Purchase

MOST_TOKENS = 100_000_000
"""Tokens that no request has: a larger count is a fault of the service."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One request.

    Attributes:
        messages: `role` and `content` of each message, and `tool_calls` or `tool_call_id` where it has them.
        options: everything else that the service gets (temperature, response_format, tools, ...).
        context: kept with the purchase and not sent; part of its key.
        sample: number of the sample, from 0, where the same request is made several times.
        attempt: number of the attempt, from 1, where an answer was no use.
        filed: how each client files it, since the estimate, the budget and the run ask for the same.
    """

    messages: Sequence[Mapping[str, Any]]
    options: Mapping[str, Any] = field(default_factory=dict)
    context: str = ""
    sample: int = 0
    attempt: int = 1
    filed: dict[tuple[str, str, str], Purchase] = field(default_factory=dict, init=False, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class ChatReply:
    """One answer, or why there is none.

    Attributes:
        text: what the model wrote; empty for none.
        status: `ok`, `refusal`, `truncated` (the token limit, or a prompt that is too long) or `api_error`.
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


def answer_content(body: Any) -> dict[str, Any]:
    """What the ledger keeps of a chat completion's body; what has another form than the protocol's is left out.

    Calls of tools stand in the text, between the marks that rows have them in.

    Raises:
        ValueError: the body has no choice with a message whose content is text or nothing.
    """
    choices = body.get("choices") if isinstance(body, Mapping) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(choice, Mapping) or not isinstance(message, Mapping):
        raise ValueError("no choice with a message in it")
    logprobs = choice.get("logprobs")
    return {
        "text": marked_calls(_content_text(message.get("content")), message.get("tool_calls")),
        "finish_reason": _text(choice.get("finish_reason")),
        "refusal": _text(message.get("refusal")),
        "logprobs": _logprobs(logprobs.get("content") if isinstance(logprobs, Mapping) else None),
        "model": _text(body.get("model")),
        "usage": _usage(body.get("usage")),
        "fingerprint": _text(body.get("system_fingerprint")),
    }


def _content_text(content: Any) -> str:
    """A message's content, which is text, nothing, or a list of parts of which those of text count."""
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list) and content and all(isinstance(part, Mapping) for part in content):
        texts = [part.get("text") for part in content if part.get("type") in ("text", "output_text")]
        if texts and all(isinstance(text, str) for text in texts):
            return "".join(texts)
    raise ValueError(f"its content is a {type(content).__name__}, not a text")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _usage(usage: Any) -> dict[str, Any]:
    """Token counts that are counts; anything else that a service puts beside them stays if it is an object."""
    if not isinstance(usage, Mapping):
        return {}
    return {key: value for key, value in usage.items() if isinstance(value, Mapping) or _is_count(value)}


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS


def _logprobs(items: Any) -> list[dict[str, Any]] | None:
    """Log-probabilities of an answer's tokens; None where one is not in the protocol's form."""
    if not isinstance(items, list):
        return None
    for item in items:
        if not isinstance(item, Mapping) or not _is_token(item):
            return None
        others = item.get("top_logprobs")
        if others is not None and not (
            isinstance(others, list) and all(isinstance(other, Mapping) and _is_token(other) for other in others)
        ):
            return None
    return items


def _is_token(item: Mapping[str, Any]) -> bool:
    value = item.get("logprob")
    return isinstance(item.get("token"), str) and isinstance(value, int | float) and not isinstance(value, bool)


def reply_of(content: Mapping[str, Any], cost: float, replayed: bool = False) -> ChatReply:
    """The reply that a kept answer stands for."""
    status: Status = "ok"
    refusal = content["refusal"]
    if content["finish_reason"] == "content_filter":
        status, refusal = "refusal", refusal or "content_filter"
    elif refusal:
        status = "refusal"
    elif content["finish_reason"] in ("length", "context_length_exceeded"):
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
    calls = [message["tool_calls"] for message in request.messages if "tool_calls" in message]
    for more in (*calls, request.options.get("tools")):
        if more:
            text += json.dumps(more, ensure_ascii=False)
    others = len(text) - len(text.encode("ascii", "ignore"))
    schema = len(json.dumps(request.options.get("response_format", "")))
    return 8 + 4 * len(request.messages) + others + (len(text) - others + schema + 2) // 3


def answer_tokens(request: ChatRequest) -> int:
    """Tokens that the answer may have at most; 4,096 where the request sets no limit."""
    limit = request.options.get("max_completion_tokens") or request.options.get("max_tokens") or 4096
    return int(limit)


def token_counts(usage: Mapping[str, Any]) -> tuple[int, int]:
    """Tokens of prompt and answer, as the service counted them; 0 where it does not say."""
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return (prompt if _is_count(prompt) else 0) or 0, (completion if _is_count(completion) else 0) or 0
