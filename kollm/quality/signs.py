"""Which of many signs the texts of a batch hold, told by one look at each pair of characters; numpy does the work for all.

A sign is one character, or two that follow each other, out of sets of characters. 64 kinds of signs fit into one number a
text, so that a rule that needs one of a kind is not asked about the texts without: looking for all kinds takes less time
than looking for one of them by a pattern.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

Sign = tuple[str, ...]
"""For each of one or two characters those that it may be."""
Bits = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]

END = "\0"
"""Stands before and behind each text, so that a sign may ask for a text's end."""
BEYOND = "\uffff"
"""Stands for every character beyond the basic plane: a set of characters some of which are there holds it."""
_PLANE = 0x10000
_CLASSES = 0x100
_ANY = np.arange(_CLASSES)


def signs(words: str) -> list[Sign]:
    """Words of one or two letters, parted by spaces, as signs."""
    return [tuple(word) for word in words.split()]


def characters(*ranges: tuple[int, int]) -> str:
    """The characters of ranges of codes, their ends included."""
    return "".join(chr(code) for first, last in ranges for code in range(first, last + 1))


class Signs:
    """Kinds of signs, made ready to be looked for.

    Args:
        kinds: the signs of each kind; no more than 64 kinds.
    """

    def __init__(self, kinds: Mapping[str, Iterable[Sign]]) -> None:
        listed = {name: list(found) for name, found in kinds.items()}
        assert len(listed) <= 64, "a number has 64 bits"
        sets = dict.fromkeys(item for found in listed.values() for sign in found for item in sign)
        self._classes = _divide(sets)
        self._bits = {name: np.uint64(1 << number) for number, name in enumerate(listed)}
        self._pairs = np.zeros((_CLASSES, _CLASSES), dtype=np.uint64)
        for name, found in listed.items():
            for sign in found:
                first, second = (np.unique(self._classes[_codes(item)]) for item in (sign[0], sign[-1]))
                self._pairs[np.ix_(first, second if len(sign) == 2 else _ANY)] |= self._bits[name]

    def look(self, texts: Sequence[str]) -> Look:
        """Look for all kinds of signs in some texts."""
        codes = _codes(END.join(["", *texts, ""]))
        classes = self._classes.take(np.minimum(codes, _PLANE - 1))
        lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
        ends = np.cumsum(lengths + 1)
        pairs = classes.astype(np.uint16) << np.uint16(8)
        pairs[:-1] |= classes[1:]
        return Look(self, codes, pairs, lengths, ends)

    def of(self, pairs: npt.NDArray[np.uint16]) -> Bits:
        """The kinds of which each of these pairs is a sign."""
        return self._pairs.ravel().take(pairs)  # twice as fast as an index in brackets

    def bit(self, *names: str) -> np.uint64:
        """The kinds of these names as one number."""
        return np.uint64(sum(int(self._bits[name]) for name in names))


class Look:
    """What was seen in some texts.

    Attributes:
        codes: the characters of all texts, END before and behind each.
        lengths: of the texts.
        ends: where each text's END stands.
        held: of each text the kinds of which it holds a sign.
    """

    def __init__(
        self, signs: Signs, codes: npt.NDArray[np.uint32], pairs: npt.NDArray[np.uint16], lengths: Counts, ends: Counts
    ) -> None:
        self.codes, self.lengths, self.ends = codes, lengths, ends
        self._signs, self._starts = signs, ends - lengths - 1
        self._each = signs.of(pairs)
        self.held: Bits = np.bitwise_or.reduceat(self._each, self._starts) if len(ends) else self._each

    def holds(self, *names: str) -> Mask:
        """Whether each text holds a sign of one of these kinds."""
        found: Mask = (self.held & self._signs.bit(*names)) != 0
        return found

    def count(self, name: str, behind: str = "") -> Counts:
        """How many signs of a kind each text holds; with `behind`, of those that begin one character behind one of that kind."""
        if not self.holds(name).any():
            return np.zeros(len(self.lengths), dtype=np.int64)  # as of kinds that a batch lacks
        found = (self._each & self._signs.bit(name)) != 0
        if behind:
            found[1:] &= (self._each[:-1] & self._signs.bit(behind)) != 0
        counts: Counts = np.add.reduceat(found, self._starts, dtype=np.int64)
        return counts


def _codes(text: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def _divide(sets: Iterable[str]) -> npt.NDArray[np.uint8]:
    """A class for each character of the basic plane: two that no set tells apart have the same."""
    classes, sizes = np.zeros(_PLANE, dtype=np.int64), [_PLANE]
    for item in sets:
        members = np.unique(_codes(item))
        found, inside = np.unique(classes[members], return_counts=True)
        for old, count in zip(found.tolist(), inside.tolist(), strict=True):
            if count < sizes[old]:
                classes[members[classes[members] == old]] = len(sizes)
                sizes[old] -= count
                sizes.append(count)
    assert len(sizes) <= _CLASSES, f"{len(sizes)} classes of characters"
    return classes.astype(np.uint8)
