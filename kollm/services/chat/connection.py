"""OpenAI's client for an endpoint: its key, no header that belongs to another host, and no redirect to one.

The client adds headers from variables of the environment (organisation, project, headers of the user's own) to whatever
host it asks. They are OpenAI's, and are taken out again for any other.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import openai

from kollm.services.endpoint import Endpoint

_NO_KEY = "none"
"""OpenAI's client would look for a key of its own in the environment if it got none."""


def connection(endpoint: Endpoint, key: str, **options: Any) -> openai.OpenAI:
    """A client that blocks; the options are those of OpenAI's client."""
    clean = _cleaner(endpoint, key)
    http = openai.DefaultHttpxClient(follow_redirects=False, event_hooks={"request": [clean]})
    return openai.OpenAI(api_key=key or _NO_KEY, base_url=endpoint.url, http_client=http, **options)


def async_connection(endpoint: Endpoint, key: str, **options: Any) -> openai.AsyncOpenAI:
    """A client for asyncio; the options are those of OpenAI's client."""
    clean = _cleaner(endpoint, key)

    async def clean_later(request: Any) -> None:
        clean(request)

    http = openai.DefaultAsyncHttpxClient(follow_redirects=False, event_hooks={"request": [clean_later]})
    return openai.AsyncOpenAI(api_key=key or _NO_KEY, base_url=endpoint.url, http_client=http, **options)


def _cleaner(endpoint: Endpoint, key: str) -> Callable[[Any], None]:
    """What takes a request's headers that its host must not get, just before it is sent."""
    unwanted: list[str] = []
    if not endpoint.is_openais:
        lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
        own = [line.partition(":")[0].strip() for line in lines if ":" in line]
        unwanted = ["OpenAI-Organization", "OpenAI-Project", "Authorization", *own]
    elif not key:
        unwanted = ["Authorization"]

    def clean(request: Any) -> None:
        for name in unwanted:
            request.headers.pop(name, None)
        if key and not endpoint.is_openais:
            request.headers["Authorization"] = f"Bearer {key}"

    return clean
