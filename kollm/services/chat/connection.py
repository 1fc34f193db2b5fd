"""OpenAI's client for an endpoint: its key, no header that belongs to another host, no redirect to one, no endless answer.

The client adds headers from variables of the environment (organisation, project, headers of the user's own) to whatever
host it asks. They are OpenAI's, and are taken out again for any other.
"""

from __future__ import annotations

import functools
import os
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx2
import openai

from kollm.services.endpoint import Endpoint

MOST_BYTES = 32 << 20
"""Size of one answer: the longest replies of any model have some hundred thousand characters."""
MOST_FILE_BYTES = 4 << 30
"""Size of one file of a batch's answers."""
_NO_KEY = "none"
"""OpenAI's client would look for a key of its own in the environment if it got none."""


class _Bounded:
    """The body of an answer, up to a size; what is packed could be of any, and is not asked for."""

    def __init__(self, response: httpx2.Response, most: int) -> None:
        self._stream: Any = response.stream
        self._response, self._most, self._read = response, most, 0

    def _count(self, part: bytes) -> bytes:
        self._read += len(part)
        packed = self._response.headers.get("Content-Encoding", "identity").lower()
        if packed != "identity" or self._read > self._most:
            what = f"packed ({packed[:20]})" if packed != "identity" else f"larger than {self._most >> 20} MiB"
            raise httpx2.RemoteProtocolError(f"the answer is {what}", request=self._response.request)
        return part


class _SyncBody(_Bounded, httpx2.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        yield from map(self._count, self._stream)

    def close(self) -> None:
        self._stream.close()


class _AsyncBody(_Bounded, httpx2.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            yield self._count(part)

    async def aclose(self) -> None:
        await self._stream.aclose()


def connection(endpoint: Endpoint, key: str, **options: Any) -> openai.OpenAI:
    """A client that blocks; the options are those of OpenAI's client."""
    clean = _cleaner(endpoint, key)

    def bound(response: httpx2.Response) -> None:
        response.stream = _SyncBody(response, MOST_FILE_BYTES)

    hooks: dict[str, list[Callable[..., Any]]] = {"request": [clean], "response": [bound]}
    http = openai.DefaultHttpxClient(verify=_authorities(), follow_redirects=False, event_hooks=hooks)
    return openai.OpenAI(api_key=key or _NO_KEY, base_url=endpoint.url, http_client=http, **options)


def async_connection(endpoint: Endpoint, key: str, **options: Any) -> openai.AsyncOpenAI:
    """A client for asyncio; the options are those of OpenAI's client."""
    clean = _cleaner(endpoint, key)

    async def clean_later(request: Any) -> None:
        clean(request)

    async def bound(response: httpx2.Response) -> None:
        response.stream = _AsyncBody(response, MOST_BYTES)

    hooks: dict[str, list[Callable[..., Any]]] = {"request": [clean_later], "response": [bound]}
    http = openai.DefaultAsyncHttpxClient(verify=_authorities(), follow_redirects=False, event_hooks=hooks)
    return openai.AsyncOpenAI(api_key=key or _NO_KEY, base_url=endpoint.url, http_client=http, **options)


@functools.cache
def _authorities() -> ssl.SSLContext:
    """Whose certificates count: as httpx has it, read once a process rather than for each client, where it takes 20 ms."""
    return httpx2.create_ssl_context()


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
        request.headers["Accept-Encoding"] = "identity"
        for name in unwanted:
            request.headers.pop(name, None)
        if key and not endpoint.is_openais:
            request.headers["Authorization"] = f"Bearer {key}"

    return clean
