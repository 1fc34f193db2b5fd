"""The memory of a build: the Korean rows of a source as a file, from which each shard takes those of its own rows, and whether
they are the translation of these rows or, for instance, shifted by one.

Lengths and numbers tell: a translation is about as long as its English, times a constant, and has its numbers. Both are
compared with what other rows' translations would give by chance.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from math import log
from pathlib import Path
from statistics import fmean, median

import numpy as np
import pyarrow as pa

from kollm.core.counting import counted
from kollm.core.errors import InputError
from kollm.core.records import Record
from kollm.dataset.tables import SCHEMA, to_records, to_table
from kollm.dataset.work import arrow_table, whole_arrow
from kollm.quality.shingles import Hashes
from kollm.translate import MemoryTranslator, Outcome
from kollm.translate.memory import place_of

_KEYED = SCHEMA.append(pa.field("key", pa.uint64()))
_BATCH = 1_000
LEAST_ROWS = 10
SPREAD = 0.6
"""Spread of the ratio of lengths, as a share of that of rows put together by chance, above which lengths do not correlate.
0.2 for the 252 evaluation tasks and their DeepL translation, 1.0 for the same shifted by one row."""
_VARIED = 0.25
"""Spread by chance below which all texts are about equally long, so that lengths tell nothing."""
_FEW_NUMBERS = 8
_SHIFTS = (1, -1, 2, -2)
_NUMBER = re.compile(r"\d{2,}|\d")


def write_memory(rows: Iterable[Record], path: Path, by_place: bool) -> int:
    """Write the rows of a memory, and count them.

    Args:
        rows: the rows; of several with one key the last counts.
        path: the file.
        by_place: whether they are found by their place in the source rather than by their id.
    """
    iterator, count = iter(rows), 0
    with whole_arrow(path, _KEYED, compression=None) as file:
        while batch := list(islice(iterator, _BATCH)):
            keys = [place_of(record) if by_place else record.id for record in batch]
            file.write_table(to_table(batch).append_column("key", pa.array(_hashes(keys))))
            count += len(batch)
    return count


def read_memory(path: Path, records: Sequence[Record], by_place: bool) -> MemoryTranslator:
    """The memory as far as these records need it."""
    table = arrow_table(path)
    wanted = np.unique(_hashes([place_of(record) if by_place else record.id for record in records]))
    there = np.flatnonzero(np.isin(table.column("key").to_numpy(), wanted))
    found = to_records(table.take(pa.array(there)))
    return MemoryTranslator({place_of(record) if by_place else record.id: record for record in found}, by_place)


def check_alignment(source: str, records: Sequence[Record], outcomes: Sequence[Outcome]) -> None:
    """Stop a build whose memory is not the translation of these rows: a file shifted by one row was once published.

    Args:
        source: name of the rows' source.
        records: the rows.
        outcomes: what the memory made of them.

    Raises:
        InputError: neither lengths nor numbers correspond.
    """
    both = [(row, outcome.record) for row, outcome in zip(records, outcomes, strict=True) if outcome.reason is None]
    english, korean = ([pair[side].whole_text() for pair in both] for side in (0, 1))
    if why := misaligned(english, korean):
        raise _error(source, outcomes, why)


def check_reasons(source: str, outcomes: Sequence[Outcome], reasons: Mapping[str, int]) -> None:
    """Stop a build of which the filters drop most rows for what a memory of other rows would show.

    Args:
        source: name of the rows' source.
        outcomes: what the memory made of them.
        reasons: how many of them were dropped, by reason.

    Raises:
        InputError: most rows have other lengths or numbers.
    """
    found = sum(outcome.reason is None for outcome in outcomes)
    failed = sum(reasons[name] for name in ("length_ratio", "numbers_lost", "numbers_changed") if name in reasons)
    if found >= 2 * LEAST_ROWS and 2 * failed > found:
        raise _error(
            source, outcomes, f"of {counted(found, 'row')} {counted(failed, 'has', 'have')} other lengths or numbers"
        )


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


def _error(source: str, outcomes: Sequence[Outcome], why: str) -> InputError:
    first, last = outcomes[0].record.id, outcomes[-1].record.id
    return InputError(
        f"{source}: the memory is misaligned with its English, rows {first} to {last}: {why} - give the rows of both files the "
        "same ids, or the same order."
    )


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


def _hashes(keys: Sequence[str]) -> Hashes:
    digests = (hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest() for key in keys)
    return np.fromiter((int.from_bytes(digest, "little") for digest in digests), dtype=np.uint64, count=len(keys))
