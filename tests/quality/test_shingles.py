"""Character n-grams of a batch against the plain definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kollm.quality.shingles import fold_letters, fold_spaces, grams, lower, mix, unmix

TEXTS = st.lists(st.text(st.sampled_from("abAB가나 \n\t-3😀é"), max_size=30), max_size=8)


@example(["33", "33", "3333"], 10)
@given(TEXTS, st.sampled_from([1, 2, 3, 5, 7, 10]))
def test_grams_are_those_of_each_text_alone(texts: list[str], size: int) -> None:
    folded = fold_spaces(texts)
    found = grams(folded, size)
    seen: dict[bytes, int] = {}
    for number in range(len(texts)):
        codes = folded.codes[folded.offsets[number] : folded.offsets[number + 1]]
        hashes = found.hashes[found.offsets[number] : found.offsets[number + 1]]
        assert len(hashes) == max(len(codes) - size + 1, 0)
        for start, value in enumerate(hashes):
            assert seen.setdefault(bytes(codes[start : start + size]), int(value)) == int(value)
    assert len(set(seen.values())) == len(seen)


@pytest.mark.parametrize("size", [2, 3, 5, 10])
def test_neighbouring_characters_do_not_collide(size: int) -> None:
    letters = "".join("".join(word) for word in itertools.product("abcdefgh", repeat=5))
    folded = fold_spaces([letters])
    distinct = {bytes(folded.codes[start : start + size]) for start in range(len(folded.codes) - size + 1)}
    assert len(np.unique(grams(folded, size).hashes)) == len(distinct)


def test_folding() -> None:
    def text(codes: np.ndarray) -> str:
        return "".join(map(chr, codes))

    assert text(fold_spaces(["A  b\n\tC", "3+4 ≠ 3-4"]).codes) == "A b C3+4 ≠ 3-4"
    assert text(lower(fold_spaces(["A  b\n\tC", "😀É"])).codes) == "a b c😀é"
    assert text(fold_letters(["A, b!", "다음 문장을 3번 😀"]).codes) == "ab다음문장을3번😀"
    assert list(fold_letters(["a b", "", "c"]).offsets) == [0, 2, 2, 3]


@given(st.lists(st.integers(0, 2**64 - 1), max_size=9))
def test_a_hash_tells_what_it_was_made_of(values: list[int]) -> None:
    given = np.array(values, dtype=np.uint64)
    assert np.array_equal(unmix(mix(given)), given)
