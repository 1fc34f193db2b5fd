"""What a way to make rows gives back."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from kollm.core.records import Record


class Made(NamedTuple):
    """Records, and what was left out on the way, by reason."""

    records: list[Record]
    dropped: Counter[str]
