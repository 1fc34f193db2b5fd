"""English pairs become Korean ones: prompt and both answers as one document, so that the two stay comparable.

The way is that of other rows: masked, through the ledger, paid once. What cannot be translated, or would lose its meaning,
is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from kollm.core.errors import InputError
from kollm.core.preferences import PairOriginal, Preference
from kollm.core.progress import Progress
from kollm.core.records import Record
from kollm.quality.privacy import screen
from kollm.recipe.engines import ENGINES, NONE, engine_facts
from kollm.services.budget import Budget
from kollm.services.ledger import Ledger
from kollm.translate import Decision, Router, Translator, make_translator, translate_stream
from kollm.translate.engines import model_options

PERSONAL = "personal_data_masked"


@dataclass(frozen=True, slots=True)
class PairTranslation:
    """By which engine, and within what bounds.

    Attributes:
        engine: one of ENGINES but `memory`, or `none`.
        model: of the engine, where it has a choice.
        max_characters, max_cost: caps.
        translator: an engine that is made already; None to make it by name.
        ledger: None for the default ledger.
    """

    engine: str = NONE
    model: str | None = None
    max_characters: int | None = None
    max_cost: float | None = None
    translator: Translator | None = None
    ledger: Ledger | None = field(default=None)

    def __post_init__(self) -> None:
        if self.translator is None and engine_facts(self.engine) is not None and self.engine == "memory":
            raise InputError("The memory translator knows rows, not pairs - use another --translator, or none.")

    @property
    def terms(self) -> str:
        """What a card says of its output."""
        facts = ENGINES.get(self.engine)
        return facts.terms if facts else ""

    def made(self) -> Translator:
        return self.translator or make_translator(self.engine, **model_options(self.engine, self.model))


class TranslatedPairs(NamedTuple):
    """Pairs, the characters billed for them, and why pairs were left out."""

    pairs: list[Preference]
    characters: int
    left_out: Counter[str]


def count_characters(pairs: Iterable[Preference]) -> int:
    """Characters of the pairs that would be translated, about: code and formulas are not sent."""
    return sum(len(text) for pair in pairs if pair.lang != "ko" for text in _as_record(pair).texts().values())


def translate_pairs(pairs: Sequence[Preference], translation: PairTranslation) -> TranslatedPairs:
    """Translate the pairs that are not Korean; the others stay as they are, and all stay in their order.

    Personal data are masked before any text leaves this machine.

    Raises:
        QuotaError, ServiceError: as `translate_stream` raises them; what was answered is in the ledger.
    """
    left_out: Counter[str] = Counter()
    budget = Budget(translation.max_characters, translation.max_cost)
    foreign = [pair for pair in pairs if pair.lang != "ko"]
    if not foreign:
        return TranslatedPairs(list(pairs), 0, left_out)
    translator = translation.made()
    records = (screen(_as_record(pair)).record for pair in foreign)
    outcomes = translate_stream(records, translator, ledger=translation.ledger, budget=budget, router=_PairRouter())
    done: dict[str, Preference] = {}
    characters = 0
    with Progress("translate pairs", len(foreign)) as progress:
        for pair, outcome in zip(foreign, outcomes, strict=True):
            progress.advance()
            characters += outcome.record.provenance.characters
            if outcome.reason is not None:
                left_out[outcome.reason.partition(":")[0]] += 1
                continue
            changed = _as_pair(pair, outcome.record, translator.name)
            if (why := changed.fault()) is not None:
                left_out[why.replace(" ", "_")] += 1
                continue
            done[pair.id] = changed
    return TranslatedPairs(list(_in_order(pairs, done)), characters, left_out)


def _in_order(pairs: Iterable[Preference], done: dict[str, Preference]) -> Iterator[Preference]:
    for pair in pairs:
        if pair.lang == "ko":
            yield pair
        elif pair.id in done:
            yield done[pair.id]


def _as_record(pair: Preference) -> Record:
    """A pair as one row: its question and input as a last turn of the history, then the two answers."""
    return Record(
        id=pair.id,
        source=pair.source,
        instruction=pair.chosen,
        input="",
        output=pair.rejected,
        history=(*pair.history, (pair.instruction, pair.input)),
        system=pair.system,
        tools=pair.tools,
        lang=pair.lang,
        licence=pair.licence,
    )


def _as_pair(pair: Preference, record: Record, engine: str) -> Preference:
    *history, (instruction, input) = record.history
    masked = record.original or record.as_original()
    *turns, (question, context) = masked.history
    return replace(
        pair,
        instruction=instruction,
        input=input,
        history=tuple(history),
        system=record.system,
        chosen=record.instruction,
        rejected=record.output,
        lang="ko",
        provenance=replace(pair.provenance, engine=engine, characters=record.provenance.characters),
        original=PairOriginal(question, context, masked.instruction, masked.output, tuple(turns), masked.system),
    ).normalised()


class _PairRouter(Router):
    """Leaves out the pairs whose question loses its meaning in translation; nothing of a pair is answered anew."""

    def decide(self, record: Record) -> Decision:
        *history, (question, context) = record.history
        asked = replace(record, instruction=question, input=context, history=tuple(history))
        found = super().decide(asked)
        if found.route == "translate":
            return found
        return Decision("drop", frozenset(), found.reason or found.rule, found.rule)
