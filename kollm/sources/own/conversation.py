"""A conversation of a user's own as a system message, earlier turns, a last question and its answer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from kollm.core.columns import Turn
from kollm.core.records import TOOL_CALL, TOOL_RESPONSE
from kollm.sources.own.forms import content_of, role_of
from kollm.sources.own.tools import filled
from kollm.sources.own.unreadable import UnreadableError

ROLES = {
    **dict.fromkeys(
        ("user", "human", "prompter", "customer", "client", "instruction", "사용자", "고객", "질문자", "유저"), "user"
    ),
    **dict.fromkeys(
        (
            "assistant",
            "gpt",
            "chatgpt",
            "bot",
            "model",
            "ai",
            "bing",
            "bard",
            "chatbot",
            "claude",
            "agent",
            "어시스턴트",
            "챗봇",
            "상담사",
            "상담원",
        ),
        "assistant",
    ),
    **dict.fromkeys(("system", "developer", "시스템"), "system"),
    **dict.fromkeys(("tool", "function", "observation", "tool_response", "tool_result", "ipython"), "tool"),
    **dict.fromkeys(("function_call", "tool_call"), "call"),
}
"""How a role is called in people's files -> what it is."""


class Conversation(NamedTuple):
    """What a conversation is as fields of a Record; `notes` names what was mended."""

    system: str
    history: tuple[Turn, ...]
    instruction: str
    output: str
    notes: tuple[str, ...]


class _Said(NamedTuple):
    role: str
    text: str


def read_conversation(turns: Iterable[Any], system: str = "", *, asked: bool = False) -> Conversation:
    """Read turns.

    Turns of one speaker in a row are merged; an assistant turn before the first question, and a last question without an
    answer, are removed, unless answers are what is wanted. A tool's call and its result are turns in marks of their own.

    Args:
        turns: objects with a role and a text, in one of the usual spellings.
        system: a system message that stands beside them.
        asked: whether the last question is to be answered, and needs no answer.

    Raises:
        UnreadableError: an unknown role, a turn that is no text, a system turn after others, or no question with an answer.
    """
    notes: list[str] = []
    messages = [_read(turn) for turn in turns if turn is not None]
    systems = [system] if system else []
    while messages and messages[0].role == "system":
        systems.append(messages.pop(0).text)
    if any(message.role == "system" for message in messages):
        raise UnreadableError("system_turn_after_others")
    merged: list[_Said] = []
    for message in messages:
        if not message.text.strip():
            notes.append("empty_turn_removed")
        elif merged and merged[-1].role == message.role:
            merged[-1] = _Said(message.role, f"{merged[-1].text}\n\n{message.text}")
            notes.append("turns_merged")
        else:
            merged.append(message)
    if merged and merged[0].role == "assistant":
        merged.pop(0)
        notes.append("leading_assistant_turn_removed")
    if merged and merged[-1].role == "user" and not asked:
        merged.pop()
        notes.append("unanswered_last_turn_removed")
    if not merged:
        raise UnreadableError("no_question_with_an_answer")
    answer = merged.pop().text if merged[-1].role == "assistant" else ""
    question = merged.pop().text
    history = tuple((merged[place].text, merged[place + 1].text) for place in range(0, len(merged), 2))
    return Conversation("\n\n".join(filter(str.strip, systems)), history, question, answer, tuple(notes))


def turn_text(value: Any) -> str | None:
    """The text of a turn's content: a string, or a list of parts that are all text; None for anything else."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, list):
        parts = [
            part if isinstance(part, str) else part.get("text") if isinstance(part, Mapping) else None for part in value
        ]
        return "\n".join(parts) if all(isinstance(part, str) for part in parts) else None  # type: ignore[arg-type]
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return None


def speaks(turn: Mapping[str, Any], role: str) -> bool:
    """Whether the turn is one of this role."""
    name = role_of(turn)
    return isinstance(name, str) and ROLES.get(name.strip().lower()) == role


def answer_text(turn: Mapping[str, Any]) -> str | None:
    """What an assistant's turn says and calls, whoever the turn says it is; None where it is no text."""
    text = turn_text(content_of(turn))
    if text is None or not (calls := turn.get("tool_calls") or turn.get("function_call")):
        return text
    written = "\n".join(
        _marked(TOOL_CALL, _call_text(call)) for call in (calls if isinstance(calls, list) else [calls])
    )
    return f"{text}\n{written}" if text.strip() else written


def _read(turn: Any) -> _Said:
    if not isinstance(turn, Mapping):
        raise UnreadableError("turn_not_an_object")
    name = role_of(turn)
    role = ROLES.get(str(name).strip().lower()) if isinstance(name, str) else None
    if role is None:
        raise UnreadableError(f"unknown_role: {str(name)[:40]}")
    content = content_of(turn)
    if role in ("tool", "call") and isinstance(content, Mapping):  # what a function takes or gives, as it is
        content = json.dumps(filled(content), ensure_ascii=False, default=str)
    text = answer_text(turn) if role == "assistant" else turn_text(content)
    if text is None:
        raise UnreadableError("turn_not_text")
    if role == "call":
        return _Said("assistant", _marked(TOOL_CALL, text))
    if role == "tool":
        return _Said("user", _marked(TOOL_RESPONSE, text))
    return _Said(role, text)


def _call_text(call: Any) -> str:
    function = call.get("function", call) if isinstance(call, Mapping) else call
    return function if isinstance(function, str) else json.dumps(filled(function), ensure_ascii=False)


def _marked(mark: tuple[str, str], text: str) -> str:
    return f"{mark[0]}\n{text.strip()}\n{mark[1]}"
