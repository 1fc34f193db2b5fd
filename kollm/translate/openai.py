"""Any OpenAI-compatible chat model, through chat.py: one request a document, structured output, many at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kollm.core.counting import counted
from kollm.core.errors import InputError, MissingExtraError, ServiceError
from kollm.core.hashing import text_sha256
from kollm.core.replies import read_json_object, without_reasoning
from kollm.services.budget import Budget, Usage
from kollm.services.ledger import Ledger
from kollm.translate.translator import Limits, Segment, Translation

try:
    from kollm.services.chat import ChatClient, ChatReply, ChatRequest, ChatService, run_async
    from kollm.services.endpoint import chat_endpoint
    from kollm.services.prices import DEFAULT_MODEL, model_facts
except ImportError as error:
    raise MissingExtraError("openai", "translate") from error

PROMPT = Path(__file__).with_name("prompt.txt").read_text(encoding="utf-8")
_SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "translation",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"document": {"type": "string", "description": "the translated XML document"}},
            "required": ["document"],
            "additionalProperties": False,
        },
    },
}
_DOCUMENT = re.compile(r"<d>.*</d>", re.DOTALL)
_BYTES = 64 * 1024
"""Longest document, in bytes of ASCII-escaped JSON: well within the context of current models."""


class OpenAITranslator:
    """Translates XML documents by a chat model.

    The ledger is written by the chat client, one purchase a document; the cap on cost is kept there too.

    Args:
        model: the model, by the service's own name.
        base_url: the service; None for $OPENAI_BASE_URL, else OpenAI.
        structured: whether to ask for structured output; False for servers that do not know it.
        options: further options of the request, e.g. `{"temperature": 0.3}`.
        concurrency: requests at once.
        price: USD for a million tokens in and out, where the table of models has none or another one.
        client_options: further fields of ChatService, e.g. `timeout` and `retry`.
    """

    name = "openai"
    kept = True
    books_itself = True
    markup = True

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        base_url: str | None = None,
        *,
        structured: bool = True,
        options: Mapping[str, Any] | None = None,
        concurrency: int = 32,
        price: tuple[float, float] | None = None,
        client_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self._facts = model_facts(model, price)
        self._structured, self._extra = structured, dict(options or {})
        self._service = ChatService(model, base_url, price=price, concurrency=concurrency, **(client_options or {}))
        self._client: ChatClient | None = None
        self.endpoint = chat_endpoint(base_url)
        self.base_url = self.endpoint.url
        self.options: Mapping[str, Any] = {
            "structured": structured,
            "prompt_sha256": text_sha256(PROMPT),
            **self._extra,
        }
        self.limits = Limits(workers=1, batch_texts=8 * concurrency, text_bytes=_BYTES, texts_apart=True)

    def start(self, ledger: Ledger | None, budget: Budget) -> None:
        """Open the chat client on the stream's ledger and cap.

        Raises:
            InputError: a cap on characters, which this service does not bill.
        """
        if budget.max_characters is not None:
            raise InputError("The openai engine is billed by tokens, not characters - give --max-cost in USD instead.")
        if self._client is None or self._client.ledger is not ledger or self._client.budget is not budget:
            self._client = ChatClient(self._service, kind="translate", ledger=ledger, budget=budget)

    def translate(self, batch: Sequence[Segment]) -> list[Translation]:
        """One request a segment, many at once; what the ledger holds is not asked again.

        Raises:
            ServiceError: not one segment got an answer.
        """
        assert self._client is not None, "start() comes first"
        replies = run_async(self._client.all([self._request(segment) for segment in batch]))
        errors = [reply.error for reply in replies if reply.status == "api_error"]
        if len(errors) == len(batch) and len(batch) > 1:
            raise ServiceError(
                f"{self._client.base_url} answered none of {counted(len(batch), 'request')}, e.g.: {errors[0]} - run the same command "
                "again later; what was answered is kept."
            )
        return [self._translation(reply) for reply in replies]

    def stop(self) -> None:
        """Send nothing more; what is under way comes into the ledger."""
        if self._client is not None:
            self._client.stop()

    def price(self, text: str) -> tuple[int, float]:
        """Nothing here: the chat client prices and caps each request."""
        return 0, 0.0

    def usage(self) -> Usage | None:
        """Such services tell no count of their own."""
        return None

    def _request(self, segment: Segment) -> ChatRequest:
        # Korean takes more tokens than English; a longer answer than this is a model that went astray.
        options = self._facts.options(max_tokens=512 + 2 * len(segment.text), temperature=0.0)
        if self._structured:
            options["response_format"] = _SCHEMA
        messages = [{"role": "system", "content": PROMPT}, {"role": "user", "content": segment.text}]
        return ChatRequest(messages, {**options, **self._extra}, attempt=segment.attempt)

    def _translation(self, reply: ChatReply) -> Translation:
        if reply.status != "ok":
            detail = reply.refusal or reply.error or reply.finish_reason
            return Translation(None, cost=reply.cost, reason=f"{reply.status}: {detail}")
        values = read_json_object(reply.text) if self._structured else None
        # A server that does not know structured output replies with the bare document.
        text: Any = without_reasoning(reply.text) if values is None else values.get("document")
        found = _DOCUMENT.search(text) if isinstance(text, str) else None
        if found is not None:
            return Translation(found.group(), cost=reply.cost)
        what = (
            "the answer is not the JSON asked for"
            if self._structured and values is None
            else "no document in the answer"
        )
        return Translation(None, cost=reply.cost, reason=f"parse_error: {what}")
