"""Rows out of the wrappings of exports: Argilla, Label Studio, OpenAssistant, ChatGPT, Claude, OpenAI's preferences, HH.

What such a file holds is turned into columns of the usual forms; what cannot be, since the file does not say who asks and
who answers, is refused with the reason.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kollm.core.errors import InputError
from kollm.sources.own.forms import CONTENT_KEYS, MESSAGES, QUESTIONS, ROLE_KEYS, TEXTS, is_turn

_INNER = ("data", "fields", "row", "example", "sample", "record", "item", "body")
"""Keys under which an export keeps the columns of a row."""
_UNANSWERED = "annotations"
"""Column of what no text was found in."""
_HUMAN = re.compile(r"\n\n(Human|Assistant): ?")
_KAKAO = re.compile(r"(님과|님들과|님과의).{0,20}카카오톡 대화|KakaoTalk Chats with")
_WRITTEN_OUT = (
    "<|im_start|>",
    "<|start_header_id|>",
    "<start_of_turn>",
    "[INST]",
    "### Instruction",
    "### Human:",
    "### 질문",
    "### 명령어",
    "### 응답",
)
"""Marks of templates, by which a text is a conversation that was written out."""


def unwrapped(row: Any) -> Any:
    """A row without the wrapping of an export; as it is where it has none that is known."""
    if isinstance(row, list) and row and all(is_turn(turn) for turn in row):
        return {"messages": row}
    if not isinstance(row, Mapping):
        return row
    for read in (_argilla, _label_studio, _tree, _chatgpt, _claude, _preferred, _written_pair, _inner):
        found = read(row)
        if found is not None:
            row = found
            break
    return {name: _listed(value) for name, value in row.items()}


def refuse_exports(rows: Sequence[Mapping[str, Any]], where: str) -> None:
    """Refuse exports that hold no questions with answers as rows.

    Raises:
        InputError: one is such an export; the message says what would do.
    """
    first = rows[0]
    if {"parent_id", "role", "text"} <= first.keys():
        raise InputError(
            f"'{where}' has a message of a conversation tree a row, and its answers are other rows - take the export of whole "
            "trees (..._trees.jsonl)."
        )
    if all(_UNANSWERED in row for row in rows):
        raise InputError(
            f"'{where}' is Label Studio's full export, and no annotation of its first rows holds a text or a choice - export "
            "tasks that are answered."
        )
    texts = [row["text"] for row in rows if isinstance(row.get("text"), str)]
    if texts and _KAKAO.search(texts[0]):
        raise InputError(
            f"'{where}' is an export of KakaoTalk, which does not say who asks and who answers, and holds the words of others - "
            "make rows of it with a question and its answer."
        )
    if len(texts) == len(rows) and not any(set(row) & {"instruction", "prompt", "messages"} for row in rows):
        marks = [mark for mark in _WRITTEN_OUT if sum(mark in text for text in texts) * 2 > len(texts)]
        if marks:
            raise InputError(
                f"The texts of '{where}' are conversations written out in a template ('{marks[0]}'), of which every letter would "
                "be learned - give them as messages, or as a question and its answer; --map text=text takes them as plain text."
            )


def _argilla(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """`fields` with `responses` or `suggestions`; or, from `to_datasets`, columns `x.responses` and `x.suggestion`."""
    if isinstance(row.get("fields"), Mapping):
        answers = row.get("responses") or row.get("suggestions") or {}
        named = {name: _first_value(value) for name, value in answers.items()} if isinstance(answers, Mapping) else {}
        return {"id": row.get("id"), **row["fields"], **named}
    ends = (".responses", ".suggestion")
    if not any(str(name).endswith(ends) for name in row):
        return None
    flat = dict(row)
    for name in row:
        for end in ends:
            if str(name).endswith(end) and (bare := name.removesuffix(end)) not in flat:
                flat[bare] = _first_value(flat.pop(name))
    return flat


def _label_studio(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The full export: the task's `data`, and the first annotation's texts and choices by the name of their field."""
    data, annotations = row.get("data"), row.get("annotations", row.get("completions"))
    if not isinstance(data, Mapping) or not isinstance(annotations, list):
        return None
    kept = [item for item in annotations if isinstance(item, Mapping) and not item.get("was_cancelled")]
    results = kept[0].get("result") if kept else []
    named = {}
    for result in results if isinstance(results, list) else []:
        value = result.get("value") if isinstance(result, Mapping) else None
        texts = value.get("text", value.get("choices")) if isinstance(value, Mapping) else None
        if isinstance(texts, list) and all(isinstance(text, str) for text in texts):
            named[str(result.get("from_name"))] = "\n".join(texts)
    return {"id": row.get("id"), **data, **(named or {_UNANSWERED: annotations})}


def _tree(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """OpenAssistant's tree: the best answer to each message, that is the one of the lowest rank."""
    node = row.get("prompt")
    if not isinstance(node, Mapping) or "replies" not in node:
        return None
    turns: list[dict[str, Any]] = []
    while isinstance(node, Mapping) and len(turns) < 1000:
        turns.append({"role": node.get("role"), "content": node.get("text")})
        replies = [item for item in node.get("replies") or () if isinstance(item, Mapping) and not item.get("deleted")]
        node = min(replies, key=_rank, default=None)
    return {"id": row.get("message_tree_id"), "messages": turns}


def _rank(node: Mapping[str, Any]) -> float:
    rank = node.get("rank")
    return float(rank) if isinstance(rank, int | float) else 1e9


def _chatgpt(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """ChatGPT's `conversations.json`: the branch that was looked at last."""
    nodes, place = row.get("mapping"), row.get("current_node")
    if not isinstance(nodes, Mapping) or not isinstance(place, str):
        return None
    turns: list[dict[str, Any]] = []
    seen = set()
    while isinstance(place, str) and place in nodes and place not in seen:
        seen.add(place)
        node = nodes[place]
        message = node.get("message") if isinstance(node, Mapping) else None
        if isinstance(message, Mapping) and isinstance(message.get("author"), Mapping):
            content = message.get("content")
            parts = content.get("parts") if isinstance(content, Mapping) else None
            texts = [part for part in parts or () if isinstance(part, str) and part.strip()]
            role = message["author"].get("role")
            if texts and role in ("user", "assistant"):
                turns.append({"role": role, "content": "\n".join(texts)})
        place = node.get("parent") if isinstance(node, Mapping) else None
    return {"id": row.get("conversation_id", row.get("id")), "messages": turns[::-1]}


def _claude(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Claude's export: `chat_messages`, whose speaker is called `sender`."""
    said = row.get("chat_messages")
    if not isinstance(said, list):
        return None
    turns = [
        {"role": item.get("sender"), "content": item.get("text")}
        for item in said
        if isinstance(item, Mapping) and item.get("text")
    ]
    return {"id": row.get("uuid"), "messages": turns}


def _preferred(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """OpenAI's form of preferences."""
    asked = row.get("input")
    if "preferred_output" not in row or not isinstance(asked, Mapping):
        return None
    return {
        "messages": asked.get("messages"),
        "chosen": row["preferred_output"],
        "rejected": row.get("non_preferred_output"),
    }


def _written_pair(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Preferences as HH writes them: whole conversations as one text, turns marked by `Human:` and `Assistant:`."""
    texts = [row.get("chosen"), row.get("rejected")]
    if not all(isinstance(text, str) and text.startswith("\n\nHuman:") for text in texts):
        return None
    chosen, rejected = (list(_written_turns(str(text))) for text in texts)
    return {**row, "chosen": chosen, "rejected": rejected}


def _written_turns(text: str) -> Iterator[dict[str, str]]:
    parts = _HUMAN.split(text)
    for role, said in zip(parts[1::2], parts[2::2], strict=False):
        yield {"role": "user" if role == "Human" else "assistant", "content": said}


def _inner(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The object that a row keeps its columns in, where it is the only one of such a name."""
    found = [name for name in _INNER if isinstance(row.get(name), Mapping)]
    known = {*QUESTIONS, *MESSAGES, *TEXTS, "chosen"}
    if len(found) != 1 or any(str(name).lower() in known and value for name, value in row.items()):
        return None
    outer = {name: value for name, value in row.items() if not isinstance(value, Mapping | list)}
    return {**outer, **row[found[0]]}


def _listed(value: Any) -> Any:
    """A conversation as a list of turns: from lists of roles and texts, as `datasets` keeps them, or from Python's own text."""
    if isinstance(value, Mapping):
        roles = next((value[key] for key in ROLE_KEYS if isinstance(value.get(key), list)), None)
        texts = next((value[key] for key in CONTENT_KEYS if isinstance(value.get(key), list)), None)
        if roles is not None and texts is not None and len(roles) == len(texts):
            return [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
    if isinstance(value, str) and value.startswith(("[{'", '[{"')) and len(value) < 1_000_000:
        try:
            turns = ast.literal_eval(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return value
        if isinstance(turns, list) and all(is_turn(turn) for turn in turns):
            return turns
    return value


def _first_value(value: Any) -> Any:
    first = value[0] if isinstance(value, list) and value else value
    return first.get("value", first) if isinstance(first, Mapping) else first
