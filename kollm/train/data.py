"""Records into tokens: prompt and completion, the loss mask, truncation, and the rows that are held out.

Prompt and answer are tokenised apart, so that the model trains on exactly the prompt tokens that it is asked with.
Text from the data never becomes a special token; EOS is appended by its id and always learned.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kollm.core.errors import InputError
from kollm.core.records import Record
from kollm.recipe.prompt import PromptTemplate, Segment
from kollm.recipe.tokens import bos_ids, plain_ids, segment_ids

IGNORED = -100
"""Label of a token without loss, as torch's cross entropy takes it."""

Loss = Literal["completion", "all"]
Ids = NDArray[np.int32]
_PAIR = re.compile(r"-t\d+$")
_CHUNK = 512


class Example(NamedTuple):
    """One training row: token ids and labels, both of shape (tokens,); a label is the token's id or IGNORED."""

    id: str
    input_ids: Ids
    labels: Ids


class Split(NamedTuple):
    """Rows to train on, and rows kept out by conversation."""

    train: list[Record]
    heldout: list[Record]


@dataclass(slots=True)
class Tokenised:
    """Examples and what it took to make them.

    Attributes:
        examples: the rows that carry loss.
        counts: rows by what happened: `history_cut`, `input_cut`, `completion_cut`, `dropped` (no answer token fits),
            `boundary_merge` (tokenised as one text, a token would span prompt and answer).
    """

    examples: list[Example] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def tokens(self) -> int:
        return sum(len(example.input_ids) for example in self.examples)

    @property
    def supervised(self) -> int:
        """Tokens that are predicted under the loss; a row's first token has no context and is not among them."""
        return sum(int((example.labels[1:] != IGNORED).sum()) for example in self.examples)


def split_heldout(records: Iterable[Record], share: float, seed: int = 0) -> Split:
    """Keep a share of the conversations out of training.

    Which ones is decided by a hash of conversation id and seed, so that it depends neither on the order of the rows nor
    on the other rows; all pairs of one conversation (`...-t3`) fall on one side.

    Raises:
        InputError: a share above zero of so few conversations that one side would be empty.
    """
    split = Split([], [])
    for record in records:
        digest = hashlib.sha256(f"{seed}:{_PAIR.sub('', record.id)}".encode()).digest()
        held = int.from_bytes(digest[:8], "big") / 2**64 < share
        (split.heldout if held else split.train).append(record)
    if not split.train or (share > 0 and not split.heldout):
        empty = "train on" if not split.train else "hold out"
        raise InputError(
            f"The dataset's {len(split.train) + len(split.heldout)} rows leave none to {empty} at data.holdout={share} - "
            "use more rows, or another share or data.holdout_seed."
        )
    return split


def conversations(records: Sequence[Record]) -> int:
    """Number of different conversations among the records."""
    return len({_PAIR.sub("", record.id) for record in records})


def tokenise(
    records: Iterable[Record], template: PromptTemplate, tokenizer: Any, *, max_length: int, loss: Loss = "completion"
) -> Tokenised:
    """Turn records into examples of at most `max_length` tokens.

    A row that is too long loses its oldest turns first, then the end of its input, then the end of its answer, never
    its EOS. A row whose prompt alone fills `max_length` is dropped and counted.
    """
    result = Tokenised()
    bos = bos_ids(tokenizer)
    rows = iter(records)
    while chunk := list(islice(rows, _CHUNK)):
        pieces = [template.segments(record, tokenizer.eos_token) for record in chunk]
        ids = iter(segment_ids([segment for row in pieces for segment in row], tokenizer))
        for record, segments in zip(chunk, pieces, strict=True):
            row = [next(ids) for _ in segments]
            if len(bos) + sum(map(len, row)) > max_length:
                shortened = _shorten(record, template, tokenizer, max_length - len(bos), result.counts)
                if shortened is None:
                    result.counts["dropped"] += 1
                    continue
                segments, row = shortened
            result.examples.append(_example(record.id, bos, segments, row, loss))
        result.counts["boundary_merge"] += _merges(pieces, tokenizer)
    return result


def _example(name: str, bos: list[int], segments: Sequence[Segment], row: Sequence[list[int]], loss: Loss) -> Example:
    ids, labels = list(bos), [IGNORED] * len(bos)
    for segment, tokens in zip(segments, row, strict=True):
        ids += tokens
        labels += tokens if segment.learned or loss == "all" else [IGNORED] * len(tokens)
    return Example(name, np.asarray(ids, dtype=np.int32), np.asarray(labels, dtype=np.int32))


def _merges(pieces: Sequence[Sequence[Segment]], tokenizer: Any) -> int:
    """Rows in which a token would span the boundary, were last prompt and answer tokenised as one text."""
    prompts = [row[-2].text for row in pieces]
    answers = [row[-1].text.removesuffix(tokenizer.eos_token) for row in pieces]
    joined = plain_ids([prompt + answer for prompt, answer in zip(prompts, answers, strict=True)], tokenizer)
    apart = zip(plain_ids(prompts, tokenizer), plain_ids(answers, tokenizer), strict=True)
    return sum(whole != prompt + answer for whole, (prompt, answer) in zip(joined, apart, strict=True))


def _shorten(
    record: Record, template: PromptTemplate, tokenizer: Any, room: int, counts: Counter[str]
) -> tuple[list[Segment], list[list[int]]] | None:
    """Segments and ids of the record cut to `room` tokens; None where no answer token fits."""

    def tokens_of(shorter: Record) -> tuple[list[Segment], list[list[int]], int]:
        segments = template.segments(shorter, tokenizer.eos_token)
        ids = list(segment_ids(segments, tokenizer))
        return segments, ids, sum(map(len, ids)) - room

    segments, ids, excess = tokens_of(record)
    if record.history and excess > 0:
        counts["history_cut"] += 1
        while record.history and excess > 0:
            record = replace(record, history=record.history[1:])
            segments, ids, excess = tokens_of(record)
    if record.input and excess > 0:
        counts["input_cut"] += 1
        while record.input and excess > 0:
            kept = plain_ids([record.input], tokenizer)[0][: -excess or None]
            text = tokenizer.decode(kept, skip_special_tokens=False).rstrip("\ufffd")
            record = replace(record, input=text if len(text) < len(record.input) else record.input[:-1])
            segments, ids, excess = tokens_of(record)
    if excess > 0:
        kept = ids[-1][: len(ids[-1]) - 1 - excess] if len(ids[-1]) - 1 > excess else []
        if not kept:
            return None
        counts["completion_cut"] += 1
        ids[-1] = [*kept, tokenizer.eos_token_id]
    return segments, ids
