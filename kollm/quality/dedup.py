"""Duplicates: rows whose text is the same, and rows whose text is nearly the same.

A text is nearly the same as another when the estimated Jaccard similarity of their character 5-grams is at least
NEAR. The estimate comes from MinHash (Broder 1997; rensa's implementation); candidates share one of 16 bands of 8
hashes (Leskovec et al., Mining of Massive Datasets, 3.4), which finds a pair of similarity .8 with .95 and one of
.85 with .99. The first row of a group stays. Work and memory grow linearly: 200 bytes a row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kollm.core.errors import MissingExtraError
from kollm.core.records import Record
from kollm.quality.shingles import Hashes, fold_spaces, grams, mix

NEAR = 0.8
GRAM = 5
PERMUTATIONS = 128
BANDS = 16
SEED = 42
_BYTE = 1 / 256
"""Chance that the last bytes of two different hashes agree, which the estimate takes off again (Li and König 2010)."""

Signatures = npt.NDArray[np.uint8]
Buckets = npt.NDArray[np.uint32]
NOT_A_DUPLICATE = -1


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


class Duplicates(NamedTuple):
    """For each row the number of the row that it repeats, or NOT_A_DUPLICATE; exact ones are not near ones too."""

    exact: npt.NDArray[np.int64]
    near: npt.NDArray[np.int64]


def record_text(record: Record) -> str:
    """The text of a record by which duplicates are told: all its turns in order."""
    return "\n".join(record.texts().values())


def prints(texts: Sequence[str]) -> Prints:
    """The prints of a batch of texts.

    Raises:
        MissingExtraError: rensa is not installed.
    """
    try:
        from rensa import RMinHash
    except ImportError as error:
        raise MissingExtraError("rensa", "translate") from error

    found = grams(fold_spaces(texts), GRAM)
    hashes = np.empty((len(texts), PERMUTATIONS), dtype=np.uint64)
    for row, (start, end) in enumerate(pairwise(found.offsets.tolist())):
        # A text at a time, as fast as all at once: many would start a pool of threads, which a fork does not survive.
        length = np.array([0, end - start], dtype=np.uint64)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            found.hashes[start:end], length, num_perm=PERMUTATIONS, seed=SEED
        )
        hashes[row] = matrix.to_rows()[0]
    bands = hashes.reshape(len(texts), BANDS, PERMUTATIONS // BANDS)
    buckets = np.zeros(bands.shape[:2], dtype=np.uint64)
    for column in range(bands.shape[2]):
        buckets = mix(buckets * np.uint64(31) + bands[:, :, column])
    return Prints(
        np.fromiter((_exact(text) for text in texts), dtype=np.uint64, count=len(texts)),
        (buckets >> np.uint64(32)).astype(np.uint32),
        (hashes & np.uint64(0xFF)).astype(np.uint8),
        np.diff(found.offsets) > 0,
    )


def join(parts: Iterable[Prints]) -> Prints:
    """The prints of several batches as one."""
    columns = zip(*parts, strict=True)
    return Prints(*(np.concatenate(column) for column in columns))


def find_duplicates(found: Prints, near: float = NEAR) -> Duplicates:
    """Which rows repeat an earlier one.

    Args:
        found: prints of all rows, in the order in which the first of a group is to be kept.
        near: least similarity of a near duplicate; above 1 finds none.
    """
    count = len(found.exact)
    exact = np.full(count, NOT_A_DUPLICATE, dtype=np.int64)
    pairs = _pairs(found.exact, np.arange(count))
    exact[pairs.other] = pairs.first
    close = np.full(count, NOT_A_DUPLICATE, dtype=np.int64)
    rows = np.flatnonzero((exact == NOT_A_DUPLICATE) & found.sketched)
    for band in range(BANDS if near <= 1 else 0):
        pairs = _pairs(found.buckets[:, band], rows)
        for earlier in (pairs.first, pairs.previous):
            unknown = close[pairs.other] == NOT_A_DUPLICATE
            first, other = earlier[unknown], pairs.other[unknown]
            alike = similarity(found.signatures, first, other) >= near
            close[other[alike]] = first[alike]
    return Duplicates(exact, close)


def similarity(
    signatures: Signatures, first: npt.NDArray[np.int64], other: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Estimated Jaccard similarity of pairs of rows, from -0.004 to 1."""
    shares = np.empty(len(first))
    for start in range(0, len(first), 1 << 16):
        part = slice(start, start + (1 << 16))
        shares[part] = (signatures[first[part]] == signatures[other[part]]).mean(axis=1)
    return (shares - _BYTE) / (1 - _BYTE)


class _Pairs(NamedTuple):
    """Rows that share a key with an earlier row: that row's number, the group's first, and the one just before."""

    other: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    previous: npt.NDArray[np.int64]


def _pairs(keys: npt.NDArray[Any], rows: npt.NDArray[np.int64]) -> _Pairs:
    order = rows[np.argsort(keys[rows], kind="stable")]
    repeats = np.zeros(len(order), dtype=bool)
    repeats[1:] = keys[order[1:]] == keys[order[:-1]]
    starts = np.maximum.accumulate(np.where(repeats, 0, np.arange(len(order))))
    positions = np.flatnonzero(repeats)
    return _Pairs(order[positions], order[starts[positions]], order[positions - 1])


def _exact(text: str) -> int:
    folded = " ".join(text.split()).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(folded, digest_size=8).digest(), "little")
