"""Preferences: texts as kollm holds them, and pairs that nothing can be learned from."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import replace

import pytest

from kollm.core.errors import InputError
from kollm.core.preferences import PairOriginal, PairProvenance, Preference

PAIR = Preference("own-1", "own", "인사해 줘", "", "안녕하세요.", "뭐")


def test_a_row_gives_the_pair_back() -> None:
    pair = replace(
        PAIR,
        history=(("가", "나"),),
        provenance=PairProvenance(
            task="t", chosen_score=4.0, margin=1.5, agreement=None, verdicts=2, origin="verdicts"
        ),
        original=PairOriginal("Greet me", "", "Hello.", "What", (("a", "b"),)),
    )
    assert Preference.from_row(json.loads(json.dumps(pair.to_row()))) == pair


def test_texts_are_normalised() -> None:
    pair = replace(
        PAIR, chosen=unicodedata.normalize("NFD", "안녕\r\n"), history=(("\ufeff가", "\ud800"),)
    ).normalised()
    assert pair.chosen == "안녕\n"
    assert pair.history == (("가", "\ufffd"),) or pair.history == (("가", ""),)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"rejected": " 안녕하세요. "}, "chosen and rejected are equal"),
        ({"chosen": "\u200b"}, "the chosen answer is empty"),
        ({"rejected": ""}, "the rejected answer is empty"),
        ({"instruction": " "}, "it has no prompt"),
    ],
)
def test_a_pair_that_teaches_nothing_is_refused(changes: dict[str, str], why: str) -> None:
    with pytest.raises(InputError, match=f"pairs.jsonl, row 3: the pair 'own-1' cannot be used, {why}"):
        replace(PAIR, **changes).require_sound("pairs.jsonl, row 3")


@pytest.mark.parametrize("change", [{"chosen": 3}, {"unknown": 1}, {"provenance": {"origin": "oracle"}}])
def test_another_row_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match="it is no preference of kollm's"):
        Preference.from_row({**PAIR.to_row(), **change})
