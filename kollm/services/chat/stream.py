"""One answer as it is said, for a conversation that a person follows. It is not kept in the ledger: nobody asks it twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import openai

from kollm.core.errors import ServiceError
from kollm.recipe.tools import marked_calls
from kollm.services.chat.connection import connection
from kollm.services.endpoint import Endpoint

TIMEOUT = 60.0
"""Seconds without a word after which a service is given up."""


def stream_answer(
    endpoint: Endpoint, model: str, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
) -> Iterator[str]:
    """The pieces of an answer as they come; closing the iterator ends the request.

    Calls of tools come last, whole, between the marks that rows have them in.

    Raises:
        ServiceError: the service does not answer, or stops in the middle.
    """
    endpoint.announce()
    turns: Any = list(messages)
    said, calls = False, dict[int, dict[str, str]]()
    with connection(endpoint, endpoint.key, max_retries=2, timeout=TIMEOUT) as client:
        try:
            with client.chat.completions.create(model=model, messages=turns, stream=True, **options) as stream:
                for chunk in stream:
                    if not chunk.choices:
                        continue
                    if piece := chunk.choices[0].delta.content:
                        said = True
                        yield piece
                    for part in chunk.choices[0].delta.tool_calls or ():
                        _add(calls, part)
            if made := marked_calls("", [{"function": call} for _, call in sorted(calls.items())]):
                yield f"\n{made}" if said else made
        except openai.OpenAIError as error:
            raise ServiceError(
                f"{model} at {endpoint.url} did not answer ({type(error).__name__}) - try again."
            ) from error


def _add(calls: dict[int, dict[str, str]], part: Any) -> None:
    """A piece of a call: its name comes at once, its arguments in parts."""
    call = calls.setdefault(part.index, {"name": "", "arguments": ""})
    if part.function is not None:
        call["name"] += part.function.name or ""
        call["arguments"] += part.function.arguments or ""
