"""One answer as it is said, for a conversation that a person follows. It is not kept in the ledger: nobody asks it twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import openai

from kollm.core.errors import ServiceError
from kollm.services.chat.connection import connection
from kollm.services.endpoint import Endpoint

TIMEOUT = 60.0
"""Seconds without a word after which a service is given up."""


def stream_answer(
    endpoint: Endpoint, model: str, messages: Sequence[Mapping[str, str]], options: Mapping[str, Any]
) -> Iterator[str]:
    """The pieces of an answer as they come; closing the iterator ends the request.

    Raises:
        ServiceError: the service does not answer, or stops in the middle.
    """
    endpoint.announce()
    turns: Any = list(messages)
    with connection(endpoint, endpoint.key, max_retries=2, timeout=TIMEOUT) as client:
        try:
            with client.chat.completions.create(model=model, messages=turns, stream=True, **options) as stream:
                for chunk in stream:
                    if chunk.choices and (piece := chunk.choices[0].delta.content):
                        yield piece
        except openai.OpenAIError as error:
            raise ServiceError(
                f"{model} at {endpoint.url} did not answer ({type(error).__name__}) - try again."
            ) from error
