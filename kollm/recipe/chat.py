"""Prompts in a base's own chat template, made by transformers' `apply_chat_template`.

The ids are those that a server of the base makes of the same messages: the template's special tokens are special, and
their names in a row's text stay text. What is learned is found between two prompts: the one that the model is asked
with, and the one that goes on from its answer. An earlier turn that the template writes differently once another
follows (Qwen3 drops its reasoning) gets a row of its own, so that each answer is learned as it is asked for.

The template is tried on probes before it is used, see `grammar.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

from jinja2 import TemplateError

from kollm.core.errors import InputError, RecipeError
from kollm.core.hashing import text_sha256
from kollm.core.records import Record
from kollm.recipe.grammar import PLAIN, PROBE, Grammar, GrammarReader, common
from kollm.recipe.prompt import headings
from kollm.recipe.tokens import NOT_SHOWN, Row, Span
from kollm.recipe.tools import definitions, structured

CHAT = "chat"
"""The prompt that is the base's own chat template."""
Message = Mapping[str, Any]
_MOST_KNOWN = 1000
"""Sets of tools that are remembered as tried: rows of one data set share a few."""


class Turn(NamedTuple):
    """Places of one answer in a row's tokens: its first, and the first after it."""

    start: int
    end: int


class ChatEncoder:
    """Encodes by the chat template that a tokenizer carries.

    Args:
        tokenizer: a tokenizer of transformers with a chat template.
        name: what a recipe calls the template.
        enable_thinking: the template's variable of that name; None leaves it to the template.
        closing: text that ends an answer where the template leaves it to the next turn to write it.

    Raises:
        RecipeError: there is no template, it cannot be rendered, or it loses text.
    """

    def __init__(
        self, tokenizer: Any, name: str = CHAT, *, enable_thinking: bool | None = None, closing: str = ""
    ) -> None:
        self.tokenizer = tokenizer
        self.name = name
        self.options: dict[str, Any] = {} if enable_thinking is None else {"enable_thinking": enable_thinking}
        if not tokenizer.chat_template:
            raise RecipeError(
                f"prompt is '{name}', and the base's tokenizer has no chat template - name a template: kullm-2023, or "
                "the path of a file that ends in .jinja."
            )
        self.template: str = tokenizer.get_chat_template()
        self._control = _control_tokens(tokenizer)
        self._shown: dict[str, list[Any]] = {}
        self._eos = () if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,)
        self.grammar = PLAIN
        self.grammar = GrammarReader(self, closing).read()

    @property
    def sha256(self) -> str:
        """Hash of the template."""
        return text_sha256(self.template)

    @property
    def stop(self) -> tuple[str, ...]:
        """Headings of a template that marks turns by lines of text."""
        return headings(self.template)

    @property
    def ends(self) -> tuple[int, ...]:
        """Ids that end an answer: the template's own, and the tokenizer's EOS."""
        return tuple(dict.fromkeys((self.grammar.end, *self._eos)))

    def rows(self, records: Sequence[Record]) -> list[list[Row]]:
        whole = self._rows(records, last_only=False)
        return [
            [row] if row is not None else [self.row(part, last_only=True) for part in _by_answer(record)]
            for record, row in zip(records, whole, strict=True)
        ]

    def row(self, record: Record, last_only: bool) -> Row:
        row = self._rows([record], last_only)[0] or self._rows([record], last_only=True)[0]
        assert row is not None  # a single answer can always be learned, or the grammar would have been refused
        return row

    def prompt(self, record: Record) -> list[int]:
        ids = self._ids([_Text(self.messages(record)[:-1], True, self.definitions(record))])[0]
        return ids[: len(ids) - self.grammar.opened]

    def prompt_text(self, record: Record) -> str:
        """The text that a server asks the model with."""
        return self._rendered(_Text(self.messages(record)[:-1], True, self.definitions(record)))

    def notes(self, record: Record) -> tuple[str, ...]:
        names = []
        if record.system and not self.grammar.system:
            names.append("system_before_instruction")
        if record.input and not self.grammar.input:
            names.append("input_after_instruction")
        if record.tools and not self.definitions(record):
            names.append(NOT_SHOWN)
        return tuple(names)

    def messages(self, record: Record) -> list[dict[str, Any]]:
        """The record's messages in the form that the template has a place for; nothing of them is left out."""
        return self.shaped(record, self.grammar)

    def definitions(self, record: Record) -> list[Any]:
        """The record's tools as the template takes them; none where it does not write each of them."""
        if not record.tools or not self.grammar.definitions:
            return []
        if record.tools not in self._shown:
            if len(self._shown) >= _MOST_KNOWN:
                self._shown.clear()
            self._shown[record.tools] = self._tried(definitions(record.tools))
        return self._shown[record.tools]

    def _tried(self, tools: list[Any]) -> list[Any]:
        """The definitions, if the template writes them and no key of theirs would become a special token."""
        if any(self._control.search(key) for key in _keys(tools)):  # of what is sanitised, transformers leaves out keys
            return []
        single = self.shaped(PROBE, self.grammar)
        try:
            text = self._rendered(_Text(single, False, tools))
        except InputError:
            return []
        return tools if all(tool["function"]["name"] in text for tool in tools) else []

    def render(
        self, messages: Sequence[Message], tools: Sequence[Any] = (), *, add_generation_prompt: bool = False
    ) -> str:
        """The template's text for messages, with definitions of tools as it takes them.

        Raises:
            InputError: the template refuses them.
        """
        return self._rendered(_Text(messages, add_generation_prompt, tools))

    @contextmanager
    def trying(self, grammar: Grammar) -> Iterator[None]:
        """With another grammar for a while."""
        before, self.grammar = self.grammar, grammar
        try:
            yield
        finally:
            self.grammar = before
            self._shown.clear()

    def _rendered(self, text: _Text) -> str:
        return str(self._apply(text, tokenize=False))

    def _apply(self, text: _Text, **options: Any) -> Any:
        try:
            return self.tokenizer.apply_chat_template(
                list(text.messages),
                tools=text.tools or None,
                add_generation_prompt=text.asks,
                **options,
                **self.options,
            )
        except (TemplateError, TypeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise InputError(
                f"The chat template '{self.name}' cannot render this conversation: {reason} - change the row, or name "
                "another template with prompt."
            ) from error

    def _rows(self, records: Sequence[Record], last_only: bool) -> list[Row | None]:
        """A row of each record; None where not all of its answers can be learned in one row."""
        asked: list[_Text] = []
        sizes = []
        for record in records:
            texts = list(self._texts(record, last_only))
            sizes.append(len(texts))
            asked += texts
        ids = iter(self._ids(asked))
        return [
            self._row(record, [next(ids) for _ in range(size)], last_only)
            for record, size in zip(records, sizes, strict=True)
        ]

    def _texts(self, record: Record, last_only: bool) -> Iterator[_Text]:
        """What an answer is asked with and what it ends as, for each answer; the last of them is the whole."""
        messages, tools = self.messages(record), self.definitions(record)
        answers = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
        for number in answers[-1:] if last_only else answers:
            yield _Text(messages[:number], True, tools)
            yield _Text(messages[: number + 1], False, tools)

    def _row(self, record: Record, ids: Sequence[list[int]], last_only: bool) -> Row | None:
        """The row whose answers' prompts and ends are given in turn; the last end is the whole."""
        prompts, ends, whole = ids[::2], ids[1:-1:2], ids[-1]
        earlier = [self.turn(prompt, end, whole) for prompt, end in zip(prompts, ends, strict=False)]
        if None in earlier:
            return None
        prompt = prompts[-1]
        start = common(prompt, whole)
        merged = start < len(prompt) - self.grammar.opened
        if merged:  # the tokens of the prompt stay those that the model is asked with
            whole, start = [*prompt, *self._tail(record, prompt, whole)], len(prompt)
        whole = [*whole, *self.grammar.closing]
        if self.grammar.end not in whole[start:]:
            raise InputError(
                f"Row '{record.id}': the chat template '{self.name}' writes no end of its answer - change the row, or "
                "name another template with prompt."
            )
        spans, position = [], 0
        for turn in (*filter(None, earlier), Turn(start, len(whole))):
            spans += [Span(whole[position : turn.start], False), Span(whole[turn.start : turn.end], True)]
            position = turn.end
        closing = 1 + spans[-1].ids[::-1].index(self.grammar.end)
        return Row(record, spans, last_only, merged, closing)

    def turn(self, prompt: list[int], answered: list[int], whole: list[int]) -> Turn | None:
        """Where an earlier answer stands in the whole, with the token that ends it; None if it is written differently."""
        start, end = common(prompt, whole), common(answered, whole)
        closing = list(self.grammar.closing)
        if closing and whole[end : end + len(closing)] == closing:
            end += len(closing)
        asked = start >= len(prompt) - self.grammar.opened
        return Turn(start, end) if asked and self.grammar.end in whole[start:end] else None

    def _tail(self, record: Record, prompt: list[int], whole: list[int]) -> list[int]:
        """Ids of what follows the prompt, tokenised apart from it."""
        asked, answered = self._texts(record, last_only=True)
        if self._names_control_token(answered):
            return self._cut_token(record, prompt, whole)
        question, text = self._rendered(asked), self._rendered(answered)
        if not text.startswith(question):
            raise self._no_continuation(record)
        return self._encode_after(text[len(question) :])

    def _cut_token(self, record: Record, prompt: list[int], whole: list[int]) -> list[int]:
        """As `_tail`, where only the token that spans the boundary may be encoded again."""
        start = common(prompt, whole)
        question = self.tokenizer.decode(prompt[start:])
        for end in range(start + 1, len(whole) + 1):
            text = self.tokenizer.decode(whole[start:end])
            if text.startswith(question):
                return [*self._encode_after(text[len(question) :]), *whole[end:]]
            if len(text) > len(question) + 16:
                break
        raise self._no_continuation(record)

    def _encode_after(self, text: str) -> list[int]:
        """Ids of a text that stands after another: without the space that SentencePiece puts before a text."""
        line: list[int] = self.tokenizer.encode("\n", add_special_tokens=False)
        after: list[int] = self.tokenizer.encode("\n" + text, add_special_tokens=False)
        if after[: len(line)] == line:
            return after[len(line) :]
        alone: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return alone

    def _no_continuation(self, record: Record) -> InputError:
        return InputError(
            f"Row '{record.id}': the chat template '{self.name}' does not go on from the prompt that it asks with - "
            "name another template with prompt."
        )

    def _ids(self, texts: Sequence[_Text]) -> list[list[int]]:
        """Ids of each text, as `apply_chat_template` makes them."""
        plain = [number for number, text in enumerate(texts) if not self._names_control_token(text)]
        rendered = [self._rendered(texts[number]) for number in plain]
        encoded = self.tokenizer(rendered, add_special_tokens=False)["input_ids"] if rendered else []
        ids: dict[int, list[int]] = dict(zip(plain, encoded, strict=True))
        for number, text in enumerate(texts):
            if number not in ids:
                ids[number] = self._apply(text, tokenize=True, return_dict=False, sanitize_control_tokens=True)
        return [ids[number] for number in range(len(texts))]

    def _names_control_token(self, text: _Text) -> bool:
        return any(self._control.search(part) for part in _strings([text.messages, text.tools]))

    def shaped(self, record: Record, grammar: Grammar) -> list[dict[str, Any]]:
        """The record's messages as a template of that grammar takes them."""
        messages: list[dict[str, Any]] = [dict(message) for message in record.messages()]
        asked = messages[-2]
        if "input" in asked and not grammar.input:
            asked["content"] = f"{asked['content']}\n\n{asked.pop('input')}"
        if record.system and not grammar.system:
            system = messages.pop(0)["content"]
            messages[0]["content"] = f"{system}\n\n{messages[0]['content']}"
        if grammar.tools:
            changed = structured(messages)
            called = [message.get("tool_calls", ()) for message in changed]
            if not any(self._control.search(key) for key in _keys(called)):
                messages = changed
        if grammar.parts:
            for message in messages:
                message["content"] = [{"type": "text", "text": message["content"]}]
        return messages


class _Text(NamedTuple):
    """Messages to be rendered, whether as a question that asks for an answer, and the tools that they may call."""

    messages: Sequence[Message]
    asks: bool
    tools: Sequence[Any] = ()


def _by_answer(record: Record) -> Iterator[Record]:
    """The conversation up to each of its answers; the input belongs to the last question."""
    for number, (user, assistant) in enumerate(record.history):
        yield replace(record, instruction=user, input="", output=assistant, history=record.history[:number])
    yield record


def _control_tokens(tokenizer: Any) -> re.Pattern[str]:
    """Finds the name of any added token, special or not."""
    names = sorted((name for name in tokenizer.get_added_vocab() if name.strip()), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, names)) or "(?!)")


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from map(str, value)
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _keys(part)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _strings(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _strings(part)
