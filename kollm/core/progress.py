"""Progress on long work: a bar on a terminal, plain lines elsewhere; and the lines that announce a stage.

All of it goes to standard error, so that standard output keeps the result.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from kollm.core.counting import counted

Item = TypeVar("Item")
LINE_SECONDS = 10.0
"""Seconds between two plain lines where there is no terminal."""


def say(text: str) -> None:
    """One line for the person who waits."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def quiet_libraries() -> None:
    """Leave a program's output to what its user can act on; call it before the libraries are imported.

    Bars of a library's own would litter a log file; deprecations inside the libraries are our business, and the tests
    show them; bitsandbytes 0.50 asks every processor-only user for a package of 4-bit kernels that the demo never calls.
    Child processes inherit it.
    """
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("PYTHONWARNINGS", "ignore::FutureWarning,ignore::DeprecationWarning")
    for category in (FutureWarning, DeprecationWarning):
        warnings.simplefilter("ignore", category)
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


class Progress:
    """Counts work done, against a total where it is known. Use as a context manager and call `advance`.

    Args:
        label: what is being counted, e.g. `translate`.
        total: units of work in all; None where that is unknown.
        unit: name of one unit.
    """

    def __init__(self, label: str, total: int | None, unit: str = "row") -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = 0
        self._started = self._last = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=total, desc=label, unit=f" {unit}s", file=sys.stderr, leave=False, dynamic_ncols=True
            )

    def advance(self, count: int = 1) -> None:
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
        elif time.monotonic() - self._last >= LINE_SECONDS:
            self._last = time.monotonic()
            say(self._line())

    def _line(self) -> str:
        done = (
            f"{self.done:,} of {counted(self.total, self.unit)}"
            if self.total is not None
            else counted(self.done, self.unit)
        )
        return f"{self.label}: {done} after {time.monotonic() - self._started:.0f} s"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()


def track(items: Iterable[Item], label: str, total: int | None = None, unit: str = "row") -> Iterator[Item]:
    """Yield the items, showing progress."""
    with Progress(label, total, unit) as progress:
        for item in items:
            yield item
            progress.advance()
