"""The form that a user's rows have, found by their keys: conversations, questions with answers, preference pairs, text."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from kollm.core.counting import counted
from kollm.core.errors import InputError
from kollm.sources.own.tools import looks_like_tools

Kind = Literal["messages", "columns", "pairs", "instances", "text"]
FIELDS = (
    "id",
    "system",
    "tools",
    "instruction",
    "input",
    "output",
    "history",
    "messages",
    "chosen",
    "rejected",
    "text",
)
"""What `--map FIELD=COLUMN` may name."""

MESSAGES = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "turns", "items")
QUESTIONS = ("instruction", "question", "query", "prompt", "user", "human", "problem", "q")
ANSWERS = ("output", "answer", "response", "completion", "assistant", "reply", "target", "a")
CONTEXTS = ("input", "context", "passage")
SYSTEMS = ("system", "system_prompt", "system_message")
TOOLS = ("tools", "functions")
HISTORIES = ("history", "histories")
TEXTS = ("text", "content", "document")
IDS = ("id", "_id", "uid", "uuid", "row_id")
TALKS: tuple[Kind, ...] = ("messages", "columns", "pairs")
"""Kinds of rows in which an assistant may have tools."""
_NAMES = {
    ("instruction", "output"): "Alpaca",
    ("question", "answer"): "questions and answers",
    ("query", "response"): "queries and responses",
    ("prompt", "completion"): "prompts and completions",
    ("prompt", "response"): "prompts and responses",
}
_KOREAN: dict[str, tuple[str, ...]] = {
    "instruction": ("질문", "지시", "명령", "물음", "문의", "발화", "문제", "고객"),
    "output": ("답변", "답", "응답", "출력", "정답", "대답", "상담사", "챗봇"),
    "input": ("입력", "문맥", "지문", "본문", "맥락", "배경"),
    "system": ("시스템", "역할"),
    "messages": ("대화", "메시지"),
    "text": ("텍스트", "글", "문장", "내용"),
}
ROLE_KEYS, CONTENT_KEYS = (
    ("role", "from", "speaker", "author", "name"),
    ("content", "value", "text", "message", "utterance"),
)


class Located(NamedTuple):
    """A column that a field is read from."""

    field: str
    column: str


@dataclass(frozen=True, slots=True)
class Form:
    """How rows are read.

    Attributes:
        kind: what they are.
        columns: field -> the column that it is read from.
        title: the form's name for a reader.
    """

    kind: Kind
    columns: Mapping[str, str]
    title: str

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Whether a row has the columns that this form cannot do without."""
        return all(self.columns[field] in row for field in NEEDED[self.kind] if field in self.columns)

    def unused(self, columns: Iterable[str]) -> list[str]:
        """Columns of the rows that are not read."""
        return sorted(set(columns) - {*self.columns.values(), *IDS, ""})


NEEDED: dict[Kind, tuple[str, ...]] = {
    "messages": ("messages",),
    "columns": ("instruction",),
    "pairs": ("chosen", "rejected"),
    "instances": ("instruction",),
    "text": ("text",),
}


def find_form(
    rows: Sequence[Mapping[str, Any]], mapping: Mapping[str, str], where: str, *, asked: bool = False
) -> Form:
    """The form of rows, by the keys of those at hand.

    Args:
        rows: the first rows.
        mapping: field -> column, as the user says.
        where: the input's name, for messages.
        asked: whether rows need no answer.

    Raises:
        InputError: no form fits, or two do; the message says which, and what decides.
    """
    form = _form_of(rows, mapping, where, asked)
    there = {name.lower().strip(): name for row in rows for name in row if name}
    column = next((there[name] for name in TOOLS if name in there), None)
    if column is None or "tools" in form.columns or column in form.columns.values() or form.kind not in TALKS:
        return form
    if not looks_like_tools([row.get(column) for row in rows]):
        return form
    return replace(form, columns={**form.columns, "tools": column})


def _form_of(rows: Sequence[Mapping[str, Any]], mapping: Mapping[str, str], where: str, asked: bool) -> Form:
    columns = list(
        dict.fromkeys(name for row in rows for name, value in row.items() if name and value not in (None, "", []))
    )
    names = list(dict.fromkeys(name for row in rows for name in row if name))
    if mapping:
        return _mapped(mapping, columns, rows, where)
    found = [
        form
        for form in (_messages(columns, rows), _pairs(columns), _single(columns, names, where, asked))
        if form is not None
    ]
    kinds = {form.kind for form in found}
    if "pairs" in kinds:  # a pair's prompt is a question, or its conversation messages
        found = [form for form in found if form.kind == "pairs"]
    if len(found) > 1:
        one, other = found[:2]
        raise InputError(
            f"The rows of '{where}' can be read as {one.title} and as {other.title} - decide with --map: "
            f"{_options(one)}, or {_options(other)}."
        )
    if found:
        return found[0]
    if text := [name for name in columns if name in TEXTS]:
        return Form("text", {"text": text[0]}, "plain text")
    if asked and len(columns) == 1:
        return Form("columns", {"instruction": columns[0]}, "questions")
    if not columns:
        raise InputError(
            f"The rows of '{where}' hold no values - name a file or folder of rows, or a dataset that kollm made."
        )
    empty = [name for name in names if name not in columns]
    left = (
        f" ({_list(empty)} {'is' if len(empty) == 1 else 'are'} empty in the first {counted(len(rows), 'row')})"
        if empty
        else ""
    )
    raise InputError(
        f"The columns of '{where}' are {_list(columns)}{left}, and none of them {_wanted(asked)} - {_advice(columns, asked, _nested(rows))}."
    )


def parse_mapping(options: Iterable[str]) -> dict[str, str]:
    """Read `--map FIELD=COLUMN` options.

    Raises:
        InputError: one is no such pair, or names an unknown field.
    """
    mapping: dict[str, str] = {}
    for option in options:
        field, separator, column = option.partition("=")
        if not separator or not column:
            raise InputError(f"--map {option} is no pair - write --map FIELD=COLUMN, such as --map instruction=질문.")
        if field not in FIELDS:
            raise InputError(f"--map {option}: there is no field '{field}' - use one of {', '.join(FIELDS)}.")
        mapping[field] = column
    return mapping


def is_turn(value: Any) -> bool:
    """Whether a value is a turn of a conversation: an object with a role and a text."""
    return (
        isinstance(value, Mapping)
        and role_of(value) is not None
        and any(key in value for key in (*CONTENT_KEYS, "tool_calls"))
    )


def role_of(turn: Mapping[str, Any]) -> Any:
    """Who speaks; None where it is not said."""
    return next((turn[key] for key in ROLE_KEYS if turn.get(key) is not None), None)


def content_of(turn: Mapping[str, Any]) -> Any:
    """What is said."""
    return next((turn[key] for key in CONTENT_KEYS if key in turn), None)


def as_turns(value: Any) -> list[Any] | None:
    """A list of turns; one that is written as JSON text is read. None for anything else."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if isinstance(value, list | tuple) and value and all(is_turn(turn) for turn in value if turn is not None):
        return list(value)
    return None


def _mapped(mapping: Mapping[str, str], columns: Sequence[str], rows: Sequence[Mapping[str, Any]], where: str) -> Form:
    there = {name for row in rows for name in row}
    for field, column in mapping.items():
        if column not in there:
            raise InputError(f"--map {field}={column}: '{where}' has no column '{column}' - it has {_list(columns)}.")
    kind: Kind = (
        "messages"
        if "messages" in mapping
        else "pairs"
        if "chosen" in mapping or "rejected" in mapping
        else "text"
        if "text" in mapping
        else "columns"
    )
    for field in NEEDED[kind]:
        if field not in mapping:
            raise InputError(f"--map says {_list(list(mapping))} and not {field} - add --map {field}=COLUMN.")
    return Form(kind, _with_extras(dict(mapping), columns), "mapped columns")


def _with_extras(mapping: dict[str, str], columns: Sequence[str]) -> dict[str, str]:
    """The mapping, with an id and a system message where the rows have one and the user did not say otherwise."""
    used = set(mapping.values())
    for field, names in (("id", IDS), ("system", SYSTEMS)):
        name = next((name for name in names if name in columns and name not in used), None)
        if field not in mapping and name is not None:
            mapping[field] = name
    return mapping


def _messages(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Form | None:
    for name in columns:
        if name.lower() not in MESSAGES:
            continue
        values = [value for value in (row.get(name) for row in rows) if value]
        turns = [as_turns(value) for value in values]
        if any(turns):
            keys = {key for value in turns if value for turn in value if isinstance(turn, Mapping) for key in turn}
            title = (
                "ShareGPT conversations"
                if "from" in keys
                else f"OpenAI {name}"
                if name == "messages"
                else f"messages in '{name}'"
            )
            return Form("messages", _with_extras({"messages": name}, columns), title)
    return None


def _pairs(columns: Sequence[str]) -> Form | None:
    if not {"chosen", "rejected"} <= set(columns):
        return None
    fields = {"chosen": "chosen", "rejected": "rejected"}
    question = next((name for name in (*QUESTIONS, "input") if name in columns), None)
    turns = next((name for name in MESSAGES if name in columns), None)
    if question is not None:
        fields["instruction"] = question
        context = next((name for name in CONTEXTS if name in columns and name != question), None)
        fields |= {} if context is None else {"input": context}
        history = next((name for name in HISTORIES if name in columns), None)
        fields |= {} if history is None else {"history": history}
    elif turns is not None:
        fields["messages"] = turns
    return Form("pairs", _with_extras(fields, columns), "preference pairs (the chosen answers)")


def _single(columns: Sequence[str], names: Sequence[str], where: str, asked: bool) -> Form | None:
    """A question's columns by their names; those that add to one, such as `input`, may be empty in all rows."""
    lowered = {name.lower().strip(): name for name in columns}
    more = {name.lower().strip(): name for name in names}
    questions = [lowered[name] for name in QUESTIONS if name in lowered]
    answers = [lowered[name] for name in ANSWERS if name in lowered]
    contexts = [more[name] for name in CONTEXTS if name in more]
    if "instances" in lowered and questions:
        return Form("instances", {"instruction": questions[0], "output": lowered["instances"]}, "Self-Instruct tasks")
    if not questions and contexts and (answers or asked):  # input and output, without an instruction
        questions, contexts = contexts[:1], contexts[1:]
    if not questions or not (answers or asked):
        return None
    if len(questions) > 1 or len(answers) > 1:
        pairs = [(question, answer) for question in questions for answer in answers or [""]]
        (one, first), (other, second) = pairs[0], pairs[-1]
        raise InputError(
            f"The rows of '{where}' can be read with {one} and {first or 'no answer'}, or with {other} and {second or 'no answer'} - decide "
            f"with --map instruction={other}" + (f" --map output={second}." if second else ".")
        )
    fields = {"instruction": questions[0]}
    if answers:
        fields["output"] = answers[0]
    if contexts:
        fields["input"] = contexts[0]
    history = next((more[name] for name in HISTORIES if name in more), None)
    if history is not None:
        fields["history"] = history
    title = _NAMES.get(
        (questions[0].lower(), answers[0].lower() if answers else ""),
        f"{questions[0]} and {answers[0]}" if answers else f"questions ({questions[0]})",
    )
    return Form("columns", _with_extras(fields, names), title)


def _wanted(asked: bool) -> str:
    return "holds a question" if asked else "holds a conversation, or a question and its answer"


def _options(form: Form) -> str:
    return " ".join(f"--map {field}={column}" for field, column in form.columns.items() if field != "id")


def _quoted(option: str) -> str:
    """An option as it can be copied into a shell."""
    return shlex.quote(option) if re.search(r"[^\w=,.:/@%+-]", option) else option


def _nested(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Columns that hold objects, or lists of them."""
    first = rows[0] if rows else {}
    return [
        name
        for name, value in first.items()
        if isinstance(value, Mapping) or (isinstance(value, list) and value and isinstance(value[0], Mapping))
    ]


def _advice(columns: Sequence[str], asked: bool, nested: Sequence[str]) -> str:
    guesses: list[Located] = []
    for field, words in _KOREAN.items():
        column = next(
            (name for word in words for name in columns if word in name and name not in {g.column for g in guesses}),
            None,
        )
        if column is not None and not (asked and field == "output"):
            guesses.append(Located(field, column))
    if any(guess.field in ("instruction", "messages") for guess in guesses):
        return "say which they are: " + " ".join(
            f"--map {_quoted(f'{guess.field}={guess.column}')}" for guess in guesses if guess.field != "text"
        )
    if nested and len(nested) * 2 >= len(columns):
        return f"{_list(nested)} hold{'s' * (len(nested) == 1)} objects: write what lies inside as rows, a question and its answer each"
    return "say which they are with --map instruction=COLUMN" + ("" if asked else " --map output=COLUMN")


def _list(names: Sequence[str], most: int = 12) -> str:
    shown = ", ".join(f"'{name[:40]}'" for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown or "none"
