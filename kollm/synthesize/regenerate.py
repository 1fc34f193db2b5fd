"""Answers asked anew of a model: KoAlpaca's way (instruction translated, output generated) and GPT-4-LLM's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kollm.core.records import Record
from kollm.services.chat import ChatClient
from kollm.services.chat.messages import ChatRequest
from kollm.services.chat.row_messages import asked_messages, tool_options
from kollm.synthesize.made import Made

ROUTE = "regenerate"


async def regenerate(
    client: ChatClient, records: Sequence[Record], *, system: str = "", options: dict[str, Any] | None = None
) -> Made:
    """The records with their last answer replaced by the model's; earlier turns go along as they are, and so do the tools.

    Args:
        client: the model that answers.
        records: Korean records; their own outputs are not sent.
        system: a system message; none by default, since how KoAlpaca asked is not known.
        options: decoding options, over ours.

    Returns:
        The answered records, `provenance.route` `regenerate` and the model added to `engine`; the others are counted
        by the status of their reply.

    Raises:
        QuotaError, ServiceError, MissingKeyError: as ChatClient raises them; what was answered is in the ledger.
    """
    requests = answer_requests(client, records, system, options)
    made, dropped = [], Counter[str]()
    for record, reply in zip(records, await client.all(requests), strict=True):
        if reply.status != "ok" or not reply.text.strip():
            dropped[reply.status if reply.status != "ok" else "empty_answer"] += 1
            continue
        engine = "+".join(name for name in (record.provenance.engine, client.model) if name)
        provenance = replace(record.provenance, route=ROUTE, engine=engine)
        # The English answer is not what this one was translated from: filters are not to compare the two.
        original = replace(record.original, output="") if record.original else None
        made.append(replace(record, output=reply.text.strip(), original=original, provenance=provenance))
    return Made(made, dropped)


def answer_requests(
    client: ChatClient, records: Sequence[Record], system: str = "", options: dict[str, Any] | None = None
) -> list[ChatRequest]:
    """What the model is asked: one request a record."""
    settings = {**client.facts.options(max_tokens=2048, temperature=0.0), **(options or {})}
    said = [{"role": "system", "content": system}] if system else []
    return [
        ChatRequest([*said, *asked_messages(record)], {**settings, **tool_options(record.tools)}) for record in records
    ]
