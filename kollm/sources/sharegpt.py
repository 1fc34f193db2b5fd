"""ShareGPT: conversations of people with ChatGPT, `id` and `conversations[{from, value}]`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from kollm.records import Record, Turn
from kollm.sources.source import Adapted, Place, Row, Source, check

_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "system": "system",
}


class _Message(NamedTuple):
    role: str
    text: str


def adapt(row: Row, place: Place) -> Adapted:
    """One Record a conversation, or one a pair, as `place.turns` says.

    Turns of one speaker in a row are merged; a leading assistant turn and a last question without an answer are
    removed; each is noted. What does not alternate after that, or has an unknown speaker, is rejected.
    """
    raw = row.get("conversations")
    if not isinstance(raw, (list, tuple)):
        return place.reject(row, "no_conversations")
    messages = _read(raw)
    if isinstance(messages, str):
        return place.reject(row, messages)
    notes: list[str] = []
    merged = _merge(messages, notes)
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
    own_id = row.get("id")
    base = str(own_id) if isinstance(own_id, (str, int)) else str(place.index)
    parts = [check(record) for record in _records(pairs, base, place)]
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
        if role == "system":
            return "system_turn"
        if not isinstance(text, str):
            return "turn_not_text"
        if text.strip():
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


def _records(pairs: list[Turn], base: str, place: Place) -> list[Record]:
    if place.turns == "first":
        pairs = pairs[:1]
    if place.turns == "pairs":
        return [place.record(f"{base}-t{number}", user, "", bot) for number, (user, bot) in enumerate(pairs, start=1)]
    return [place.record(base, pairs[-1][0], "", pairs[-1][1], history=tuple(pairs[:-1]))]


SHAREGPT = Source(
    name="sharegpt",
    title="ShareGPT",
    licence="LicenseRef-OpenAI-terms",
    adapt=adapt,
    hub_id="anon8231489123/ShareGPT_Vicuna_unfiltered",
    revision="192ab2185289094fc556ec8ce5ce1e8e587154ca",
    hub_files="ShareGPT_V3_unfiltered_cleaned_split.json",
    terms="Conversations that people shared with ChatGPT's answers: no licence was given by their authors, OpenAI's "
    "terms of use apply to the answers, and the text may carry personal data.",
)
