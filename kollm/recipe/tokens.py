"""Prompts into tokens: one way for training and for generation, so that a model is asked with the tokens it learned.

Prompt and answer are tokenised apart. Text from the data never becomes a special token; EOS is appended by its id.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from kollm.core.records import Record
from kollm.recipe.prompt import PromptTemplate, Segment


def bos_ids(tokenizer: Any) -> list[int]:
    """What the tokenizer itself puts before a text: its BOS, or nothing (GPT-NeoX)."""
    return [token for token in tokenizer("")["input_ids"] if token == tokenizer.bos_token_id]


def plain_ids(texts: Sequence[str], tokenizer: Any) -> list[list[int]]:
    """Ids of each text as plain text: the name of a special token in it stays text."""
    if not texts:
        return []
    encoded: list[list[int]] = tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return encoded


def segment_ids(segments: Sequence[Segment], tokenizer: Any) -> Iterator[list[int]]:
    """Ids of each segment; the EOS text that closes an answer becomes the EOS id."""
    eos = tokenizer.eos_token
    texts = [segment.text.removesuffix(eos) if segment.learned else segment.text for segment in segments]
    for segment, ids in zip(segments, plain_ids(texts, tokenizer), strict=True):
        yield [*ids, tokenizer.eos_token_id] if segment.learned else ids


def prompt_ids(record: Record, template: PromptTemplate, tokenizer: Any) -> list[int]:
    """Ids of a record's prompt, up to and including the newline after the response heading."""
    segments = template.segments(replace(record, output=""), tokenizer.eos_token)[:-1]
    return [*bos_ids(tokenizer), *(token for ids in segment_ids(segments, tokenizer) for token in ids)]
