"""ShareGPT: conversations of people with ChatGPT, `id` and `conversations[{from, value}]`.

Exports differ: `items` or `messages` stand for `conversations`, `role` and `content` for `from` and `value`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from kollm.core.columns import Turn
from kollm.core.licences import OPENAI_TERMS
from kollm.core.records import Record
from kollm.sources.html import asks_for_html, is_html, to_markdown
from kollm.sources.page_leftovers import without_leftovers
from kollm.sources.source import Adapted, Place, Row, Source, check

_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "ai": "assistant",
    "assistant": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "system": "system",
}

_LISTS = ("conversations", "items", "messages", "conversation")
MAX_CONVERSATION = 6_000
"""Characters of English in one Record: about 3,000 of Korean (0.50 each in the 252 evaluation tasks and their DeepL
translation), which leaves a context of 2,048 tokens room for the prompt around them."""


class _Message(NamedTuple):
    role: str
    text: str


def adapt(row: Row, place: Place) -> Adapted:
    """One Record a conversation, or one a pair, as `place.turns` says.

    A system turn at the beginning is kept as such. Turns of one speaker in a row are merged; a leading assistant turn
    and a last question without an answer are removed; each is noted. What does not alternate after that, or has an
    unknown speaker or a system turn inside, is rejected.
    """
    raw = next((row[name] for name in _LISTS if isinstance(row.get(name), (list, tuple))), None)
    if raw is None:
        return place.reject(row, "no_conversations")
    messages = _read(raw)
    if isinstance(messages, str):
        return place.reject(row, messages)
    notes: list[str] = []
    merged = _merge(_clean(messages, notes), notes)
    system = merged.pop(0).text if merged and merged[0].role == "system" else ""
    if any(message.role == "system" for message in merged):
        return place.reject(row, "system_turn_inside")
    if merged and merged[0].role == "assistant":
        merged.pop(0)
        notes.append("leading_assistant_turn_removed")
    if merged and merged[-1].role == "user":
        merged.pop()
        notes.append("unanswered_last_turn_removed")
    if not merged:
        rejected = place.reject(row, "no_pair_of_turns")
        return rejected._replace(notes=tuple(notes))
    pairs = [(merged[i].text, merged[i + 1].text) for i in range(0, len(merged), 2)]
    base = place.own_id(row) or str(place.index)
    parts = [check(replace(record, system=system)) for record in _records(pairs, base, place, notes)]
    return Adapted(
        tuple(record for part in parts for record in part.records),
        tuple(rejected for part in parts for rejected in part.rejected),
        tuple(notes),
    )


def _read(raw: Iterable[object]) -> list[_Message] | str:
    messages = []
    for turn in raw:
        if not isinstance(turn, dict):
            return "turn_not_an_object"
        role = _ROLES.get(str(turn.get("from", turn.get("role", ""))).lower())
        text = turn.get("value", turn.get("content"))
        if role is None:
            return "unknown_speaker"
        if not isinstance(text, str):
            return "turn_not_text"
        if text.strip():  # an empty turn says nothing; its neighbours are merged
            messages.append(_Message(role, text.strip()))
    return messages


def _merge(messages: list[_Message], notes: list[str]) -> list[_Message]:
    merged: list[_Message] = []
    for message in messages:
        if merged and merged[-1].role == message.role:
            merged[-1] = _Message(message.role, f"{merged[-1].text}\n\n{message.text}")
            notes.append("turns_merged")
        else:
            merged.append(message)
    return merged


def _clean(messages: list[_Message], notes: list[str]) -> list[_Message]:
    """The messages without what their page left in them, and answers that are the HTML of a page as markdown."""
    cleaned: list[_Message] = []
    asked = False
    for message in messages:
        text = message.text
        asked = asked or (message.role != "assistant" and asks_for_html(text))
        if message.role == "assistant" and is_html(text, asked):
            text = to_markdown(text)
            notes.append("html_to_markdown")
        if message.role != "system" and (clean := without_leftovers(text)) != text:
            text = clean
            notes.append("page_leftovers_removed")
        if text.strip():
            cleaned.append(_Message(message.role, text))
    return cleaned


def _records(pairs: list[Turn], base: str, place: Place, notes: list[str]) -> list[Record]:
    if place.turns == "first":
        pairs = pairs[:1]
    if place.turns == "pairs":
        return [place.record(f"{base}-t{number}", user, "", bot) for number, (user, bot) in enumerate(pairs, start=1)]
    parts = _split(pairs)
    notes.extend(["conversation_split"] * (len(parts) - 1))
    return [
        place.record(base if len(parts) == 1 else f"{base}-p{number}", *_last(part), history=tuple(part[:-1]))
        for number, part in enumerate(parts, start=1)
    ]


def _last(part: list[Turn]) -> tuple[str, str, str]:
    instruction, output = part[-1]
    return instruction, "", output


def _split(pairs: list[Turn]) -> list[list[Turn]]:
    """Parts of at most MAX_CONVERSATION characters, cut between pairs; a longer pair is a part of its own.

    Every pair is in one part: the last one too, which FastChat's splitting loses when it goes past the limit.
    """
    parts: list[list[Turn]] = []
    room = 0
    for pair in pairs:
        size = len(pair[0]) + len(pair[1])
        if not parts or size > room:
            parts.append([])
            room = MAX_CONVERSATION
        parts[-1].append(pair)
        room -= size
    return parts


SHAREGPT = Source(
    name="sharegpt",
    title="ShareGPT",
    licence=OPENAI_TERMS,
    adapt=adapt,
    hub_id="anon8231489123/ShareGPT_Vicuna_unfiltered",
    revision="192ab2185289094fc556ec8ce5ce1e8e587154ca",
    hub_files="ShareGPT_V3_unfiltered_cleaned_split.json",
    personal=True,
    terms="Conversations that people shared with ChatGPT's answers: no licence was given by their authors, OpenAI's "
    "terms of use apply to the answers, and the text may carry personal data.",
)
