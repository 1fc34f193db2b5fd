"""Training rows as the model sees them: decoded, with the loss mask shown, and what was cut or dropped counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from kollm.prompts import PromptTemplate
from kollm.recipe import Recipe
from kollm.records import Record
from kollm.train.data import IGNORED, Example, Tokenised, split_heldout, tokenise


class Span(NamedTuple):
    """A decoded stretch of tokens that are all under the loss, or all not."""

    text: str
    learned: bool


@dataclass(frozen=True, slots=True)
class Preview:
    """The shown rows' spans, by row id, and the counts over all rows."""

    rows: dict[str, list[Span]]
    tokenised: Tokenised

    def summary(self) -> list[str]:
        """One line a count."""
        data, counts = self.tokenised, self.tokenised.counts
        share = data.supervised / data.tokens if data.tokens else 0.0
        return [
            f"{len(data.examples):,} rows, {data.tokens:,} tokens, {data.supervised:,} ({share:.0%}) under the loss",
            f"cut: history of {counts['history_cut']:,} rows, input of {counts['input_cut']:,}, "
            f"answer of {counts['completion_cut']:,} (EOS kept)",
            f"dropped, because no answer token fits: {counts['dropped']:,}",
            f"rows where a token would have spanned prompt and answer: {counts['boundary_merge']:,} (tokenised apart)",
        ]


def make_preview(recipe: Recipe, records: Sequence[Record], tokenizer: Any, rows: int) -> Preview:
    """Tokenise as training does, and decode the first rows of the training share."""
    template = PromptTemplate.load(recipe.prompt)
    split = split_heldout(records, recipe.data.holdout, recipe.data.holdout_seed)
    length = int(recipe.trainer.get("max_length") or 1024)
    data = tokenise(split.train, template, tokenizer, max_length=length, loss=recipe.loss)
    return Preview({row.id: list(spans(row, tokenizer)) for row in data.examples[:rows]}, data)


def spans(example: Example, tokenizer: Any) -> Iterator[Span]:
    """The example's tokens, decoded in runs of equal mask; special tokens are shown."""
    start = 0
    learned = example.labels != IGNORED
    for end in range(1, len(learned) + 1):
        if end == len(learned) or learned[end] != learned[start]:
            text = tokenizer.decode(example.input_ids[start:end].tolist(), skip_special_tokens=False)
            yield Span(text, bool(learned[start]))
            start = end
