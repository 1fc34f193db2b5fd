"""Training rows and pairs as the model sees them: decoded, with the loss mask shown, and what was cut or dropped counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kollm.core.counting import counted
from kollm.core.preferences import Preference
from kollm.core.records import Record
from kollm.recipe.schema import Recipe
from kollm.services.local_model import find_whole_model
from kollm.train.check import base_location
from kollm.train.data import (
    IGNORED,
    Example,
    Tokenised,
    moved_lines,
    part_lines,
    split_heldout,
    split_parts,
    tokenise_parts,
)
from kollm.train.model import add_tokens, load_base_tokenizer
from kollm.train.pairs import PairExample, TokenisedPairs, split_pairs, tokenise_pairs
from kollm.train.prompts import make_encoder, prove
from kollm.train.toy import recipe_tokenizer


class Span(NamedTuple):
    """A decoded stretch of tokens that are all under the loss, or all not."""

    text: str
    learned: bool


@dataclass(frozen=True, slots=True)
class Preview:
    """The shown rows' spans, by row id, the counts over all rows, and what was proven of the prompt."""

    rows: dict[str, list[Span]]
    tokenised: Tokenised
    prompt: str

    def summary(self) -> list[str]:
        """One line a count."""
        data, counts = self.tokenised, self.tokenised.counts
        share = data.supervised / data.tokens if data.tokens else 0.0
        return [
            f"{counted(len(data.examples), 'row')}, {counted(data.tokens, 'token')}, {data.supervised:,} ({share:.0%}) under the loss",
            *part_lines(data),
            f"cut: history of {counted(counts['history_cut'], 'row')}, input of {counts['input_cut']:,}, "
            f"answer of {counts['completion_cut']:,} (its end is not learned then)",
            f"dropped, because no answer token fits: {counts['dropped']:,}",
            f"rows where a token would have spanned prompt and answer: {counts['boundary_merge']:,} (tokenised apart)",
            *moved_lines(counts),
            self.prompt,
        ]


class ShownPair(NamedTuple):
    """A pair's two rows: the prompt, and what each goes on with. Where their prompts differ, each stands with its answer."""

    prompt: list[Span]
    chosen: list[Span]
    rejected: list[Span]


@dataclass(frozen=True, slots=True)
class PairPreview:
    """The shown pairs, by id, the counts over all pairs, and what was proven of the prompt."""

    pairs: dict[str, ShownPair]
    tokenised: TokenisedPairs
    prompt: str

    def summary(self) -> list[str]:
        """One line a count."""
        data, counts = self.tokenised, self.tokenised.counts
        share = data.supervised / data.tokens if data.tokens else 0.0
        lines = [
            f"{counted(len(data.examples), 'pair')}, {counted(data.tokens, 'token')}, {data.supervised:,} ({share:.0%}) in answers, under the loss"
        ]
        if data.examples:
            chosen, rejected = (
                sum(getattr(pair, side).supervised for pair in data.examples) / len(data.examples)
                for side in ("chosen", "rejected")
            )
            longer = sum(pair.chosen.supervised > pair.rejected.supervised for pair in data.examples)
            lines.append(
                f"chosen answers have {chosen:,.0f} tokens in the mean, rejected ones {rejected:,.0f}; the chosen one is longer in "
                f"{longer:,} of {len(data.examples):,}"
            )
        return [
            *lines,
            f"cut: history of {counted(counts['history_cut'], 'pair')}, input of {counts['input_cut']:,}, "
            f"answer of {counts['completion_cut']:,} (its end is not learned then)",
            f"dropped, because an answer has no room: {counts['dropped']:,}; because the answers are alike once they are "
            f"cut: {counts['alike_when_cut']:,}",
            *moved_lines(counts),
            self.prompt,
        ]


def preview_tokenizer(recipe: Recipe, records: Sequence[Record], base: Path | None = None) -> Any:
    """The tokenizer that the recipe trains with; a toy's is made from the rows, as the toy itself would be.

    Args:
        recipe: the recipe.
        records: the dataset's rows.
        base: folder of the base, in place of the recipe's.

    Raises:
        InputError: the base has no tokenizer, or cannot be had.
    """
    if recipe.base.is_toy and base is None:
        rows = split_heldout(records, recipe.data.holdout, recipe.data.holdout_seed).train
        tokenizer = recipe_tokenizer(recipe, rows)
    else:
        tokenizer = load_base_tokenizer(find_whole_model(base_location(recipe, base), recipe.base.revision))
    if recipe.base.new_tokens:
        add_tokens(tokenizer, Path(recipe.base.new_tokens))
    return tokenizer


def make_preview(recipe: Recipe, parts: Mapping[str, Sequence[Record]], tokenizer: Any, rows: int) -> Preview:
    """Tokenise the rows, by config, as training does, and decode the first of those to train on."""
    encoder = make_encoder(recipe.prompt, tokenizer, enable_thinking=recipe.enable_thinking)
    proof = prove(encoder)
    split, sizes = split_parts(parts.items(), recipe.data.holdout, recipe.data.holdout_seed)
    length = int(recipe.trainer.get("max_length") or 1024)
    calls = recipe.learn_tool_calls
    data = tokenise_parts(sizes, split.train, encoder, max_length=length, loss=recipe.loss, tool_calls=calls)
    return Preview(
        {row.id: list(spans(row, tokenizer)) for row in data.examples[:rows]}, data, proof.sentence(encoder.name)
    )


def make_pair_preview(recipe: Recipe, pairs: Sequence[Preference], tokenizer: Any, rows: int) -> PairPreview:
    """Tokenise the pairs as training does, and decode the first of those to train on."""
    encoder = make_encoder(recipe.prompt, tokenizer, enable_thinking=recipe.enable_thinking)
    proof = prove(encoder)
    split = split_pairs(pairs, recipe.data.holdout, recipe.data.holdout_seed)
    length = int(recipe.trainer.get("max_length") or 1024)
    data = tokenise_pairs(split.train, encoder, max_length=length)
    shown = {pair.id: _shown(pair, tokenizer) for pair in data.examples[:rows]}
    return PairPreview(shown, data, proof.sentence(encoder.name))


def _shown(pair: PairExample, tokenizer: Any) -> ShownPair:
    chosen, rejected = (list(spans(side, tokenizer)) for side in (pair.chosen, pair.rejected))
    if chosen[0] == rejected[0]:
        return ShownPair(chosen[:1], chosen[1:], rejected[1:])
    return ShownPair([], chosen, rejected)


def spans(example: Example, tokenizer: Any) -> Iterator[Span]:
    """The example's tokens, decoded in runs of equal mask; special tokens are shown."""
    start = 0
    learned = example.labels != IGNORED
    for end in range(1, len(learned) + 1):
        if end == len(learned) or learned[end] != learned[start]:
            text = tokenizer.decode(example.input_ids[start:end].tolist(), skip_special_tokens=False)
            yield Span(text, bool(learned[start]))
            start = end
