"""Exact and near duplicates, and what is none."""

from __future__ import annotations

import random

import numpy as np
import pytest

from kollm.core.records import Record
from kollm.quality.dedup import exact_hashes, find_duplicates, prints, similarity

TEXT = (
    "The ferry to the island leaves at nine in the morning and takes about forty minutes; bring warm clothes, "
    "since the deck is windy even in June, and buy the ticket for the way back at the harbour before you sail."
)


def _first(texts: list[str], near: float = 0.8) -> tuple[list[int], list[int]]:
    """Of each text the number of the one that it repeats, and of the one that it is nearly the same as; -1 for none."""
    found = find_duplicates([prints(texts)], near)
    result = []
    for repeats in found:
        first = np.full(len(texts), -1)
        first[repeats.row] = repeats.first
        result.append(first.tolist())
    return result[0], result[1]


def test_the_first_of_equal_texts_stays_whatever_their_white_space() -> None:
    exact, near = _first(["a b c d e f", TEXT, "a  b c\nd e f ", TEXT, "A b c d e f"])
    assert exact == [-1, -1, 0, 1, -1]
    assert near == [-1, -1, -1, -1, 0]


def test_one_word_changed_is_a_near_duplicate_and_half_a_text_is_none() -> None:
    exact, near = _first([TEXT, TEXT.replace("forty", "fifty"), TEXT[: len(TEXT) // 2], "Something else altogether."])
    assert exact == [-1, -1, -1, -1]
    assert near == [-1, 0, -1, -1]


def test_signs_count() -> None:
    assert _first(["Compute 3 + 4 now.", "Compute 3 - 4 now."]) == ([-1, -1], [-1, -1])


def test_near_duplicates_can_be_left_alone() -> None:
    assert _first([TEXT, TEXT.replace("forty", "fifty"), TEXT], near=1.01) == ([-1, -1, 0], [-1, -1, -1])


def test_short_and_empty_texts_are_exact_duplicates_only() -> None:
    assert _first(["", "ab", "", "ab", "ba"]) == ([-1, -1, 0, 1, -1], [-1] * 5)


def test_texts_beside_different_things_are_no_duplicates() -> None:
    beside = ["", "a", "b", "a", "a", ""]
    near = TEXT.replace("forty", "fifty")
    found = find_duplicates([prints([TEXT, TEXT, TEXT, TEXT, near, near], beside)])
    assert (found.exact.row.tolist(), found.exact.first.tolist()) == ([3], [1])
    assert (found.near.row.tolist(), found.near.first.tolist()) == ([4, 5], [1, 0])
    assert exact_hashes([TEXT, TEXT], ["", "a"])[0] == exact_hashes([TEXT])[0] != exact_hashes([TEXT], ["a"])[0]


def test_batches_make_no_difference() -> None:
    texts = [TEXT, "x y z w v u", TEXT.upper(), TEXT]
    whole, parts = find_duplicates([prints(texts)]), find_duplicates([prints(texts[:1]), prints(texts[1:])])
    assert len(whole.exact.row) == len(whole.near.row) == 1
    for one, other in zip(whole, parts, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, -0.05, 0.05), (0.5, 0.2, 0.5), (1.0, 1.0, 1.0)])
def test_the_estimate_follows_the_overlap(share: float, low: float, high: float) -> None:
    generator = random.Random(1)
    words = ["".join(generator.choices("abcdefghijklmnop", k=8)) for _ in range(400)]
    cut = int(200 * share)
    texts = [" ".join(words[:200]), " ".join(words[:cut] + words[200 : 400 - cut])]
    found = prints(texts)
    value = similarity(found.signatures[:1], found.signatures[1:])[0]
    assert low <= value <= high


def test_recall_on_planted_near_duplicates() -> None:
    generator = random.Random(2)
    words = ["".join(generator.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(3000)]
    rows = [generator.choices(words, k=60) for _ in range(300)]
    changed = [[*row[:30], "changed", *row[31:]] for row in rows]
    _, near = _first([" ".join(row) for row in (*rows, *changed)])
    assert near == [-1] * 300 + list(range(300))


def test_all_turns_belong_to_a_record() -> None:
    record = Record("x", "s", "c", "i", "d", history=(("a", "b"),))
    assert record.whole_text() == "a\nb\nc\ni\nd"
