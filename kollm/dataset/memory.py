"""Whether two columns of texts are translations of each other, row by row, or one of them is shifted.

Lengths and numbers tell: a translation is about as long as its English, times a constant, and has its numbers. Both are
compared with what other rows' translations would give by chance.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import log
from statistics import fmean, median

LEAST_ROWS = 10
SPREAD = 0.6
"""Spread of the ratio of lengths, as a share of that of rows put together by chance, above which lengths do not correlate.
0.2 for the 252 evaluation tasks and their DeepL translation, 1.0 for the same shifted by one row."""
_VARIED = 0.25
"""Spread by chance below which all texts are about equally long, so that lengths tell nothing."""
_FEW_NUMBERS = 8
_SHIFTS = (1, -1, 2, -2)
_NUMBER = re.compile(r"\d{2,}|\d")


def misaligned(english: Sequence[str], korean: Sequence[str]) -> str:
    """Why the rows of two columns cannot belong together; empty where they do, or where there are too few to tell."""
    count = len(english)
    if count < LEAST_ROWS:
        return ""
    logs = [log(len(text) + 10) for text in english], [log(len(text) + 10) for text in korean]
    numbers = [set(_NUMBER.findall(text)) for text in english], [set(_NUMBER.findall(text)) for text in korean]
    chances = sorted({count // 2, count // 3 + 1, count - 3} - {0})
    by_chance = fmean(_spread(*logs, shift) for shift in chances)
    here = _spread(*logs, 0)
    numbered = sum(bool(found) for found in numbers[0])
    kept = _kept(*numbers, 0)
    kept_by_chance = fmean(_kept(*numbers, shift) for shift in chances)
    tells_lengths, tells_numbers = by_chance >= _VARIED, numbered >= _FEW_NUMBERS
    no_lengths = tells_lengths and here > SPREAD * by_chance
    no_numbers = tells_numbers and kept < 0.5
    if not (no_lengths and (no_numbers or not tells_numbers)) and not (
        no_numbers and not tells_lengths and kept < kept_by_chance + 0.15
    ):
        return ""
    said = []
    if no_lengths:
        said.append("their lengths do not correlate")
    if no_numbers:
        said.append(f"{kept:.0%} of the numbers are found, {kept_by_chance:.0%} would be by chance")
    shift = next((shift for shift in _SHIFTS if _spread(*logs, shift) < SPREAD * by_chance), 0)
    if shift:
        said.append(
            f"the rows fit {abs(shift)} row{'s' if abs(shift) > 1 else ''} {'later' if shift > 0 else 'earlier'}"
        )
    return ", ".join(said)


def _spread(english: Sequence[float], korean: Sequence[float], shift: int) -> float:
    """Mean distance of the ratios of lengths from their median, with the Korean of the row `shift` rows on."""
    count = len(english)
    ratios = [korean[(row + shift) % count] - length for row, length in enumerate(english)]
    middle = median(ratios)
    return fmean(abs(ratio - middle) for ratio in ratios)


def _kept(english: Sequence[set[str]], korean: Sequence[set[str]], shift: int) -> float:
    count = len(english)
    shares = [len(found & korean[(row + shift) % count]) / len(found) for row, found in enumerate(english) if found]
    return fmean(shares) if shares else 1.0
