"""What a chat template does with messages, told by probes: words that no template holds, rendered and looked for.

Probes tell what becomes of a system message, of an input, of earlier turns and of tools, and which token ends an answer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kollm.core.errors import InputError, RecipeError
from kollm.core.records import Record
from kollm.recipe.tools import call_turn, definition, definitions, result_turn

if TYPE_CHECKING:
    from kollm.recipe.chat import ChatEncoder

_USER, _ANSWER, _NEXT, _SECOND, _SYSTEM, _INPUT, _TOLD = (
    "alphaq",
    "betaq",
    "gammaq",
    "deltaq",
    "epsilonq",
    "zetaq",
    "kappaq",
)
"""Words of the probes, which no template holds."""
PROBE = Record("probe", "", _USER, "", _ANSWER)
"""A question and its answer."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """What probes tell of a template.

    Attributes:
        system: it has a place for a system message; else that goes before the first question.
        input: it reads kollm's key `input`; else the input goes after the question.
        parts: it reads content as a list of parts, as those of models that see pictures do, not as a string.
        closing: ids that end an answer and that the template itself does not write; empty where it does.
        end: id of the token that ends an answer.
        opened: tokens at the end of the template's prompt that rows without reasoning do not go on from.
        rewrites: it writes an earlier turn differently once another follows.
        tools: it writes calls of tools and their results from `tool_calls` and messages of the role `tool`.
        definitions: it writes the definitions of tools.
    """

    system: bool
    input: bool
    parts: bool
    closing: tuple[int, ...]
    end: int
    opened: int
    rewrites: bool
    tools: bool = False
    definitions: bool = False


PLAIN = Grammar(system=True, input=True, parts=False, closing=(), end=-1, opened=0, rewrites=False)
"""What is taken for true until a probe tells otherwise."""


class GrammarReader:
    """Tries the template of an encoder.

    Args:
        encoder: it carries the template; its grammar is another while a probe needs it.
        closing: text that ends an answer where the template leaves it to the next turn to write it.
    """

    def __init__(self, encoder: ChatEncoder, closing: str) -> None:
        self._encoder, self._closing = encoder, closing

    def read(self) -> Grammar:
        """Try the template on probes.

        Raises:
            RecipeError: it loses what it is given, or fails.
        """
        parts = self._loses(PROBE, PLAIN, _USER, _ANSWER)
        grammar = replace(PLAIN, parts=parts)
        if parts and self._loses(PROBE, grammar, _USER, _ANSWER):
            raise RecipeError(
                f"The chat template '{self._encoder.name}' does not write a question and its answer{self._reason(PROBE, PLAIN)} - "
                "use another template."
            )
        system = not self._loses(replace(PROBE, system=_SYSTEM), grammar, _SYSTEM, _USER, _ANSWER)
        takes_input = not self._loses(replace(PROBE, input=_INPUT), grammar, _INPUT, _USER, _ANSWER)
        grammar = replace(grammar, system=system, input=takes_input)
        double = Record("probe", "", _NEXT, "", _SECOND, ((_USER, _ANSWER),))
        if self._loses(double, grammar, _USER, _ANSWER, _NEXT, _SECOND):
            raise RecipeError(
                f"The chat template '{self._encoder.name}' does not write a conversation of two turns"
                f"{self._reason(double, grammar)} - use another template."
            )
        grammar = self._read_ends(double, grammar)
        tools = replace(grammar, tools=True)
        grammar = tools if self._knows_tools(tools) else grammar
        return replace(grammar, definitions=self._knows_definitions(grammar))

    def _knows_definitions(self, grammar: Grammar) -> bool:
        """Whether the template writes all of a definition, beside a system message too, and learns nothing of it."""
        tools = json.dumps([definition(_TOLD, _INPUT, _NEXT)])
        encoder = self._encoder
        try:
            with encoder.trying(replace(grammar, definitions=True)):
                for system in ("", _SYSTEM):
                    record = replace(PROBE, system=system, tools=tools)
                    text = encoder.render(encoder.messages(record), definitions(tools))
                    if not all(word in text for word in (_TOLD, _INPUT, _NEXT, _USER, _ANSWER, system)):
                        return False
                    spans = [span for row in encoder.rows([record])[0] for span in row.spans if span.learned]
                    learned = "".join(encoder.tokenizer.decode(span.ids) for span in spans)
                    if _ANSWER not in learned or any(word in learned for word in (_TOLD, _INPUT, _NEXT)):
                        return False
        except InputError:
            return False
        return True

    def _knows_tools(self, grammar: Grammar) -> bool:
        """Whether the template writes all of a call, what was said with it and its result, and ends the call as an answer.

        Where it does not, tool turns stay the text that rows have them as.
        """
        call = f"{_TOLD}\n{call_turn(_SYSTEM, _INPUT)}"
        called = Record("probe", "", result_turn(_NEXT), "", _SECOND, ((_USER, call),))
        if self._loses(called, grammar, _USER, _TOLD, _SYSTEM, _INPUT, _NEXT, _SECOND):
            return False
        try:
            with self._encoder.trying(grammar):
                self._encoder.rows([called, replace(called, output=call)])
        except InputError:
            return False
        return True

    def _read_ends(self, double: Record, grammar: Grammar) -> Grammar:
        """What ends an answer, and what becomes of an earlier one."""
        encoder, closing = self._encoder, self._closing
        one, two = encoder.shaped(PROBE, grammar), encoder.shaped(double, grammar)
        tail = encoder.render(one).rpartition(_ANSWER)[2]
        between = encoder.render(two).partition(_ANSWER)[2].partition(_NEXT)[0]
        ending, middle = (encoder.tokenizer.encode(text, add_special_tokens=False) for text in (tail, between))
        added = {*encoder.tokenizer.get_added_vocab().values(), *encoder.tokenizer.all_special_ids}
        closing_ids: tuple[int, ...] = ()
        shared = [token for token in ending[: common(ending, middle)] if token in added]
        ends = shared[-1:] or [token for token in ending if token in added][:1]
        if not ends:
            closing_ids = tuple(encoder.tokenizer.encode(closing, add_special_tokens=False)) if closing else ()
            if not closing_ids:
                if encoder.tokenizer.eos_token_id is None:
                    raise RecipeError(
                        f"The chat template '{encoder.name}' ends no answer, and the tokenizer has no EOS token - a model "
                        "trained with it would never stop; use another template."
                    )
                closing_ids = (encoder.tokenizer.eos_token_id,)
            ends = [closing_ids[-1]]
        grammar = replace(grammar, closing=closing_ids, end=ends[0])
        prompt, whole, longer = (
            encoder.tokenizer.encode(text, add_special_tokens=False)
            for text in (encoder.render(one[:-1], add_generation_prompt=True), encoder.render(one), encoder.render(two))
        )
        question = encoder.render(one[:-1], add_generation_prompt=True)
        opened = 0
        if not encoder.render(one).startswith(question):
            opened = len(prompt) - common(prompt, whole)
            written = encoder.tokenizer.decode(prompt[len(prompt) - opened :])
            if _USER in written:
                raise RecipeError(
                    f"The chat template '{encoder.name}' writes a question differently once it is answered: what is learned "
                    "would not be what is asked - use another template."
                )
        grammar = replace(grammar, opened=opened)
        with encoder.trying(grammar):
            return replace(grammar, rewrites=encoder.turn(prompt, whole, longer) is None)

    def _loses(self, record: Record, grammar: Grammar, *words: str) -> bool:
        """Whether the template fails, or leaves one of the words out."""
        try:
            text = self._encoder.render(self._encoder.shaped(record, grammar))
        except InputError:
            return True
        return not all(word in text for word in words)

    def _reason(self, record: Record, grammar: Grammar) -> str:
        try:
            self._encoder.render(self._encoder.shaped(record, grammar))
        except InputError as error:
            return f" ({str(error).partition(': ')[2].partition(' - ')[0]})"
        return ""


def common(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of what both begin with."""
    for place, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return place
    return min(len(first), len(second))
