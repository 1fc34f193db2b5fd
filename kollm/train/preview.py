"""Training rows as the model sees them: decoded, with the loss mask shown, and what was cut or dropped counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kollm.core.records import Record
from kollm.recipe.schema import Recipe
from kollm.services.local_model import find_whole_model
from kollm.train.check import base_location
from kollm.train.data import IGNORED, Example, Tokenised, part_lines, split_heldout, split_parts, tokenise_parts
from kollm.train.model import add_tokens, load_base_tokenizer
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
            f"{len(data.examples):,} rows, {data.tokens:,} tokens, {data.supervised:,} ({share:.0%}) under the loss",
            *part_lines(data),
            f"cut: history of {counts['history_cut']:,} rows, input of {counts['input_cut']:,}, "
            f"answer of {counts['completion_cut']:,} (EOS kept)",
            f"dropped, because no answer token fits: {counts['dropped']:,}",
            f"rows where a token would have spanned prompt and answer: {counts['boundary_merge']:,} (tokenised apart)",
            *data.moved(),
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


def spans(example: Example, tokenizer: Any) -> Iterator[Span]:
    """The example's tokens, decoded in runs of equal mask; special tokens are shown."""
    start = 0
    learned = example.labels != IGNORED
    for end in range(1, len(learned) + 1):
        if end == len(learned) or learned[end] != learned[start]:
            text = tokenizer.decode(example.input_ids[start:end].tolist(), skip_special_tokens=False)
            yield Span(text, bool(learned[start]))
            start = end
