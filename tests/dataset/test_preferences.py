"""The config `preferences` of a dataset folder: its own schema, read back whole, by `load_dataset` too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kollm.core.errors import InputError
from kollm.core.preferences import PairOriginal, PairProvenance, Preference
from kollm.dataset.folder import PREFERENCES, DatasetWriter, Part, read_records
from kollm.dataset.preferences import preference_table, read_preferences

PAIRS = [
    Preference("p-1", "own", "인사해 줘", "", "안녕하세요.", "뭐", provenance=PairProvenance(margin=1.0, verdicts=2)),
    Preference(
        "p-2", "own", "몇 시야?", "", "세 시입니다.", "몰라", (("가", "나"),), original=PairOriginal("a", "", "b", "c")
    ),
]


def write(folder: Path, train: list[Preference], test: list[Preference] | None = None) -> Path:
    with DatasetWriter(folder) as writer:
        writer.write(Part(PREFERENCES, "train"), preference_table(train))
        writer.write(Part(PREFERENCES, "test"), preference_table(test or []))
        return writer.publish({}, "card")


def test_preferences_come_back(tmp_path: Path) -> None:
    folder = write(tmp_path / "prefs", PAIRS[:1], PAIRS[1:])
    assert list(read_preferences(folder)) == [PAIRS[1], PAIRS[0]]
    assert list(read_preferences(folder, split="train")) == PAIRS[:1]


def test_each_kind_of_dataset_says_what_the_other_is_for(tmp_path: Path) -> None:
    folder = write(tmp_path / "prefs", PAIRS)
    with pytest.raises(InputError, match="holds preferences, two answers to each prompt"):
        list(read_records(folder))
    with pytest.raises(InputError, match="holds no preferences of the split 'test', it has preferences/train"):
        list(read_preferences(folder, split="test"))


def test_a_pair_that_teaches_nothing_is_refused_when_it_is_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "prefs", [replace(PAIRS[0], rejected="안녕하세요.")])
    with pytest.raises(InputError, match="chosen and rejected are equal"):
        list(read_preferences(folder))
