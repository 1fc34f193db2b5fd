"""What `kollm data pairs` would make, before anything is written or sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from kollm.core.counting import counted
from kollm.dataset.pairs.choosing import REASONS
from kollm.dataset.pairs.length import length_bias
from kollm.dataset.pairs.make import gather
from kollm.dataset.pairs.settings import PairSettings
from kollm.dataset.pairs.translation import PairTranslation, count_characters
from kollm.recipe.engines import engine_facts


def plan_pairs(inputs: Sequence[str | Path], settings: PairSettings, translation: PairTranslation) -> Iterator[str]:
    """Lines for people: pairs, what makes none, length, and the cost of their translation.

    Raises:
        InputError: an input that cannot be used, or an evaluation task among the prompts.
    """
    made = gather(inputs, settings)
    yield f"{counted(len(made.pairs), 'pair')} would be made."
    for reason, count in sorted(made.left_out.items()):
        yield f"no pair, {REASONS.get(reason, reason)}: {count:,}"
    if made.pairs:
        yield f"length: {length_bias(made.pairs).sentence()}"
    facts = engine_facts(translation.engine)
    if facts is None:
        return
    characters = count_characters(made.pairs)
    cost = "unknown: the service bills tokens" if facts.price is None else f"USD {characters * facts.price / 1e6:,.2f}"
    yield f"{counted(characters, 'character')} would be translated by {translation.engine}; cost: {cost}."
