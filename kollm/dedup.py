"""Duplicates: rows whose text is the same, and rows whose text is nearly the same."""

from __future__ import annotations

import hashlib

from kollm.records import Record


def text_key(record: Record) -> bytes:
    """16 bytes that two records share when their text is the same but for case and white space."""
    texts = [record.instruction, record.input, record.output, *(text for turn in record.history for text in turn)]
    joined = "\x00".join(" ".join(text.split()).casefold() for text in texts)
    return hashlib.blake2b(joined.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class ExactIndex:
    """Remembers every text that was seen, in 16 bytes each."""

    def __init__(self) -> None:
        self._keys: set[bytes] = set()

    def seen(self, record: Record) -> bool:
        """Whether the text was there before; it is from now on."""
        key = text_key(record)
        if key in self._keys:
            return True
        self._keys.add(key)
        return False
