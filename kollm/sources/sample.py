"""A seeded sample of a set too large to be read whole: a few rows of each of its files, never the set itself."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping

from kollm.sources.source import Row

Files = Mapping[str, Callable[[], Iterator[Row]]]
"""Name of each file of a set -> what opens it."""

ORIGIN = "kollm_origin"
"""Key that each row gets: its file and its place in it, which make its id the same in every sample."""
WINDOW = 20
"""Rows are drawn from the first WINDOW times as many of a file, so that reading ends early in a file of millions."""


def sample_rows(files: Files, rows: int | None, seed: int = 0) -> Iterator[Row]:
    """Draw rows evenly over the files, which are tasks or shards.

    What a short file lacks is drawn from those after it; a file is opened when its turn comes.

    Args:
        files: the set.
        rows: rows to draw, fewer where the files' windows hold fewer; None for all rows of all files.
        seed: another seed gives other files first and other rows.

    Yields:
        The rows with ORIGIN added: file by file in a seeded order, within a file in its order.
    """
    names = sorted(files)
    if rows is not None:
        random.Random(f"{seed}").shuffle(names)
    left = rows or 0
    for position, name in enumerate(names):
        share = math.ceil(left / (len(names) - position))
        if rows is None:
            drawn: Iterator[tuple[int, Row]] = enumerate(files[name]())
        elif share == 0:
            return
        else:
            kept = _draw(files[name](), share, random.Random(f"{seed}\n{name}"))
            left -= len(kept)
            drawn = iter(sorted(kept.items()))
        for number, row in drawn:
            yield {**row, ORIGIN: f"{name}-{number}"} if isinstance(row, dict) else row


def origin(row: Row) -> str | None:
    """The id that a row has by its file and place; None where it has none."""
    value = row.get(ORIGIN)
    return value if isinstance(value, str) else None


def _draw(rows: Iterator[Row], count: int, generator: random.Random) -> dict[int, Row]:
    """Reservoir sampling over the window: each of its rows is equally likely. Place in the file -> row."""
    kept: list[tuple[int, Row]] = []
    for number, row in enumerate(itertools.islice(rows, count * WINDOW)):
        if number < count:
            kept.append((number, row))
        elif (place := generator.randrange(number + 1)) < count:
            kept[place] = (number, row)
    return dict(kept)
