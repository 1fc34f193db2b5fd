"""Self-chat (Baize, arXiv 2304.01196): from a question, one model writes both sides of a conversation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kollm.core.columns import Turn
from kollm.core.records import Provenance, Record
from kollm.services.chat import ChatClient
from kollm.services.chat.messages import ChatReply, ChatRequest
from kollm.synthesize.made import Made
from kollm.synthesize.wording import Wording

SOURCE = "self_chat"
TURNS = 4
"""Exchanges asked for; Baize's data has 3.4 on average."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What to make.

    Attributes:
        turns: exchanges asked for.
        options: decoding options, over ours.
        licence: SPDX identifier that the rows get.
    """

    turns: int = TURNS
    options: dict[str, Any] = field(default_factory=dict)
    licence: str = "LicenseRef-model-terms"


async def self_chat(
    client: ChatClient,
    topics: Sequence[str],
    wording: Wording,
    language: str,
    settings: Settings | None = None,
) -> Made:
    """One conversation a topic.

    Args:
        client: the model that plays both roles.
        topics: questions or subjects that the conversations begin with.
        wording: the prompt and the marks of the roles.
        language: language of the rows, as a two-letter code.
        settings: turns, decoding and licence.

    Raises:
        QuotaError, ServiceError, MissingKeyError: as ChatClient raises them; what was answered is in the ledger.
    """
    settings = settings or Settings()
    records, dropped = [], Counter[str]()
    for number, reply in enumerate(await client.all(chat_requests(client, topics, wording, settings))):
        pairs = read_conversation(reply, wording)
        if not pairs:
            dropped[reply.status if reply.status in ("refusal", "api_error") else "no_conversation"] += 1
            continue
        records.append(
            Record(
                id=f"{SOURCE}-{number}",
                source=SOURCE,
                instruction=pairs[-1][0],
                input="",
                output=pairs[-1][1],
                history=tuple(pairs[:-1]),
                lang=language,
                licence=settings.licence,
                provenance=Provenance(engine=client.model, index=number),
            )
        )
    return Made(records, dropped)


def chat_requests(client: ChatClient, topics: Sequence[str], wording: Wording, settings: Settings) -> list[ChatRequest]:
    """What the model is asked: one request a topic."""
    options = {**client.facts.options(max_tokens=2048, temperature=1.0), **settings.options}
    requests = []
    for topic in topics:
        prompt = wording.self_chat.format(
            topic=topic, turns=settings.turns, user=wording.user, assistant=wording.assistant
        )
        requests.append(ChatRequest([{"role": "user", "content": prompt}], options))
    return requests


def read_conversation(reply: ChatReply, wording: Wording) -> list[Turn]:
    """The exchanges of a transcript up to the first that is out of turn, empty or cut off."""
    if reply.status not in ("ok", "truncated"):
        return []
    marks = re.compile(rf"({re.escape(wording.user)}|{re.escape(wording.assistant)})[ \t]*:?")
    parts = marks.split(reply.text)
    said = [(mark, text.strip()) for mark, text in zip(parts[1::2], parts[2::2], strict=True)]
    if reply.status == "truncated":
        said = said[:-1]
    pairs: list[Turn] = []
    for (first, question), (second, answer) in zip(said[::2], said[1::2], strict=False):
        if (first, second) != (wording.user, wording.assistant) or not question or not answer:
            break
        pairs.append((question, answer))
    return pairs
