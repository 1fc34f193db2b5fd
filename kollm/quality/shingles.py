"""Character n-grams of many texts at once, as 64-bit hashes; numpy does the work for a whole batch.

Characters rather than words, since Korean particles and spacing vary where the wording is the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint32]
Hashes = npt.NDArray[np.uint64]
Offsets = npt.NDArray[np.int64]

TOGETHER = 60
"""Texts hashed at once: their arrays stay in the processor's cache, and numpy's calls cost little beside them."""
SPACE = 32
PLANE = 0x10000


class Folded(NamedTuple):
    """Normalised texts end to end: code points, and where each text starts (one more entry than texts)."""

    codes: Codes
    offsets: Offsets


class Grams(NamedTuple):
    """Hashes of the n-grams of many texts end to end, and where those of each text start."""

    hashes: Hashes
    offsets: Offsets


def fold_spaces(texts: Sequence[str]) -> Folded:
    """Every run of white space one space; punctuation and case stay."""
    codes, offsets = _codes(texts)
    folded = _apply(_space_table(), codes)
    space = folded == SPACE
    once = np.ones(len(folded), dtype=bool)
    once[1:] = ~(space[1:] & space[:-1])
    return _select(folded, offsets, once)


def lower(folded: Folded) -> Folded:
    """Lower case."""
    return folded._replace(codes=_apply(_lower_table(), folded.codes))


def fold_letters(texts: Sequence[str]) -> Folded:
    """Lower-case letters and digits alone, so that spacing, punctuation and mark-up make no difference."""
    codes, offsets = _codes(texts)
    folded = _apply(_letter_table(), codes)
    return _select(folded, offsets, folded != 0)


def grams(folded: Folded, size: int) -> Grams:
    """Hashes of all n-grams of `size` characters; a text shorter than that has none."""
    codes, offsets = folded
    counts = np.maximum(np.diff(offsets) - size + 1, 0)
    whole = np.ones(max(len(codes) - size + 1, 0), dtype=bool)
    for distance in range(1, size):  # a window that begins so close to its text's end reaches into the next one
        crossing = offsets[1:] - distance
        whole[crossing[(crossing >= 0) & (crossing < len(whole))]] = False
    return Grams(mix(windows(codes, size)[whole]), _offsets(counts))


def mix(values: Hashes) -> Hashes:
    """Spread the bits of 64-bit values (the finalizer of SplitMix64, Steele et al. 2014)."""
    values = values ^ (values >> np.uint64(30))
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def unmix(hashes: Hashes) -> Hashes:
    """The values that `mix` made hashes of."""
    values = hashes ^ (hashes >> np.uint64(31)) ^ (hashes >> np.uint64(62))
    values *= np.uint64(0x319642B2D24D8EC3)  # the inverse of the factor there
    values = values ^ (values >> np.uint64(27)) ^ (values >> np.uint64(54))
    values *= np.uint64(0x96DE1B173F119089)
    result: Hashes = values ^ (values >> np.uint64(30)) ^ (values >> np.uint64(60))
    return result


def windows(codes: Codes, size: int) -> Hashes:
    """A number for each window of `size` characters, those that reach from one text into the next too; `mix` makes a hash of it.

    It is linear in the characters, with unrelated odd factors.
    """
    return _windows(codes.astype(np.uint64), size)


def _windows(values: Hashes, size: int) -> Hashes:
    """Built from windows of half the size: log2(size) passes, not size."""
    if len(values) < size:
        return values[:0]
    if size == 1:
        return values * _factor(1)
    half = size // 2
    short = _windows(values, half)
    joined = short[: len(values) - 2 * half + 1] * _factor(2 * size)
    joined += short[half : len(values) - half + 1]
    if size % 2:
        joined = joined[: len(values) - size + 1]
        joined *= _factor(2 * size + 1)
        joined += values[size - 1 :]
    return joined


@functools.cache
def _factor(number: int) -> np.uint64:
    """An odd number of well mixed bits for each number from 1 on."""
    return np.uint64(int(mix(np.array([number], dtype=np.uint64))[0]) | 1)


def _codes(texts: Sequence[str]) -> tuple[Codes, Offsets]:
    joined = "".join(texts).encode("utf-32-le", "surrogatepass")
    lengths = np.fromiter((len(text) for text in texts), dtype=np.int64, count=len(texts))
    return np.frombuffer(joined, dtype=np.uint32), _offsets(lengths)


def _offsets(lengths: npt.NDArray[np.int64]) -> Offsets:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _apply(table: Codes, codes: Codes) -> Codes:
    """Look code points up in a table of the basic plane; those above it (emoji, rare signs) stay as they are."""
    if len(codes) == 0 or int(codes.max()) < PLANE:
        return table.take(codes)
    return np.where(codes < PLANE, table.take(np.minimum(codes, PLANE - 1)), codes)


def _select(codes: Codes, offsets: Offsets, keep: npt.NDArray[np.bool_]) -> Folded:
    kept_before = np.zeros(len(codes) + 1, dtype=np.int32)
    np.cumsum(keep, out=kept_before[1:])
    return Folded(codes.compress(keep), kept_before[offsets].astype(np.int64))


@functools.cache
def _space_table() -> Codes:
    return _table(lambda character: SPACE if character.isspace() else ord(character))


@functools.cache
def _lower_table() -> Codes:
    return _table(lambda character: ord(_lower(character)))


@functools.cache
def _letter_table() -> Codes:
    return _table(lambda character: ord(_lower(character)) if character.isalnum() else 0)


def _table(fold: Callable[[str], int]) -> Codes:
    return np.fromiter((fold(chr(code)) for code in range(PLANE)), dtype=np.uint32, count=PLANE)


def _lower(character: str) -> str:
    lower = character.lower()
    return lower if len(lower) == 1 else character
