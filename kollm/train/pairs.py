"""Preferences into tokens: one prompt with two answers, in the template and with the mask of supervised training.

The last answer alone carries loss, its end included. Prompt and answers are tokenised apart, so that both answers follow the very
prompt tokens that a model is asked with.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch

from kollm.core.counting import counted
from kollm.core.errors import InputError
from kollm.core.preferences import Preference
from kollm.recipe.tokens import PromptEncoder, Row
from kollm.train.batches import Collator
from kollm.train.data import IGNORED, Example, Ids, shorten


class PairExample(NamedTuple):
    """One pair: two rows of the same prompt, and for KTO each prompt with the answer of another pair.

    `input_ids` and `labels` are the chosen row's: what an example of supervised training would be.
    """

    id: str
    chosen: Example
    rejected: Example
    mismatched: tuple[Example, Example] | None = None

    @property
    def input_ids(self) -> Ids:
        return self.chosen.input_ids

    @property
    def labels(self) -> Ids:
        return self.chosen.labels

    @property
    def length(self) -> int:
        """Tokens that the model computes for it, the shorter row padded to the longer."""
        return 2 * max(self.chosen.length, self.rejected.length)

    @property
    def supervised(self) -> int:
        return self.chosen.supervised + self.rejected.supervised


@dataclass(slots=True)
class TokenisedPairs:
    """Examples and what it took to make them; `counts` as those of supervised rows, of pairs."""

    examples: list[PairExample] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def tokens(self) -> int:
        return sum(example.chosen.length + example.rejected.length for example in self.examples)

    @property
    def supervised(self) -> int:
        return sum(example.supervised for example in self.examples)


class PairSplit(NamedTuple):
    """Pairs to train on, and pairs kept out by prompt."""

    train: list[Preference]
    heldout: list[Preference]


def split_pairs(pairs: Iterable[Preference], share: float, seed: int = 0) -> PairSplit:
    """Keep a share of the prompts out of training, decided by a hash of the prompt's id and the seed: all pairs of one prompt
    fall on one side.

    Raises:
        InputError: there are no pairs, or a share above zero leaves one side empty.
    """
    split = PairSplit([], [])
    for pair in pairs:
        digest = hashlib.sha256(f"{seed} {pair.provenance.task or pair.id}".encode()).digest()
        (split.train if int.from_bytes(digest[:8], "big") / 2**64 >= share else split.heldout).append(pair)
    if not split.train or (share > 0 and not split.heldout):
        empty = "train on" if not split.train else "hold out"
        raise InputError(
            f"The dataset's {counted(len(split.train) + len(split.heldout), 'pair leaves', 'pairs leave')} none to {empty} at data.holdout={share} - use "
            "more pairs, or another share or data.holdout_seed."
        )
    return split


def tokenise_pairs(pairs: Iterable[Preference], encoder: PromptEncoder, *, max_length: int) -> TokenisedPairs:
    """Turn pairs into examples of rows of at most `max_length` tokens.

    The longer row is cut as in supervised training: oldest turns, then the end of the input, then the end of its answer, which
    is counted; the other row gets the same prompt. A pair of which a row has no room for an answer is dropped and counted, and
    so is one whose answers are the same tokens once they are cut.
    """
    result = TokenisedPairs()
    for pair in pairs:
        result.counts.update(encoder.notes(pair.record()))
        rows = [encoder.row(pair.record(side), last_only=True) for side in ("chosen", "rejected")]
        fitting = _fitted(rows, encoder, max_length, result.counts)
        if fitting is None:
            result.counts["dropped"] += 1
        elif fitting[0].spans[-1].ids == fitting[1].spans[-1].ids:
            result.counts["alike_when_cut"] += 1
        else:
            chosen, rejected = (_example(pair.id, row) for row in fitting)
            result.examples.append(PairExample(pair.id, chosen, rejected))
    return result


def with_mismatched(examples: Sequence[PairExample], max_length: int) -> list[PairExample]:
    """The same with each prompt before the answer of the pair that precedes it, by which KTO estimates the divergence.

    TRL turns the answers round within a device's batch; here the turn is over all pairs, so that it depends on no batch.

    Raises:
        InputError: there are not two pairs.
    """
    if len(examples) < 2:
        raise InputError(
            "KTO compares answers of different prompts, and there is one pair alone - use more, or method dpo."
        )
    before = [examples[-1], *examples[:-1]]
    return [
        example._replace(
            mismatched=(
                _joined(example.chosen, other.chosen, max_length),
                _joined(example.rejected, other.rejected, max_length),
            )
        )
        for example, other in zip(examples, before, strict=True)
    ]


class PairCollator:
    """Pairs into the tensors of one microbatch: the chosen rows, then the rejected ones, padded to the longest.

    `input_ids` and `labels` have the shape (2 * pairs, longest); `places` are the pairs' places among the examples, by which the
    reference's words are found. KTO's mismatched rows stand in `kl_input_ids` and `kl_labels`, in the same order. A microbatch
    without pairs holds a row without loss, and no place.
    """

    def __init__(self, pad_token_id: int) -> None:
        self._rows = Collator(pad_token_id, packed=False)

    @property
    def masks_padding(self) -> bool:
        return self._rows.masks_padding

    @masks_padding.setter
    def masks_padding(self, value: bool) -> None:
        self._rows.masks_padding = value

    def __call__(self, items: Sequence[tuple[int, PairExample]]) -> dict[str, Any]:
        pairs = [pair for _, pair in items]
        batch = self._rows([*(pair.chosen for pair in pairs), *(pair.rejected for pair in pairs)])
        batch["places"] = torch.tensor([place for place, _ in items], dtype=torch.long)
        others = [pair.mismatched for pair in pairs if pair.mismatched is not None]
        if others:
            kl = self._rows([*(chosen for chosen, _ in others), *(rejected for _, rejected in others)])
            batch |= {f"kl_{name}": value for name, value in kl.items()}
        return batch


def _fitted(rows: Sequence[Row], encoder: PromptEncoder, room: int, counts: Counter[str]) -> tuple[Row, Row] | None:
    """Both rows cut to `room` tokens, with the same prompt; None where an answer has no room."""
    first = 0 if rows[0].length >= rows[1].length else 1
    longer, other = rows[first], rows[1 - first]
    if longer.length > room:
        cut = shorten(longer, encoder, room, counts)
        if cut is None:
            return None
        prompt = {"history": cut.record.history, "input": cut.record.input}
        shorter = encoder.row(replace(other.record, **prompt), last_only=True)  # type: ignore[arg-type]
        fitted = shorten(shorter, encoder, room, Counter()) if shorter.length > room else shorter
        if fitted is None:
            return None
        longer, other = cut, fitted
    return (longer, other) if first == 0 else (other, longer)


def _example(name: str, row: Row) -> Example:
    ids = [token for span in row.spans for token in span.ids]
    answer = row.spans[-1].ids
    labels = [IGNORED] * (len(ids) - len(answer)) + answer
    return Example(name, np.asarray(ids, dtype=np.int32), np.asarray(labels, dtype=np.int32))


def _joined(prompt: Example, answer: Example, room: int) -> Example:
    """The prompt of one example with the answer of another."""
    asked = prompt.input_ids[: _asked(prompt)]
    said = answer.input_ids[_asked(answer) :][: max(room - len(asked), 1)]
    labels = np.concatenate([np.full(len(asked), IGNORED, dtype=np.int32), said])
    return Example(prompt.id, np.concatenate([asked, said]), labels)


def _asked(example: Example) -> int:
    """How many tokens the prompt has."""
    return int((example.labels == IGNORED).sum())
