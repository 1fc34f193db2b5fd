"""What it means that a chat service did not answer: whether it may have charged, whether to ask again, and when."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import openai

from kollm.core.errors import QuotaError, ServiceError
from kollm.services.retry import RetryPolicy, asked_wait

QUOTA_CODES = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "access_terminated"}
MAYBE_CHARGED = {408, 502, 504}
"""HTTP statuses after which nobody knows whether the model ran; any other refusal costs nothing."""
PASSING = {408, 409, 429}
"""HTTP statuses below 500 after which the same request may be answered later."""
FILTERED = {"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"}
"""Codes with which a service refuses what stands in a prompt; Azure sends 400 and `content_filter`."""
TOO_LONG = {"context_length_exceeded", "string_above_max_length"}
_TOO_LONG = re.compile(r"maximum context length|context length exceeded|context window", re.IGNORECASE)
_NOT_SENT = ("ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol", "LocalProtocolError")
"""Causes of a connection error before anything was sent: nobody listens, no such name, no connection left."""


class NoAnswerError(Exception):
    """A reply with status 200 that holds no answer."""


class Fault(NamedTuple):
    """Why a request got no answer.

    Attributes:
        message: in one line.
        charged: whether the service may have charged it all the same.
        again: whether the same request may be answered later.
        crowded: whether the service asks for fewer requests, which is true for all of them.
        asked: seconds that the service asks to wait; None if it does not say.
        finish_reason: for a request that is refused for what stands in it, why; empty for others.
    """

    message: str
    charged: bool
    again: bool
    crowded: bool = False
    asked: float | None = None
    finish_reason: str = ""

    def content(self, model: str) -> dict[str, Any]:
        """The answer that a refusal for what stands in the request amounts to: it costs nothing, and stays."""
        return {
            "text": "",
            "finish_reason": self.finish_reason,
            "refusal": self.message if self.finish_reason == "content_filter" else "",
            "logprobs": None,
            "model": model,
            "usage": {},
            "fingerprint": "",
        }


def fault_of(error: Exception, options: Mapping[str, Any], policy: RetryPolicy, where: str, key: str) -> Fault:
    """What an error of the service means for one request.

    Args:
        error: what the client raised.
        options: the request's options.
        policy: how long a service may ask to wait.
        where: the service and the model, for messages.
        key: which key went there, for messages.

    Raises:
        QuotaError, ServiceError: what no retry and no other request of this run would mend.
    """
    if isinstance(error, openai.APIStatusError):
        _raise_if_fatal(error, options, policy, where, key)
        return _refusal(error)
    if isinstance(error, TimeoutError):
        return Fault("the service gave no answer in time", charged=True, again=True)
    if isinstance(error, openai.APIConnectionError):
        sent = type(error.__cause__).__name__ not in _NOT_SENT
        return Fault(_connection(error), charged=sent, again=True)
    return Fault(one_line(error), charged=True, again=True)


def one_line(error: Exception) -> str:
    """An error's text in one line of at most 300 characters."""
    return " ".join(str(error).split())[:300]


def _refusal(error: openai.APIStatusError) -> Fault:
    status, message = error.status_code, one_line(error)
    finish_reason = ""
    if status < 500 and status not in PASSING:
        if str(error.code) in FILTERED or _inner_code(error) in FILTERED:
            finish_reason = "content_filter"
        elif str(error.code) in TOO_LONG or _TOO_LONG.search(message):
            finish_reason = "context_length_exceeded"
    return Fault(
        message,
        charged=status in MAYBE_CHARGED,
        again=status >= 500 or status in PASSING,
        crowded=status == 429,
        asked=asked_wait(error.response.headers),
        finish_reason=finish_reason,
    )


def _inner_code(error: openai.APIStatusError) -> str:
    inner = error.body.get("innererror") if isinstance(error.body, Mapping) else None
    return str(inner.get("code")) if isinstance(inner, Mapping) else ""


def _connection(error: openai.APIConnectionError) -> str:
    cause = one_line(error.__cause__) if isinstance(error.__cause__, Exception) else ""
    return f"{one_line(error)} {cause}".strip()[:300]


def _raise_if_fatal(
    error: openai.APIStatusError, options: Mapping[str, Any], policy: RetryPolicy, where: str, key: str
) -> None:
    asked = asked_wait(error.response.headers) or 0.0
    if error.code in QUOTA_CODES or error.status_code == 402:
        raise QuotaError(
            f"{where}: the account's quota is used up ({one_line(error)}) - add credit, then run the same command again; "
            "what was answered is kept."
        ) from error
    if error.status_code in (429, 503) and asked > policy.longest_asked:
        raise QuotaError(
            f"{where} asks to wait {asked:.0f} s - run the same command again then; what was answered is kept."
        ) from error
    if error.status_code in (401, 403):
        raise ServiceError(f"{where} refuses {key} ({one_line(error)}) - check it.") from error
    if 300 <= error.status_code < 400:
        raise ServiceError(
            f"{where} sends on to another address, which gets no text - name the service's own address."
        ) from error
    if error.status_code == 404:
        raise ServiceError(
            f"{where} does not know the model or the address ({one_line(error)}) - check both."
        ) from error
    if error.status_code == 400 and str(error.param).split(".")[0] in options:
        raise ServiceError(f"{where} does not take the option '{error.param}': {one_line(error)}") from error
