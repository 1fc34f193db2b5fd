"""A number with its noun, as a sentence says it."""

from __future__ import annotations


def counted(number: int | float, one: str, many: str | None = None) -> str:
    """`1 row`, `1,200 rows`; with the verb too where it agrees: `counted(n, "row holds", "rows hold")`.

    Args:
        number: how many.
        one: what a single one is called.
        many: what several are called, if not `one` with an s.
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
