"""What a training learns from: the rows or the pairs of a dataset as tokens, those that are held out, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from kollm.core.counting import counted
from kollm.core.errors import InputError
from kollm.dataset.folder import training_parts
from kollm.dataset.preferences import read_preferences
from kollm.recipe.methods import METHODS
from kollm.recipe.schema import Recipe
from kollm.recipe.tokens import PromptEncoder
from kollm.train.data import conversations, moved_lines, part_lines, split_parts, tokenise, tokenise_parts
from kollm.train.pairs import split_pairs, tokenise_pairs, with_mismatched


class Material(NamedTuple):
    """The examples of one training.

    Attributes:
        examples: Example or PairExample.
        heldout: as many of the rows that are held out.
        lines: what is said of them before training.
        metrics: what metrics.json holds of them.
        questions: id -> question of the held-out rows that are answered while training.
    """

    examples: Sequence[Any]
    heldout: Sequence[Any]
    lines: list[str]
    metrics: dict[str, Any]
    questions: dict[str, str]


def material(recipe: Recipe, dataset: str, encoder: PromptEncoder, max_length: int) -> Material:
    """Read, divide and tokenise a dataset, as the recipe's method takes it.

    Raises:
        InputError: it holds nothing that the method can learn from.
    """
    return (_rows if recipe.method == "sft" else _pairs)(recipe, dataset, encoder, max_length)


def _rows(recipe: Recipe, dataset: str, encoder: PromptEncoder, max_length: int) -> Material:
    split, parts = split_parts(training_parts(dataset), recipe.data.holdout, recipe.data.holdout_seed)
    calls = recipe.learn_tool_calls
    rows = tokenise_parts(parts, split.train, encoder, max_length=max_length, loss=recipe.loss, tool_calls=calls)
    if not rows.examples and rows.counts["calls_alone"]:
        raise InputError(
            f"Nothing of the {counted(len(split.train), 'row')} of '{dataset}' is learned: {counted(rows.counts['calls_alone'], 'has', 'have')} calls of tools as their "
            "only answers - add learn_tool_calls: true to the recipe."
        )
    if not rows.examples:
        raise InputError(
            f"None of the {counted(len(split.train), 'row')} of '{dataset}' has room for an answer in {max_length} tokens - "
            "raise trainer.max_length."
        )
    heldout = tokenise(split.heldout, encoder, max_length=max_length, tool_calls=calls)
    cut, dropped = rows.counts["completion_cut"], rows.counts["dropped"]
    asked = {example.id for example in heldout.examples[: recipe.generation.during_training]}
    return Material(
        rows.examples,
        heldout.examples,
        [
            *moved_lines(rows.counts),
            f"{counted(len(rows.examples), 'row')}, {counted(rows.tokens, 'token')}, {rows.supervised:,} of them with loss",
            *(
                [
                    f"{counted(cut, 'row has', 'rows have')} an answer that was cut, {dropped:,} were left out for want of room"
                ]
                if cut or dropped
                else []
            ),
            *part_lines(rows),
        ],
        {
            "rows": {"train": len(rows.examples), "heldout": len(heldout.examples), **rows.counts},
            "tokens": {"total": rows.tokens, "supervised": rows.supervised},
            "shares": {name: share._asdict() for name, share in rows.shares.items()},
            "heldout_conversations": conversations(split.heldout),
        },
        {row.id: row.instruction for row in split.heldout if row.id in asked},
    )


def _pairs(recipe: Recipe, dataset: str, encoder: PromptEncoder, max_length: int) -> Material:
    split = split_pairs(read_preferences(dataset, "train"), recipe.data.holdout, recipe.data.holdout_seed)
    train = tokenise_pairs(split.train, encoder, max_length=max_length)
    if not train.examples:
        raise InputError(
            f"None of the {counted(len(split.train), 'pair')} of '{dataset}' has room for its answers in {max_length} tokens - raise "
            "trainer.max_length."
        )
    heldout = tokenise_pairs(split.heldout, encoder, max_length=max_length)
    if METHODS[recipe.method].diverges:
        train.examples = with_mismatched(train.examples, max_length)
        heldout.examples = with_mismatched(heldout.examples, max_length) if heldout.examples else []
    cut = train.counts["completion_cut"]
    dropped = train.counts["dropped"] + train.counts["alike_when_cut"]
    asked = {example.id for example in heldout.examples[: recipe.generation.during_training]}
    return Material(
        train.examples,
        heldout.examples,
        [
            *moved_lines(train.counts),
            f"{counted(len(train.examples), 'pair')}, {counted(train.tokens, 'token')}, {train.supervised:,} of them in answers",
            *(
                [f"{counted(cut, 'pair has', 'pairs have')} an answer that was cut, {dropped:,} were left out"]
                if cut or dropped
                else []
            ),
        ],
        {
            "rows": {"train": len(train.examples), "heldout": len(heldout.examples), **train.counts},
            "tokens": {"total": train.tokens, "supervised": train.supervised},
            "heldout_conversations": len({pair.provenance.task or pair.id for pair in split.heldout}),
        },
        {pair.id: pair.instruction for pair in split.heldout if pair.id in asked},
    )
