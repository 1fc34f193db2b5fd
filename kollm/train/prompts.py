"""The encoder of a recipe's prompt, and the proof that its loss mask is right for this base, before anything is trained.

Where TRL ships a training template with generation marks for the base's own, its marks must agree with the mask; else
the mask stands on the prompts alone. Both are tried on probes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from jinja2 import TemplateError
from trl.chat_template_utils import get_training_chat_template, has_generation_markers

from kollm.core.errors import RecipeError
from kollm.core.files import read_text, require_file
from kollm.core.records import Record
from kollm.recipe.chat import CHAT, ChatEncoder
from kollm.recipe.prompt import BEGIN, PromptTemplate
from kollm.recipe.tokens import PromptEncoder, TextEncoder, bos_ids

AUTO = "auto"
"""The prompt of a recipe that names none: the base's own template, or `kullm-2023` where it has none."""
_QUESTION, _ANSWER, _SECOND, _LAST, _SYSTEM = (
    "first question",
    "first answer",
    "second question",
    "last answer",
    "manners",
)


class Proof(NamedTuple):
    """What was proven of a base's prompt.

    Attributes:
        masks: `marks` where TRL's generation marks agree with the mask, `prefixes` where TRL knows no template for the
            base, `text` for kollm's own templates.
        end: the token that ends an answer, and is learned.
        system: where a system message goes: to its own `place`, or `before the instruction`.
        turns: `together` where a conversation is one row, `apart` where each answer has a row of its own.
        opened: the end of the template's prompt, where it opens a reasoning that rows do not have; empty where it does not.
    """

    masks: Literal["marks", "prefixes", "text"]
    end: str
    system: Literal["place", "before the instruction"]
    turns: Literal["together", "apart"]
    opened: str

    def sentence(self, name: str) -> str:
        """The proof in words."""
        found = {"marks": "TRL's generation marks", "prefixes": "the prompts", "text": "kollm's own template"}[
            self.masks
        ]
        parts = [f"prompt {name}: the mask stands on {found}, an answer ends with {self.end!r}"]
        if self.turns == "apart":
            parts.append("the template rewrites earlier turns, so each answer of a conversation gets a row of its own")
        if self.system != "place":
            parts.append("a system message goes before the first instruction")
        if self.opened:
            parts.append(
                f"servers end the prompt with {self.opened!r}, which opens a reasoning that rows do not have: set "
                "enable_thinking to false, if the template knows it"
            )
        return "; ".join(parts)


def prompt_name(prompt: str, tokenizer: Any) -> str:
    """The recipe's prompt, with `auto` decided by what the tokenizer has."""
    if prompt != AUTO:
        return prompt
    return CHAT if tokenizer.chat_template else "kullm-2023"


def make_encoder(prompt: str, tokenizer: Any, *, enable_thinking: bool | None = None) -> PromptEncoder:
    """The encoder of a prompt; the tokenizer carries its template from now on, and ends a text as the template does.

    Args:
        prompt: `auto`, `chat`, the name of a shipped template, or the path of a file that ends in `.jinja`.
        tokenizer: the base's, or an adapter's.
        enable_thinking: the chat template's variable of that name; None leaves it to the template.

    Raises:
        RecipeError: there is no such template, or it cannot be masked.
        InputError: the file cannot be read.
    """
    name = prompt_name(prompt, tokenizer)
    if name in PromptTemplate.names():
        if enable_thinking is not None:
            raise RecipeError(
                f"enable_thinking is for chat templates, and the prompt is '{name}' - leave it out, or set prompt to chat."
            )
        template = PromptTemplate.load(name)
        tokenizer.chat_template = (BEGIN if bos_ids(tokenizer) else "") + template.chat_template
        return TextEncoder(template, tokenizer)
    if name != CHAT:
        tokenizer.chat_template = _template_file(name)
    encoder = ChatEncoder(
        tokenizer, name, enable_thinking=enable_thinking, closing=_closing(tokenizer, enable_thinking)
    )
    _end_texts_alike(encoder)
    return encoder


def prove(encoder: PromptEncoder) -> Proof:
    """Try the mask on probes: which tokens are learned, that the end is, and that the text of a row stays text.

    Raises:
        RecipeError: an answer or its end is not learned, something else is, or TRL's marks say otherwise.
    """
    tokenizer = encoder.tokenizer
    single = Record("probe", "", _QUESTION, "", _ANSWER)
    double = Record("probe", "", _SECOND, "", _LAST, ((_QUESTION, _ANSWER),))
    for record, answers in ((single, [_ANSWER]), (double, [_ANSWER, _LAST])):
        for system in ("", _SYSTEM):
            _check_learned(encoder, replace(record, system=system), answers)
    end = encoder.ends[0]
    named = replace(single, instruction=f"{_QUESTION} {tokenizer.decode([end])}")
    counts = [sum(span.ids.count(end) for span in encoder.row(row, False).spans) for row in (single, named)]
    if counts[0] != counts[1]:
        raise _unproven(encoder, "the name of its end token in a row's text becomes that token")
    if not isinstance(encoder, ChatEncoder):
        return Proof("text", tokenizer.decode([end]), "before the instruction", "together", "")
    grammar = encoder.grammar
    return Proof(
        "marks" if _marks_agree(encoder, single) else "prefixes",
        tokenizer.decode([end]),
        "place" if grammar.system else "before the instruction",
        "apart" if grammar.rewrites else "together",
        encoder.prompt_text(single).rpartition(_QUESTION)[2] if grammar.opened else "",
    )


def _check_learned(encoder: PromptEncoder, record: Record, answers: Sequence[str]) -> None:
    learned = []
    for row in encoder.rows([record])[0]:
        learned += [span.ids for span in row.spans if span.learned]
    texts = [encoder.tokenizer.decode(ids) for ids in learned]
    if len(texts) != len(answers) or any(answer not in text for text, answer in zip(texts, answers, strict=True)):
        raise _unproven(encoder, f"it would learn {texts} and not {list(answers)}")
    for text in texts:
        if any(asked in text for asked in (_QUESTION, _SECOND, _SYSTEM)):
            raise _unproven(encoder, f"it would learn the question in {text!r}")
    if not all(set(encoder.ends) & set(ids) for ids in learned):
        raise _unproven(encoder, "the token that ends an answer would not be learned")


def _marks_agree(encoder: ChatEncoder, record: Record) -> bool:
    """Whether TRL's generation marks were there to compare the mask with.

    Raises:
        RecipeError: they say otherwise.
    """
    marked = _training_template(encoder.tokenizer)
    if marked is None:
        return False
    row = encoder.row(record, False)
    out = encoder.tokenizer.apply_chat_template(
        encoder.messages(record),
        chat_template=marked,
        return_dict=True,
        return_assistant_tokens_mask=True,
        **encoder.options,
    )
    ids, marks = list(out["input_ids"]), list(out["assistant_masks"])
    if row.merged or ids != [token for span in row.spans for token in span.ids]:
        return False
    mask = [int(span.learned) for span in row.spans for _ in span.ids]
    # Some of TRL's marks begin within the prompt, which is never learned here, or stop short of a space after the end.
    first, last = mask.index(1), len(ids) - ids[::-1].index(encoder.grammar.end)
    if marks[first:last] != mask[first:last]:
        raise _unproven(encoder, f"TRL's generation marks cover {encoder.tokenizer.decode(_masked(ids, marks))!r}")
    return True


def _masked(ids: Sequence[int], mask: Sequence[int]) -> list[int]:
    return [token for token, marked in zip(ids, mask, strict=True) if marked]


def _unproven(encoder: PromptEncoder, reason: str) -> RecipeError:
    return RecipeError(f"The prompt '{encoder.name}' cannot be masked on this base: {reason} - name another template.")


def _template_file(name: str) -> str:
    path = Path(name)
    if path.suffix != ".jinja" or not path.is_file():
        raise RecipeError(
            f"There is no prompt template '{name}' - use {CHAT}, one of {', '.join(PromptTemplate.names())}, or the path of a "
            "file that ends in .jinja."
        )
    return read_text(require_file(path, "The template"))


def _training_template(tokenizer: Any) -> str | None:
    """The base's template with generation marks, where it has them or TRL knows them."""
    try:
        marked = get_training_chat_template(tokenizer)
    except (
        ValueError,
        TypeError,
        KeyError,
        TemplateError,
    ):  # TRL tries tools on it, and knows a list of templates alone
        marked = None
    own: str = tokenizer.get_chat_template()
    return marked or (own if has_generation_markers(own) else None)


def _closing(tokenizer: Any, enable_thinking: bool | None) -> str:
    """What TRL's training template writes after an answer and the base's own leaves to the next turn (GLM)."""
    marked = _training_template(tokenizer) if tokenizer.chat_template else None
    if marked is None:
        return ""
    messages = [{"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}]
    options = {} if enable_thinking is None else {"enable_thinking": enable_thinking}
    try:
        own, other = (
            str(tokenizer.apply_chat_template(messages, tokenize=False, chat_template=template, **options))
            for template in (None, marked)
        )
    except (TemplateError, TypeError, ValueError, KeyError):
        return ""
    return other.removeprefix(own) if other.startswith(own) else ""


def _end_texts_alike(encoder: ChatEncoder) -> None:
    """Make the token that ends an answer the tokenizer's EOS, at which servers stop; a base's often is another.

    A template that writes `eos_token` itself keeps it.
    """
    tokenizer = encoder.tokenizer
    if tokenizer.eos_token_id == encoder.grammar.end or "eos_token" in encoder.template:
        return
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(encoder.grammar.end)
