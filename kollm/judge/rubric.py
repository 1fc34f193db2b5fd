"""Rubrics: what a judge is asked, and on which axes it scores. Each is named by its hash."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple, Self

from kollm.core.columns import Turn
from kollm.core.errors import InputError
from kollm.core.generations import Generation
from kollm.core.hashing import content_id
from kollm.judge.rules import Rule, check_rules

Kind = Literal["score", "checklist", "rules"]

PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
SECTION = re.compile(r"\{\?([a-z_]+)\}(.*?)\{/\1\}", re.DOTALL)
_HANGUL = re.compile("[가-힣]")
SHOWN_TOOLS = "{?tools}Tools:\n<{fence}>\n{tools}\n</{fence}>\n{/tools}"
"""How the shipped prompts show a task's tools. They came to show them when verdicts by them were published already, and a task
without tools never gets to see this: it is no part of a prompt's hash."""
FIELDS = {"instruction", "input", "response", "history", "system_message", "reference", "checklist", "tools"}
_NEEDED_WHERE_THERE = ("history", "system_message", "input")
"""What an answer answers: a judge that cannot see it judges blindly. A reference is help, and may be left out."""
_SPEAKERS = {"ko": ("사용자", "어시스턴트"), "en": ("User", "Assistant")}


@dataclass(frozen=True, slots=True)
class Axis:
    """One scale of a rubric: whole scores from `low` to `high`.

    Attributes:
        key: name of the column in results.
        label: name of the axis in the prompt and the reply.
        also: other labels that judges are known to write.
        kind: `score`, asked of the judge; `checklist`, the share of the task's own questions that the judge answers with
            yes; `rules`, the share of rules that the answer meets, which no judge is asked.
        rules: the rules of a `rules` axis; none for those that each task brings.
    """

    key: str
    label: str
    low: int
    high: int
    also: tuple[str, ...] = ()
    kind: Kind = "score"
    rules: tuple[Rule, ...] = field(default=(), hash=False)

    @property
    def korean(self) -> str:
        """The first of its labels that has Hangul; the label itself where none has."""
        return next((label for label in (self.label, *self.also) if _HANGUL.search(label)), self.label)

    @property
    def values(self) -> range:
        """The whole scores of the axis."""
        return range(self.low, self.high + 1)

    def accept(self, score: float) -> float | None:
        """The score, or None where it is outside the axis."""
        return score if self.low <= score <= self.high else None


class Context(NamedTuple):
    """What stands beside instruction, input and response."""

    history: Sequence[Turn] = ()
    system_message: str = ""
    reference: str = ""
    checklist: Sequence[str] = ()
    tools: str = ""

    @classmethod
    def of(cls, answer: Generation) -> Self:
        return cls(answer.history, answer.system_message, answer.reference, answer.checklist, answer.tools)


@dataclass(frozen=True)
class Rubric:
    """Axes, the prompt that asks for them, and the form of the reply.

    Attributes:
        template: prompt with the placeholders {instruction}, {response} and, where it shows them, {input}, {history},
            {system_message}, {reference}, {checklist}, {tools} and {fence}. What stands between {?input} and {/input}, or two such
            marks of another field, is left out where that field is blank.
        template_without_input: the prompt for a task without input; None to leave the input blank.
        reply_form: lines that end the prompt, one an axis, each ending where its score belongs.
        fenced: the fields stand between tokens that their text cannot contain.
        reply_tokens: room that a reply in words takes, where the form asks for more than scores.
    """

    name: str
    language: str
    axes: tuple[Axis, ...]
    template: str
    template_without_input: str | None
    reply_form: str
    fenced: bool
    reply_tokens: int | None = None

    def __hash__(self) -> int:
        return hash(self.sha256)  # computed once, where a hash of all fields would be computed for each reply

    @cached_property
    def sha256(self) -> str:
        """Hash of the axes and texts: equal hashes ask the same question, apart from SHOWN_TOOLS."""
        plain = [[axis.key, axis.label, axis.low, axis.high] for axis in self.axes]
        kinds = {axis.key: [axis.kind, list(axis.rules)] for axis in self.axes if axis.kind != "score"}
        return content_id(
            {
                "axes": plain,
                "prompt": without_shown_tools(self.template),
                "prompt_without_input": self.template_without_input
                and without_shown_tools(self.template_without_input),
                "reply_form": self.reply_form,
                "fenced": self.fenced,
                **({"kinds": kinds} if kinds else {}),
            }
        )

    @cached_property
    def scored(self) -> tuple[Axis, ...]:
        """The axes that a judge gives a score on."""
        return tuple(axis for axis in self.axes if axis.kind == "score")

    @cached_property
    def checklist(self) -> Axis | None:
        """The axis of the task's own questions, where there is one."""
        return next((axis for axis in self.axes if axis.kind == "checklist"), None)

    @property
    def asks(self) -> bool:
        """Whether there is anything to ask a judge."""
        return bool(self.scored) or self.checklist is not None

    @cached_property
    def shows(self) -> frozenset[str]:
        """The fields that a judge gets to see."""
        return frozenset(PLACEHOLDER.findall(self.template)) & FIELDS

    def check(self, answer: Generation) -> None:
        """Refuse an answer whose question the rubric cannot show.

        Raises:
            InputError: the task has a part that the rubric has no placeholder for, lacks the checklist that it asks, or
                brings what is no rule.
        """
        check_rules(answer.rules, f"Task {answer.id}")
        fields = {
            "history": answer.history,
            "system_message": answer.system_message.strip(),
            "input": answer.input.strip(),
        }
        for name in _NEEDED_WHERE_THERE:
            if self.asks and fields[name] and name not in self.shows:
                raise InputError(
                    f"Task {answer.id} has {_NAMES[name]}, which the rubric '{self.name}' does not show: the judge would "
                    f"judge blindly - use a rubric with the placeholder {{{name}}}, such as mt-bench-ko."
                )
        if self.checklist is not None and not answer.checklist:
            raise InputError(
                f"Task {answer.id} brings no checklist, which the rubric '{self.name}' asks - add `checklist` to its row, "
                "or name a file of tasks with --tasks."
            )

    def question(self, instruction: str, input: str, response: str, context: Context | None = None) -> str:
        """The prompt without the reply form, as structured judges get it.

        All fields are put in at once, so that a placeholder inside a field stays text. A lone surrogate, which no
        service can receive, becomes U+FFFD.
        """
        context = context or Context()
        texts = {"instruction": instruction, "input": input, "response": response}
        texts |= {"system_message": context.system_message, "reference": context.reference, "tools": context.tools}
        values = {name: encodable(text) for name, text in texts.items()}
        turns = [(encodable(user), encodable(assistant)) for user, assistant in context.history]
        items = [encodable(" ".join(item.split())) for item in context.checklist]
        template = self.template
        if self.template_without_input is not None and not input.strip():
            template = self.template_without_input
        if self.fenced:
            more = [text for turn in turns for text in turn] + items
            fields = ("system_message", "reference", "tools")
            beside = [values[name] for name in fields if name in self.shows and values[name]]
            told = [values[name] for name in ("instruction", "input", "response")]
            values["fence"] = fence_token(self.sha256, *told, *beside, *more)
        values["history"] = turns_text(turns, self.language, values.get("fence"))
        values["checklist"] = "\n".join(f"{number}. {item}" for number, item in enumerate(items, start=1))
        return fill(template, values)

    def prompt(self, instruction: str, input: str, response: str, context: Context | None = None) -> str:
        """The whole message to the judge: the question, and the form of the reply."""
        return f"{self.question(instruction, input, response, context)}\n\n{self.reply_form}"

    @cached_property
    def cuts(self) -> tuple[int, ...]:
        """For each scored axis, how many characters of `reply_form` go up to where its score belongs."""
        ends = []
        for axis in self.scored:
            found = re.search(rf"(?m)^(.*{re.escape(axis.label)}[^:：\n]*(?:[:：]|$)).*$", self.reply_form)
            assert found is not None
            ends.append(len(self.reply_form[: found.end(1)].rstrip()))
        return tuple(ends)

    def none_scores(self) -> dict[str, float | None]:
        """The scores of a reply in which nothing was read."""
        return {axis.key: None for axis in self.axes}


def without_shown_tools(template: str) -> str:
    """What of a prompt counts for its hash."""
    return template.replace(SHOWN_TOOLS, "")


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with all values put in at once, without the sections whose field is blank."""
    shown = SECTION.sub(lambda section: section[2] if values[section[1]].strip() else "", template)
    return PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), shown)


def turns_text(turns: Sequence[Turn], language: str, fence: str | None) -> str:
    """Earlier turns, each under its speaker's name, and within its own fence where there is one."""
    names = _SPEAKERS.get(language, _SPEAKERS["en"])
    spoken = [(name, text) for turn in turns for name, text in zip(names, turn, strict=True)]
    if fence is None:
        return "\n".join(f"{name}: {text}" for name, text in spoken)
    return "\n".join(f"{name}:\n<{fence}>\n{text}\n</{fence}>" for name, text in spoken)


_NAMES = {"history": "earlier turns", "system_message": "a system message", "input": "an input"}


def fence_token(*texts: str) -> str:
    """A token that none of the texts contains.

    It is taken from their hash, so that the same answer gives the same prompt (and is paid once), while an answer that
    holds its own token would have to be a fixed point of SHA-256; one that did would get the next token.
    """
    lowered = "\n".join(texts).casefold()
    for attempt in range(1_000_000):
        digest = hashlib.sha256(content_id([attempt, *texts]).encode("ascii")).hexdigest()
        token = f"data-{digest[:16]}"
        if digest[:16] not in lowered:
            return token
    raise AssertionError("a text holds a million given tokens of 64 bits")


def encodable(text: str) -> str:
    """The text with every lone surrogate, which UTF-8 cannot hold, as U+FFFD."""
    with contextlib.suppress(UnicodeEncodeError):
        text.encode()
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
