"""Tables on a terminal: columns of cells, and numbers as they are shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


def table(rows: Iterable[Mapping[str, str]]) -> str:
    """Left-aligned columns, each as wide as its widest cell; the first row's keys are the head."""
    body = list(rows)
    if not body:
        return "(no task was answered by two systems)"
    lines = [list(body[0]), *(list(row.values()) for row in body)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def p_value(value: float | None) -> str:
    """Four decimals, or a power of ten below them."""
    return "-" if value is None else f"{value:.4f}" if value >= 0.0001 else f"{value:.0e}"


def signed(value: float) -> str:
    """Three decimals, or a power of ten where these would hide that the value is not 0."""
    if 1e-12 < abs(value) < 0.0005:  # below is what rounding leaves of 0
        return f"{value:+.0e}"
    return f"{round(value, 3) + 0.0:+.3f}"


def interval(ends: Sequence[float] | None, digits: int = 3) -> str:
    return "-" if ends is None else f"{ends[0]:.{digits}f} to {ends[1]:.{digits}f}"


def signed_interval(ends: Sequence[float] | None) -> str:
    return "-" if ends is None else f"{signed(ends[0])} to {signed(ends[1])}"
