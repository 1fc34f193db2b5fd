"""Records into tokens: prompt and completion, the loss mask, truncation, and the rows that are held out.

Prompt and answer are tokenised apart, so that the model trains on exactly the prompt tokens that it is asked with.
Text from the data never becomes a special token; EOS is appended by its id and learned wherever an answer is whole.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kollm.core.counting import counted
from kollm.core.errors import InputError
from kollm.core.records import Record
from kollm.dataset.mixture import share_lines
from kollm.recipe.tokens import NOT_SHOWN, PromptEncoder, Row, Span, plain_ids
from kollm.recipe.tools import is_call

IGNORED = -100
"""Label of a token without loss, as torch's cross entropy takes it."""

Loss = Literal["completion", "all"]
Ids = NDArray[np.int32]
_PAIR = re.compile(r"(-t\d+)?(-r\d+)?$")
"""What ids have after their conversation's: a pair's number, and that of a row's copy in a mixture."""
_COPY = re.compile(r"-r\d+$")
_CHUNK = 512
_LONGEST_CHARACTER = 8
"""More tokens than a character has: tokens of single bytes, of which UTF-8 takes four, and one before them."""


class Example(NamedTuple):
    """One training row: token ids and labels, both of shape (tokens,); a label is the token's id or IGNORED."""

    id: str
    input_ids: Ids
    labels: Ids

    @property
    def length(self) -> int:
        return len(self.input_ids)

    @property
    def supervised(self) -> int:
        """Tokens that are predicted under the loss; the first token has no context and is not among them."""
        return int((self.labels[1:] != IGNORED).sum())


class Split(NamedTuple):
    """Rows to train on, and rows kept out by conversation."""

    train: list[Record]
    heldout: list[Record]


class Share(NamedTuple):
    """What a part of the training rows, a config of their dataset, comes to."""

    rows: int
    tokens: int
    supervised: int


@dataclass(slots=True)
class Tokenised:
    """Examples and what it took to make them.

    Attributes:
        examples: the rows that carry loss.
        counts: rows by what happened: `history_cut`, `input_cut`, `completion_cut`, `dropped` (no answer token fits),
            `boundary_merge` (tokenised as one text, a token would span prompt and answer), `turn_by_turn` (conversations
            that became a row an answer, since the template rewrites earlier turns), `calls` (of tools, not learned),
            `calls_alone` (records without another answer, left out), and the encoder's notes.
        shares: part -> what it comes to, where the rows have parts.
    """

    examples: list[Example] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    shares: dict[str, Share] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        return sum(example.length for example in self.examples)

    @property
    def supervised(self) -> int:
        return sum(example.supervised for example in self.examples)

    def add(self, name: str, part: Tokenised) -> None:
        """Append the rows of a part."""
        self.shares[name] = Share(len(part.examples), part.tokens, part.supervised)
        self.examples += part.examples
        self.counts.update(part.counts)


def moved_lines(counts: Mapping[str, int]) -> list[str]:
    """What has another place in the prompt than in the row, or none, one line each."""
    no_place = "since the prompt has no place for them"
    said = {
        "system_before_instruction": ("system message", "system messages", f"went before the instruction, {no_place}"),
        "input_after_instruction": ("input", "inputs", f"went after the instruction, {no_place}"),
        "calls": (
            "call of a tool is context and is",
            "calls of tools are context and are",
            "not learned (learn_tool_calls: true learns them)",
        ),
        "calls_alone": ("row was", "rows were", "left out, whose only answers are calls of tools"),
        NOT_SHOWN: ("row is", "rows are", f"learned without tool definitions, {no_place}"),
        "turn_by_turn": (
            "conversation",
            "conversations",
            "became a row an answer, since the prompt rewrites earlier turns",
        ),
    }
    return [f"{counted(counts[name], *nouns)} {rest}" for name, (*nouns, rest) in said.items() if counts.get(name)]


def split_heldout(records: Iterable[Record], share: float, seed: int = 0) -> Split:
    """Keep a share of the conversations out of training.

    Which ones is decided by a hash of conversation id and seed, so that it depends neither on the order of the rows nor
    on the other rows; all pairs of one conversation (`...-t3`) fall on one side, and all copies of a row (`...-r2`), of
    which a single one is held out.

    Raises:
        InputError: a share above zero of so few conversations that one side would be empty.
    """
    return split_parts([("", records)], share, seed).split


class Parted(NamedTuple):
    """Rows that are divided, and how many of those to train on stand in each part, in order."""

    split: Split
    parts: dict[str, int]


def split_parts(parts: Iterable[tuple[str, Iterable[Record]]], share: float, seed: int = 0) -> Parted:
    """As `split_heldout`, of rows that come part by part.

    Raises:
        InputError: as `split_heldout`.
    """
    split = Split([], [])
    sizes: dict[str, int] = {}
    there: set[Record] = set()
    for name, records in parts:
        before = len(split.train)
        for record in records:
            digest = hashlib.sha256(f"{seed}:{_PAIR.sub('', record.id)}".encode()).digest()
            if int.from_bytes(digest[:8], "big") / 2**64 >= share:
                split.train.append(record)
            elif (once := replace(record, id=_COPY.sub("", record.id))) not in there:
                there.add(once)
                split.heldout.append(record)
        sizes[name] = len(split.train) - before
    if not split.train or (share > 0 and not split.heldout):
        empty = "train on" if not split.train else "hold out"
        raise InputError(
            f"The dataset's {counted(len(split.train) + len(split.heldout), 'row leaves', 'rows leave')} none to {empty} at data.holdout={share} - "
            "use more rows, or another share or data.holdout_seed."
        )
    return Parted(split, sizes)


def conversations(records: Sequence[Record]) -> int:
    """Number of different conversations among the records."""
    return len({_PAIR.sub("", record.id) for record in records})


def tokenise(
    records: Iterable[Record],
    encoder: PromptEncoder,
    *,
    max_length: int,
    loss: Loss = "completion",
    tool_calls: bool = False,
) -> Tokenised:
    """Turn records into examples of at most `max_length` tokens; calls of tools are learned with `tool_calls` alone.

    A row that is too long loses its oldest turns first, then the end of its input, then the end of its answer, with what
    ends the answer: EOS after a cut one would teach to stop in the middle. It is cut between two characters, though a
    character may be several tokens. A row whose prompt alone fills `max_length` is dropped and counted.
    """
    result = Tokenised()
    counts = result.counts
    left = iter(records)
    while chunk := list(islice(left, _CHUNK)):
        for record, rows in zip(chunk, encoder.rows(chunk), strict=True):
            counts.update(encoder.notes(record))
            if len(rows) > 1:
                counts["turn_by_turn"] += 1
            calling = 0
            for row in rows:
                counts["boundary_merge"] += row.merged
                fitting = shorten(row, encoder, max_length, counts) if row.length > max_length else row
                if fitting is not None and not tool_calls and loss == "completion":
                    fitting = _without_calls(fitting, counts)
                if fitting is None:
                    counts["dropped"] += 1
                elif not any(span.learned for span in fitting.spans):
                    calling += 1
                else:
                    result.examples.append(_example(record.id, fitting.spans, loss))
            if calling == len(rows):
                counts["calls_alone"] += 1
    return result


def _without_calls(row: Row, counts: Counter[str]) -> Row:
    """The row with no loss on the answers that call a tool: they stay as what came before."""
    answers = [row.record.output] if row.last_only else [*(bot for _, bot in row.record.history), row.record.output]
    if not any(map(is_call, answers)):
        return row
    places = [place for place, span in enumerate(row.spans) if span.learned]
    calls = {place for place, answer in zip(places, answers, strict=True) if is_call(answer)}
    counts["calls"] += len(calls)
    spans = [span._replace(learned=span.learned and place not in calls) for place, span in enumerate(row.spans)]
    return row._replace(spans=spans)


def tokenise_parts(
    parts: Mapping[str, int],
    records: Sequence[Record],
    encoder: PromptEncoder,
    *,
    max_length: int,
    loss: Loss,
    tool_calls: bool = False,
) -> Tokenised:
    """As `tokenise`, of rows that stand part by part, so many of each; the result tells the parts' shares."""
    whole = Tokenised()
    left = iter(records)
    for name, count in parts.items():
        whole.add(name, tokenise(islice(left, count), encoder, max_length=max_length, loss=loss, tool_calls=tool_calls))
    return whole


def part_lines(rows: Tokenised) -> list[str]:
    """The shares in rows and tokens, a line a part; none where there is one part alone."""
    if len(rows.shares) < 2:
        return []
    shares = rows.shares.items()
    return list(share_lines({name: s.rows for name, s in shares}, {name: s.tokens for name, s in shares}))


def _example(name: str, spans: Sequence[Span], loss: Loss) -> Example:
    ids: list[int] = []
    labels: list[int] = []
    for span in spans:
        ids += span.ids
        labels += span.ids if span.learned or loss == "all" else [IGNORED] * len(span.ids)
    return Example(name, np.asarray(ids, dtype=np.int32), np.asarray(labels, dtype=np.int32))


def shorten(row: Row, encoder: PromptEncoder, room: int, counts: Counter[str]) -> Row | None:
    """The row cut to `room` tokens; None where no answer token fits."""
    record = row.record
    if record.history and row.length > room:
        counts["history_cut"] += 1
        row = _without_history(row, encoder, room)
    if record.input and row.length > room:
        counts["input_cut"] += 1
        while row.record.input and row.length > room:
            record = row.record
            kept = plain_ids([record.input], encoder.tokenizer)[0][: room - row.length or None]
            text = encoder.tokenizer.decode(kept, skip_special_tokens=False).rstrip("\ufffd")
            record = replace(record, input=text if len(text) < len(record.input) else record.input[:-1])
            row = encoder.row(record, row.last_only)
    if row.length <= room:
        return row
    answer = row.spans[-1].ids
    kept = answer[: min(len(answer) - row.closing, len(answer) - (row.length - room))]
    while kept and encoder.tokenizer.decode(kept[-_LONGEST_CHARACTER:]).endswith("\ufffd"):
        kept = kept[:-1]
    if not kept:
        return None
    counts["completion_cut"] += 1
    return row._replace(spans=[*row.spans[:-1], Span(kept, True)])


def _without_history(row: Row, encoder: PromptEncoder, room: int) -> Row:
    """The row without its oldest turns, as few as will do; without all of them if that is still too long."""
    fewest, most = 1, len(row.record.history)
    while True:
        turns = (fewest + most) // 2
        shorter = encoder.row(replace(row.record, history=row.record.history[turns:]), row.last_only)
        if fewest == most:
            return shorter
        fewest, most = (fewest, turns) if shorter.length <= room else (turns + 1, most)
