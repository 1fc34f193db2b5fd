"""Duplicates: rows whose text is the same, and rows whose text is nearly the same.

A text is nearly the same as another when the estimated Jaccard similarity of their character 5-grams is at least
NEAR. The estimate comes from MinHash (Broder 1997; rensa's implementation); candidates share one of 16 bands of 8
hashes (Leskovec et al., Mining of Massive Datasets, 3.4), which finds a pair of similarity .8 with .95 and one of
.85 with .99. The first row of a group stays. Rows are told by numbers, so that the same functions serve a few rows and one bucket
of many millions (see dataset/repeats.py). Rows with different tools are never duplicates: what is right to answer may differ.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kollm.core.errors import MissingExtraError
from kollm.quality.shingles import PLANE, SPACE, TOGETHER, Folded, Hashes, fold_spaces, grams, lower, mix

NEAR = 0.8
GRAM = 5
PERMUTATIONS = 128
BANDS = 16
SEED = 42
_BYTE = 1 / 256
"""Chance that the last bytes of two different hashes agree, which the estimate takes off again (Li and König 2010)."""
_PAIRS = 1 << 16
"""Pairs compared together."""

Signatures = npt.NDArray[np.uint8]
Buckets = npt.NDArray[np.uint32]
Numbers = npt.NDArray[np.int64]


class Prints(NamedTuple):
    """What is kept of texts to find duplicates among them; one entry a text.

    Attributes:
        exact: hash of the text, white space folded.
        buckets: hash of each band; (texts, BANDS).
        signatures: last byte of each MinHash; (texts, PERMUTATIONS).
        sketched: whether the text has a 5-gram at all; without one it can only be an exact duplicate.
    """

    exact: Hashes
    buckets: Buckets
    signatures: Signatures
    sketched: npt.NDArray[np.bool_]


class Repeats(NamedTuple):
    """Rows that repeat an earlier one.

    Attributes:
        row: number of the row; ascending.
        first: number of the row that it repeats.
        rank: among several candidates the one of the lowest rank counts.
    """

    row: Numbers
    first: Numbers
    rank: npt.NDArray[np.uint8]


class Duplicates(NamedTuple):
    """Rows that repeat an earlier one; exact ones are not near ones too."""

    exact: Repeats
    near: Repeats


def prints(texts: Sequence[str], beside: Sequence[str] | None = None) -> Prints:
    """The prints of a batch of texts.

    Args:
        texts: what is compared.
        beside: of each text what must be equal before texts are compared at all, such as a row's tools; empty for nothing.

    Raises:
        MissingExtraError: rensa is not installed.
    """
    try:
        from rensa import RMinHash
    except ImportError as error:
        raise MissingExtraError("rensa", "translate") from error

    exact: list[Hashes] = []
    found, sketched = array("Q"), list[bool]()
    for folded in _folded(texts):
        exact.append(_digests(folded))
        hashes, offsets = grams(lower(folded), GRAM)
        for start, end in pairwise(offsets.tolist()):
            # A text at a time, as fast as all at once: many would start a pool of threads, which a fork does not survive.
            length = np.array([0, end - start], dtype=np.uint64)
            digest = RMinHash.digest_matrix_from_flat_token_hashes(
                hashes[start:end], length, num_perm=PERMUTATIONS, seed=SEED
            )
            found.extend(digest.to_rows()[0])
            sketched.append(end > start)
    hashes = np.frombuffer(found, dtype=np.uint64).reshape(len(texts), PERMUTATIONS)
    bands = hashes.reshape(len(texts), BANDS, PERMUTATIONS // BANDS)
    buckets = np.zeros(bands.shape[:2], dtype=np.uint64)
    for column in range(bands.shape[2]):
        buckets = mix(buckets * np.uint64(31) + bands[:, :, column])
    if beside is not None:
        buckets ^= _apart(beside)[:, np.newaxis]
    return Prints(
        _beside(np.concatenate([np.zeros(0, np.uint64), *exact]), beside),
        (buckets >> np.uint64(32)).astype(np.uint32),
        (hashes & np.uint64(0xFF)).astype(np.uint8),
        np.array(sketched, dtype=bool),
    )


def _folded(texts: Sequence[str]) -> Iterator[Folded]:
    """The texts with their white space folded, some at once."""
    return (fold_spaces(texts[first : first + TOGETHER]) for first in range(0, len(texts), TOGETHER))


def find_duplicates(parts: Sequence[Prints], near: float = NEAR) -> Duplicates:
    """Which rows repeat an earlier one, of texts whose prints fit into memory together, 200 bytes a row.

    Args:
        parts: prints of the rows, batch by batch, in the order in which the first of a group is to be kept.
        near: least similarity of a near duplicate; above 1 finds none.
    """
    found = Prints(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    exact = exact_repeats(found.exact, np.arange(len(found.exact)))
    found.sketched[exact.row] = False
    rows = np.flatnonzero(found.sketched)
    bands = np.repeat(np.arange(BANDS, dtype=np.uint8), len(rows))
    keys, numbers = found.buckets[rows].T.ravel(), np.tile(rows, BANDS)
    return Duplicates(exact, near_repeats(bands, keys, numbers, near, lambda wanted: found.signatures[wanted]))


def exact_hashes(texts: Sequence[str], beside: Sequence[str] | None = None) -> Hashes:
    """The hash of each text, white space folded; `beside` as `prints` takes it."""
    return _beside(np.concatenate([np.zeros(0, np.uint64), *map(_digests, _folded(texts))]), beside)


def _beside(hashes: Hashes, beside: Sequence[str] | None) -> Hashes:
    return hashes if beside is None else hashes ^ _apart(beside)


def _apart(beside: Sequence[str]) -> Hashes:
    """What changes the hashes of texts that stand beside different things; 0 beside nothing."""
    if not any(beside):
        return np.zeros(len(beside), dtype=np.uint64)
    own = _digests(fold_spaces(beside))
    own[[not text for text in beside]] = 0
    return mix(own)


def exact_repeats(keys: Hashes, rows: Numbers) -> Repeats:
    """Rows that have the key of an earlier one.

    Args:
        keys: of each row.
        rows: their numbers, ascending; the first row of a group is the one that is kept.
    """
    pairs = _pairs(keys)
    return lowest(rows[pairs.other], rows[pairs.first], np.zeros(len(pairs.other), dtype=np.uint8))


def near_repeats(
    bands: npt.NDArray[np.uint8],
    keys: Buckets,
    rows: Numbers,
    near: float,
    signatures: Callable[[Numbers], Signatures],
) -> Repeats:
    """Rows nearly the same as an earlier one that shares a band: the first of those that share it, or the one just before.

    Args:
        bands: of each entry the band.
        keys: its hash.
        rows: number of the row that it is of; ascending within a band. Rows without a 5-gram, and exact repeats, are left out.
        near: least similarity.
        signatures: those of the rows of these numbers.
    """
    pairs = _pairs((bands.astype(np.uint64) << np.uint64(32)) | keys)
    found = []
    for kind, earlier in enumerate((pairs.first, pairs.previous)):
        chosen = np.flatnonzero((earlier != pairs.first) | (kind == 0))
        first, other = rows[earlier[chosen]], rows[pairs.other[chosen]]
        alike = np.concatenate([np.zeros(0, dtype=bool), *_alike(first, other, near, signatures)])
        found.append((other[alike], first[alike], 2 * bands[pairs.other[chosen][alike]] + np.uint8(kind)))
    return lowest(*(np.concatenate(column) for column in zip(*found, strict=True)))


def lowest(row: Numbers, first: Numbers, rank: npt.NDArray[np.uint8]) -> Repeats:
    """Of the candidates of each row the one of the lowest rank."""
    order = np.lexsort((rank, row))
    row, first, rank = row[order], first[order], rank[order]
    once = np.ones(len(row), dtype=bool)
    once[1:] = row[1:] != row[:-1]
    return Repeats(row[once], first[once], rank[once])


def similarity(one: Signatures, other: Signatures) -> npt.NDArray[np.float64]:
    """Estimated Jaccard similarity of pairs of texts, from -0.004 to 1."""
    shares: npt.NDArray[np.float64] = ((one == other).mean(axis=1) - _BYTE) / (1 - _BYTE)
    return shares


def _alike(
    first: Numbers, other: Numbers, near: float, signatures: Callable[[Numbers], Signatures]
) -> Iterator[npt.NDArray[np.bool_]]:
    for start in range(0, len(first), _PAIRS):
        part = slice(start, start + _PAIRS)
        yield similarity(signatures(first[part]), signatures(other[part])) >= near


class _Pairs(NamedTuple):
    """Places of rows that share a key with an earlier one, of the group's first, and of the one just before."""

    other: Numbers
    first: Numbers
    previous: Numbers


def _pairs(keys: npt.NDArray[Any]) -> _Pairs:
    order = np.argsort(keys, kind="stable")
    repeats = np.zeros(len(order), dtype=bool)
    repeats[1:] = keys[order[1:]] == keys[order[:-1]]
    starts = np.maximum.accumulate(np.where(repeats, 0, np.arange(len(order))))
    positions = np.flatnonzero(repeats)
    return _Pairs(order[positions], order[starts[positions]], order[positions - 1])


def _digests(folded: Folded) -> Hashes:
    """A hash of each text, the space at its beginning and its end left out."""
    codes, offsets = np.append(folded.codes, np.uint32(0)), folded.offsets
    starts = offsets[:-1] + (codes[offsets[:-1]] == SPACE)
    ends = offsets[1:] - (codes[offsets[1:] - 1] == SPACE)
    wide, narrow = codes.data, codes.astype(np.uint16).data  # half to hash of a text that fits
    beyond = {*(np.searchsorted(offsets, np.flatnonzero(codes >= PLANE), side="right") - 1).tolist()}
    digests = [
        hashlib.blake2b((wide if text in beyond else narrow)[start:end], digest_size=8).digest()
        for text, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True))
    ]
    return np.frombuffer(b"".join(digests), dtype=np.uint64).copy()
