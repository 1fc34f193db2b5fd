"""DeepL through its official client, one client a thread, one request a call."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from kollm.core.errors import InputError, MissingExtraError, QuotaError, ServiceError
from kollm.services.budget import Budget, Usage
from kollm.services.endpoint import deepl_endpoint
from kollm.services.ledger import Ledger
from kollm.services.retry import asked_wait
from kollm.translate.masking import visible_length
from kollm.translate.translator import Limits, RefusedError, Segment, TransientError, Translation

try:
    import deepl
    import requests
    import urllib3
    from deepl.http_client import HttpClient
except ImportError as error:
    raise MissingExtraError("deepl", "translate") from error

BODY_BYTES = 128 * 1024
"""Largest request body that DeepL takes (its documentation)."""
MARGIN_BYTES = 2 * 1024
MOST_BYTES = 32 << 20
"""A longer answer is none: that to a full request is below a thirtieth of it."""
INSTRUCTIONS = (
    "Translate into polite, formal Korean (존댓말) throughout, also where the English is casual.",
    "Write requests and instructions as polite requests ending in -세요 or -십시오, statements in -니다.",
)
"""Custom instructions for one register: `formality` does not cover Korean."""
PRICE = 25.0
"""USD for a million characters; a third party's page of 2026, so a parameter."""


class DeepLTranslator:
    """Translates XML documents from English to Korean.

    Args:
        auth_key: the account's key; None for $DEEPL_AUTH_KEY.
        server_url: None for $DEEPL_SERVER_URL, else the client's own choice by the kind of key.
        model_type: `quality_optimized`, `prefer_quality_optimized` or `latency_optimized`.
        instructions: at most 10 custom instructions of 300 characters.
        glossary: id of a glossary; None for none.
        price: USD for a million characters.
        workers: requests at once.
        requests_per_second: most requests a second.
        timeout: seconds to wait for an answer.

    Raises:
        MissingKeyError: there is no key.
        InputError: options that DeepL does not take.
    """

    name = "deepl"
    kept = True
    books_itself = False
    markup = True

    def __init__(
        self,
        auth_key: str | None = None,
        server_url: str | None = None,
        *,
        model_type: str = "quality_optimized",
        instructions: Sequence[str] = INSTRUCTIONS,
        glossary: str | None = None,
        price: float = PRICE,
        workers: int = 16,
        requests_per_second: float = 20.0,
        timeout: float = 60.0,
    ) -> None:
        self.endpoint = deepl_endpoint(server_url, auth_key or None)
        key = auth_key or self.endpoint.key
        _check(model_type, instructions)
        self._key, self._timeout, self._price = key, timeout, price
        self._local = threading.local()
        self.base_url = str(self._client().server_url)
        self.model = model_type
        self.options: Mapping[str, Any] = {
            "source_lang": "EN",
            "target_lang": "KO",
            "tag_handling": "xml",
            "tag_handling_version": "v2",
            "outline_detection": False,
            "splitting_tags": ["t", "l"],
            "non_splitting_tags": ["x"],
            "preserve_formatting": True,
            "custom_instructions": list(instructions) or None,
            "glossary": glossary,
        }
        self.limits = Limits(
            workers=workers,
            batch_texts=50,
            batch_bytes=BODY_BYTES - MARGIN_BYTES - len(json.dumps(self.options)),
            requests_per_second=requests_per_second,
        )

    def start(self, ledger: Ledger | None, budget: Budget) -> None:
        """Nothing to prepare."""

    def translate(self, batch: Sequence[Segment]) -> list[Translation]:
        """One request; see Translator for what is raised."""
        texts = [segment.text for segment in batch]
        client = self._client()
        try:
            results = client.translate_text(texts, model_type=self.model, **self.options)
        except deepl.DeepLException as error:
            raise self._meaning(error, client) from error
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
            reason = " ".join(str(error).split())[:200]
            raise TransientError(
                f"DeepL sent no translations ({type(error).__name__}: {reason})", charged=True
            ) from error
        if not isinstance(results, list) or len(results) != len(batch):
            raise TransientError(f"DeepL answered another number of texts than {len(batch)}", charged=True)
        if not all(
            isinstance(r.text, str) and type(r.billed_characters) is int and r.billed_characters >= 0 for r in results
        ):
            raise TransientError("DeepL sent a translation without its text or its billed characters", charged=True)
        return [
            Translation(result.text, result.billed_characters, result.billed_characters * self._price / 1e6)
            for result in results
        ]

    def stop(self) -> None:
        """Nothing to stop."""

    def price(self, text: str) -> tuple[int, float]:
        """The document without its tags, which are not billed."""
        characters = visible_length(text)
        return characters, characters * self._price / 1e6

    def usage(self) -> Usage | None:
        """The account's characters of this billing period.

        Raises:
            ServiceError: the key is wrong, or DeepL cannot be reached.
        """
        client = self._client()
        try:
            detail = client.get_usage().character
        except deepl.DeepLException as error:
            meaning = self._meaning(error, client)
            if isinstance(meaning, ServiceError):
                raise meaning from error
            raise ServiceError(
                f"DeepL at {self.base_url} does not tell its usage ({meaning}) - try again later."
            ) from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ServiceError(
                f"DeepL at {self.base_url} does not tell its usage (its answer is none) - try again later."
            ) from error
        return Usage(detail.count, detail.limit) if type(detail.count) is int and type(detail.limit) is int else None

    def _client(self) -> deepl.DeepLClient:
        if not hasattr(self._local, "client"):
            try:
                client = deepl.DeepLClient(self._key, server_url=self.endpoint.url)
            except ValueError as error:
                raise InputError(f"DeepL's client refuses its settings ({error}) - check DEEPL_AUTH_KEY.") from error
            # The client's own retries ignore Retry-After, sleep while others wait, and cannot tell what may be charged.
            client._client = _OneRequest(self._timeout)
            self._local.client = client
        return self._local.client

    def _meaning(self, error: deepl.DeepLException, client: deepl.DeepLClient) -> Exception:
        status, text = error.http_status_code, str(error)
        if isinstance(error, deepl.AuthorizationException):
            return ServiceError(f"DeepL refuses the key ({text}) - check DEEPL_AUTH_KEY and DEEPL_SERVER_URL.")
        if isinstance(error, deepl.QuotaExceededException):
            return QuotaError(
                f"DeepL's quota is used up ({text}) - raise it or wait for the next billing period, then run the same "
                "command again; what was answered is kept."
            )
        if status in (400, 413):
            return RefusedError(text)
        if status in (429, 503, 529):
            return TransientError(text, wait=client._client.retry_after)
        if status is None or status >= 500:
            return TransientError(text, wait=client._client.retry_after, charged=client._client.sent)
        return ServiceError(f"DeepL answers with an error ({text}) - check the options and DEEPL_SERVER_URL.")


class _OneRequest(HttpClient):  # type: ignore[misc]
    """DeepL's HTTP client with one try a call, a time limit, and the server's Retry-After at hand."""

    def __init__(self, timeout: float) -> None:
        super().__init__()
        self.retry_after: float | None = None
        self.sent = True
        self._timeout = timeout

    def request_with_backoff(
        self, method: str, url: str, data: Any, json: Any, headers: dict[str, str], stream: bool = False, **kwargs: Any
    ) -> tuple[int, Any]:
        self.retry_after, self.sent = None, True
        request = self._prepare_request(method, url, data, json, headers, **kwargs)
        try:
            response = self._session.send(request, stream=True, timeout=(10.0, self._timeout), allow_redirects=False)
            self.retry_after = asked_wait(response.headers)
            if 300 <= response.status_code < 400:
                raise deepl.DeepLException(
                    "it sends on to another address, which gets no text", http_status_code=response.status_code
                )
            if stream:
                return response.status_code, response
            return response.status_code, self._read(response)
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
            self.sent = not _never_sent(error)
            raise deepl.ConnectionException(f"no answer: {error}", should_retry=True) from error

    def _read(self, response: requests.Response) -> str:
        """The whole body, within the time limit, which in `requests` is one of each read, and MOST_BYTES."""
        deadline, parts, size = time.monotonic() + self._timeout, [], 0
        while part := response.raw.read1(1 << 16, decode_content=True):
            parts.append(part)
            size += len(part)
            if size > MOST_BYTES:
                response.close()
                raise requests.exceptions.RequestException(f"it is longer than {MOST_BYTES >> 20} MiB")
            if time.monotonic() > deadline:
                response.close()
                raise requests.exceptions.ReadTimeout(f"not whole after {self._timeout:.0f} s")
        return b"".join(parts).decode("utf-8", errors="replace")


def _never_sent(error: Exception) -> bool:
    """Whether the request certainly never left: nobody listens, no such name, no connection in time."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, requests.exceptions.ConnectTimeout) or isinstance(
        reason, urllib3.exceptions.NewConnectionError
    )


def _check(model_type: str, instructions: Sequence[str]) -> None:
    allowed = [str(item.value) for item in deepl.ModelType]
    if model_type not in allowed:
        raise InputError(f"DeepL has no model type '{model_type}' - use one of {', '.join(allowed)}.")
    if instructions and model_type == "latency_optimized":
        raise InputError(
            "DeepL's latency_optimized model takes no custom instructions - use quality_optimized, or none."
        )
    if len(instructions) > 10 or any(len(item) > 300 for item in instructions):
        raise InputError(
            f"DeepL takes at most 10 custom instructions of 300 characters, not {len(instructions)} of up to "
            f"{max(map(len, instructions))} - shorten them."
        )
