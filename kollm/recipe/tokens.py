"""Prompts into tokens: one way for training and for generation, so that a model is asked with the tokens it learned.

An encoder turns Records into rows of spans, each learned or not, and a Record's question into the tokens of its prompt.
`TextEncoder` is for kollm's own templates, which are plain text: prompt and answer are tokenised apart, text from the
data never becomes a special token, and EOS is appended by its id. `kollm.recipe.chat` is for the templates of bases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from kollm.core.records import Record
from kollm.recipe.prompt import PromptTemplate, Segment

NOT_SHOWN = "tools_not_shown"
"""Note of a record whose tools the prompt has no place for."""


class Span(NamedTuple):
    """A stretch of a row's tokens, and whether the loss covers it."""

    ids: list[int]
    learned: bool


class Row(NamedTuple):
    """One training row.

    Attributes:
        record: what it says.
        spans: its tokens; the last learned span is the last answer, with what ends it.
        last_only: whether the last answer alone is learned, since a row of its own teaches each earlier one.
        merged: tokenised as one text, a token would span prompt and answer.
        closing: number of the last learned span's tokens that end the answer.
    """

    record: Record
    spans: list[Span]
    last_only: bool = False
    merged: bool = False
    closing: int = 1

    @property
    def length(self) -> int:
        return sum(len(span.ids) for span in self.spans)


class PromptEncoder(Protocol):
    """Makes tokens of Records in one prompt template.

    Attributes:
        tokenizer: of transformers; it carries the template.
        name: the template's name in a recipe.
        sha256: hash of everything that decides the text.
        stop: texts that end an answer where a line begins with one of them.
        ends: ids of the tokens that end an answer.
    """

    @property
    def tokenizer(self) -> Any: ...
    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def stop(self) -> tuple[str, ...]: ...
    @property
    def ends(self) -> tuple[int, ...]: ...

    def rows(self, records: Sequence[Record]) -> list[list[Row]]:
        """The training rows of each record: one, or one an answer where the template rewrites earlier turns."""
        ...

    def row(self, record: Record, last_only: bool) -> Row:
        """One training row of one record."""
        ...

    def prompt(self, record: Record) -> list[int]:
        """Ids that a model is asked with; the record's output plays no part."""
        ...

    def notes(self, record: Record) -> tuple[str, ...]:
        """What had to be put elsewhere than the record has it, or left out, by name, to be counted."""
        ...


def bos_ids(tokenizer: Any) -> list[int]:
    """What the tokenizer itself puts before a text: its BOS, or nothing (GPT-NeoX)."""
    return [token for token in tokenizer("")["input_ids"] if token == tokenizer.bos_token_id]


def plain_ids(texts: Sequence[str], tokenizer: Any) -> list[list[int]]:
    """Ids of each text as plain text: the name of a special token in it stays text."""
    if not texts:
        return []
    encoded: list[list[int]] = tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return encoded


class TextEncoder:
    """Encodes by one of kollm's own templates (`kullm-2023`, `kullm-v2`, `plain`)."""

    def __init__(self, template: PromptTemplate, tokenizer: Any) -> None:
        self.template = template
        self.tokenizer = tokenizer
        self._bos = bos_ids(tokenizer)

    @property
    def name(self) -> str:
        return self.template.name

    @property
    def sha256(self) -> str:
        return self.template.sha256

    @property
    def stop(self) -> tuple[str, ...]:
        return self.template.stop

    @property
    def ends(self) -> tuple[int, ...]:
        return () if self.tokenizer.eos_token_id is None else (self.tokenizer.eos_token_id,)

    def rows(self, records: Sequence[Record]) -> list[list[Row]]:
        pieces = [self.template.segments(record, self.tokenizer.eos_token) for record in records]
        ids = self._segment_ids([segment for row in pieces for segment in row])
        merged = self._merged(pieces)
        return [
            [Row(record, self._spans(segments, ids), merged=crossed)]
            for record, segments, crossed in zip(records, pieces, merged, strict=True)
        ]

    def row(self, record: Record, last_only: bool) -> Row:
        segments = self.template.segments(record, self.tokenizer.eos_token)
        return Row(record, self._spans(segments, self._segment_ids(segments)), last_only)

    def prompt(self, record: Record) -> list[int]:
        segments = self.template.segments(replace(record, output=""), self.tokenizer.eos_token)[:-1]
        return [*self._bos, *(token for ids in self._segment_ids(segments) for token in ids)]

    def notes(self, record: Record) -> tuple[str, ...]:
        notes = {"system_before_instruction": record.system, NOT_SHOWN: record.tools}
        return tuple(name for name, there in notes.items() if there)

    def _spans(self, segments: Sequence[Segment], ids: Iterator[list[int]]) -> list[Span]:
        spans = [Span(next(ids), segment.learned) for segment in segments]
        return [Span([*self._bos, *spans[0].ids], spans[0].learned), *spans[1:]] if self._bos else spans

    def _segment_ids(self, segments: Sequence[Segment]) -> Iterator[list[int]]:
        """Ids of each segment; the EOS text that closes an answer becomes the EOS id."""
        eos = self.tokenizer.eos_token
        texts = [segment.text.removesuffix(eos) if segment.learned else segment.text for segment in segments]
        for segment, ids in zip(segments, plain_ids(texts, self.tokenizer), strict=True):
            yield [*ids, self.tokenizer.eos_token_id] if segment.learned else ids

    def _merged(self, pieces: Sequence[Sequence[Segment]]) -> list[bool]:
        """Of each row, whether a token would span the boundary, were last prompt and answer tokenised as one text."""
        prompts = [row[-2].text for row in pieces]
        answers = [row[-1].text.removesuffix(self.tokenizer.eos_token) for row in pieces]
        joined = plain_ids([prompt + answer for prompt, answer in zip(prompts, answers, strict=True)], self.tokenizer)
        apart = zip(plain_ids(prompts, self.tokenizer), plain_ids(answers, self.tokenizer), strict=True)
        return [whole != prompt + answer for whole, (prompt, answer) in zip(joined, apart, strict=True)]
