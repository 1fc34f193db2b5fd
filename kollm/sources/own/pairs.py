"""Preference pairs of a user's own: rows with a prompt, a chosen and a rejected answer, each text or a list of messages.

own = read_own_pairs("pairs.jsonl")
pairs = list(own)            # Preferences; what cannot be used is counted in own.rows.counts
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kollm.core.errors import InputError
from kollm.core.preferences import PairProvenance, Preference
from kollm.core.records import Record
from kollm.core.text import normalise
from kollm.sources.own.conversation import turn_text
from kollm.sources.own.forms import Form, as_turns
from kollm.sources.own.row import canonical_row
from kollm.sources.own.source import OwnOptions, OwnRows, read_own
from kollm.sources.own.unreadable import UnreadableError
from kollm.sources.source import Place, Row, adapt_row

_SCORES = {
    "chosen": ("chosen_score", "score_chosen", "chosen-rating", "chosen_rating", "chosen_avg_rating", "rating_chosen"),
    "rejected": (
        "rejected_score", "score_rejected", "rejected-rating", "rejected_rating", "rejected_avg_rating", "rating_rejected",
    ),
}  # fmt: skip
"""Columns in which published sets keep the scores of the two answers."""
_SYSTEMS = {"chosen": ("chosen_model", "chosen-model"), "rejected": ("rejected_model", "rejected-model")}
PROMPTS_DIFFER = "prompt_is_none_of_the_pair"


@dataclass(slots=True)
class OwnPairs:
    """An open input of pairs; its counts stand in `rows`, as those of other rows of a user's own."""

    rows: OwnRows
    limit: int | None = None

    def __iter__(self) -> Iterator[Preference]:
        """The pairs that can be used, each with an id of its own.

        Raises:
            InputError: a file is malformed, or changes its form.
        """
        own = self.rows
        taken: set[str] = set()
        place = Place(own.options.name, own.options.licence, own.lang, own.revision)
        for index, (row, reason) in enumerate(own.raw(self.limit)):
            try:
                if reason:
                    raise UnreadableError(reason)
                pair = self._pair(row, place.at(index))
            except UnreadableError as error:
                own.counts[f"left out: {error}"] += 1
                continue
            number, name = 1, pair.id
            while name in taken:
                number += 1
                name = f"{pair.id}-{number}"
            taken.add(name)
            yield replace(pair, id=name)

    def _pair(self, row: Mapping[str, Any], place: Place) -> Preference:
        form = self.rows.form
        chosen = self._record(row, form, place)
        turned = replace(form, columns={**form.columns, "chosen": form.columns["rejected"]})
        rejected = self._record(row, turned, place)
        _require_one_prompt(row, form, chosen, rejected)
        scores = {side: _number(row, names) for side, names in _SCORES.items()}
        systems = {side: _name(row, names) for side, names in _SYSTEMS.items()}
        a, b = scores["chosen"], scores["rejected"]
        pair = Preference(
            id=chosen.id,
            source=chosen.source,
            instruction=chosen.instruction,
            input=chosen.input,
            history=chosen.history,
            system=chosen.system,
            tools=chosen.tools,
            chosen=chosen.output,
            rejected=rejected.output,
            lang=chosen.lang,
            licence=chosen.licence,
            provenance=PairProvenance(
                task=chosen.id,
                chosen_system=systems["chosen"],
                rejected_system=systems["rejected"],
                chosen_score=a,
                rejected_score=b,
                margin=None if a is None or b is None else round(a - b, 6),
                revision=place.revision,
            ),
        ).normalised()
        if (why := pair.fault()) is not None:
            raise UnreadableError(why.replace(" ", "_"))
        return pair

    def _record(self, row: Mapping[str, Any], form: Form, place: Place) -> Record:
        adapted = adapt_row(self.rows.source(), canonical_row(row, form, asked=False), place)
        if adapted.rejected:
            raise UnreadableError(adapted.rejected[0].reason)
        return adapted.records[0]


def read_own_pairs(input: str | Path, options: OwnOptions | None = None, limit: int | None = None) -> OwnPairs:
    """Open pairs of a user's own; `limit` reads the first rows alone.

    Raises:
        InputError: as `read_own`, or the rows are no pairs.
        ServiceError: the Hub cannot be reached.
    """
    rows = read_own(input, options)
    if rows.form.kind != "pairs":
        raise InputError(
            f"The rows of '{rows.where}' are {rows.form.title}, not pairs - give rows with a prompt, a chosen and a rejected "
            "answer, or say which columns hold them: --map instruction=COLUMN --map chosen=COLUMN --map rejected=COLUMN."
        )
    return OwnPairs(replace(rows, form=replace(rows.form, title="preference pairs")), limit)


def _require_one_prompt(row: Mapping[str, Any], form: Form, chosen: Record, rejected: Record) -> None:
    """Refuse a pair whose answers answer different questions, or another question than its prompt says."""
    sides = [(item.system, item.history, item.instruction, item.input) for item in (chosen, rejected)]
    prompt = row.get(form.columns["instruction"]) if "instruction" in form.columns else None
    written = turn_text(prompt) if isinstance(prompt, str) and as_turns(prompt) is None else None
    asked = {text.strip() for text in (chosen.instruction, *(user for user, _ in chosen.history))}
    if sides[0] != sides[1] or (written is not None and written.strip() and normalise(written).strip() not in asked):
        raise UnreadableError(PROMPTS_DIFFER)


def _number(row: Row, names: tuple[str, ...]) -> float | None:
    value = next((row[name] for name in names if name in row), None)
    return (
        float(value) if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e9 else None
    )


def _name(row: Row, names: tuple[str, ...]) -> str:
    value = next((row[name] for name in names if name in row), None)
    return value if isinstance(value, str) and len(value) <= 200 and value.isprintable() else ""
