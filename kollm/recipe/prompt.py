"""Prompt templates: one Jinja text for training, generation and serving.

A template is the tokenizer's chat template. What a model is trained on, what it is asked with, and what a server that
reads the exported tokenizer sends are renderings of the same file.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Self

from jinja2 import Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kollm.core.columns import Turn
from kollm.core.errors import InputError, RecipeError
from kollm.core.files import read_text
from kollm.core.hashing import text_sha256
from kollm.core.records import Record
from kollm.core.rendering import check_foreign, render_foreign
from kollm.core.resources import resource_folder
from kollm.core.text import normalise

EOS_TOKEN = "<|endoftext|>"
"""End of text in Polyglot-Ko, GPT-NeoX and Pythia; pass a tokenizer's own where it differs."""

BEGIN = "{{- bos_token -}}"
"""Stands before a template that is exported with a tokenizer that puts BOS before a text: servers put none there."""
QUESTION = "건강을 지키는 세 가지 방법을 알려 주세요."
"""What cards show a prompt of."""
_HEADING = re.compile(r"(?:^|\\n|\n|['\"])(#{1,6} [^\\\n'\"{}#]{1,40}:)(?=\\n|\n|['\"])")
"""A heading in a template's source, where a newline is written as such or as `\\n`."""
_KULLM = ("### 지시어:", "### 명령어:", "### 입력:", "### 응답:")
"""The headings of both templates of KULLM."""


class Segment(NamedTuple):
    """A stretch of a training text: its characters, and whether the loss covers them (an answer) or not (a prompt)."""

    text: str
    learned: bool


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """A named template.

    Attributes:
        name: name of the shipped template, or the path of a file of one's own.
        chat_template: the Jinja text, as transformers' `tokenizer.chat_template` takes it.
    """

    name: str
    chat_template: str

    @classmethod
    def names(cls) -> list[str]:
        """Names of the shipped templates, sorted."""
        return sorted(path.stem for path in resource_folder("recipe/templates").glob("*.jinja"))

    @classmethod
    def load(cls, name: str) -> Self:
        """A shipped template by name, or a file that ends in `.jinja` by path.

        Raises:
            RecipeError: there is none, or it is no valid Jinja.
        """
        path = resource_folder("recipe/templates") / f"{name}.jinja" if name in cls.names() else Path(name)
        if path.suffix != ".jinja" or not path.is_file():
            raise RecipeError(
                f"There is no prompt template '{name}' - use one of {', '.join(cls.names())}, "
                "or the path of a file that ends in .jinja."
            )
        template = cls(name, normalise(read_text(path)))
        if not template.shipped:
            try:
                check_foreign(template.chat_template)
            except InputError as error:
                raise RecipeError(f"{path}: not a valid Jinja template ({error}) - mend the file.") from error
        return template

    @property
    def shipped(self) -> bool:
        """Whether it is one of kollm's own, which need no bounds."""
        return self.sha256 in _shipped()

    @property
    def sha256(self) -> str:
        """Hash of the Jinja text."""
        return text_sha256(self.chat_template)

    @property
    def stop(self) -> tuple[str, ...]:
        """The template's own headings: a line that begins with one is the next prompt, and no part of an answer."""
        return headings(self.chat_template)

    def prompt(
        self,
        instruction: str,
        input: str = "",
        history: Sequence[Turn] = (),
        eos_token: str = EOS_TOKEN,
        system: str = "",
    ) -> str:
        """The text that a model is asked with, up to and including the newline after the response heading.

        Args:
            instruction: the last user turn.
            input: its context; empty for none.
            history: the turns before, oldest first; each answer is followed by `eos_token`.
            eos_token: the tokenizer's end of text.
            system: the system message; it goes before the first instruction.
        """
        messages = Record("", "", instruction, input, "", tuple(history), system).messages()[:-1]
        return self.render(messages, eos_token=eos_token, add_generation_prompt=True)

    def text(self, record: Record, eos_token: str = EOS_TOKEN) -> str:
        """The whole training text of a record: its prompt, its answers, EOS after each of them."""
        return self.render(record.messages(), eos_token=eos_token)

    def segments(self, record: Record, eos_token: str = EOS_TOKEN) -> list[Segment]:
        """The training text in stretches, prompt and answer in turn; joined, they are `text(record)`.

        The EOS that ends an answer belongs to the answer.
        """
        messages = record.messages()
        segments: list[Segment] = []
        written = ""
        for end in range(1 + bool(record.system), len(messages) + 1):
            learned = messages[end - 1]["role"] == "assistant"
            text = self.render(messages[:end], eos_token=eos_token, add_generation_prompt=not learned)
            if not text.startswith(written):
                raise RecipeError(
                    f"The prompt template '{self.name}' changes the text of earlier turns when one is added - "
                    "write it so that a conversation only grows."
                )
            segments.append(Segment(text[len(written) :], learned))
            written = text
        return segments

    def render(
        self, messages: Sequence[Mapping[str, str]], *, eos_token: str = EOS_TOKEN, add_generation_prompt: bool = False
    ) -> str:
        """Render messages (`role`, `content`, and `input` on user turns) as transformers' chat templates do.

        Raises:
            InputError: the template refuses the messages, e.g. two user turns in a row.
        """
        values: dict[str, Any] = {"messages": list(messages), "eos_token": eos_token, "bos_token": ""}
        values["add_generation_prompt"] = add_generation_prompt
        try:
            if not self.shipped:
                return render_foreign(self.chat_template, values).text
            return _compile(self.chat_template).render(values)
        except (TemplateError, InputError) as error:
            raise InputError(f"The prompt template '{self.name}' cannot render this conversation: {error}") from error


def headings(chat_template: str) -> tuple[str, ...]:
    """Headings that mark a template's turns (`### 지시어:`); none for a template that marks them by special tokens."""
    found = tuple(dict.fromkeys(_HEADING.findall(chat_template)))
    return _KULLM if set(found) & set(_KULLM) else found


def cut_at_heading(text: str, stops: Sequence[str]) -> tuple[str, str]:
    """An answer up to the line that begins with one of `stops`, and that stop; empty where there is none."""
    found = re.search("|".join(rf"^{re.escape(stop)}" for stop in stops), text, re.MULTILINE) if stops else None
    return (text[: found.start()], found[0]) if found else (text, "")


@functools.cache
def _shipped() -> frozenset[str]:
    """Hashes of the templates that come with kollm."""
    folder = resource_folder("recipe/templates")
    return frozenset(text_sha256(normalise(read_text(path))) for path in folder.glob("*.jinja"))


@functools.lru_cache(maxsize=16)
def _compile(text: str) -> Template:
    # The same settings as transformers' own rendering, so that both give the same characters.
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = _raise
    return environment.from_string(text)


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)
