"""What people decided on translations: one append-only file a person, on disk before the next row shows.

A line is a line of a review file (`kollm.quality.review.Correction`) with who decided and when, so that
`kollm data build --corrections FOLDER` replays the files as they are. A later line of one person on a row replaces the
earlier; an undo is a line too. Files of several people never meet, so nobody overwrites anybody.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from kollm.app import log
from kollm.core.errors import InputError
from kollm.core.records import Record
from kollm.quality.review import Correction, english_sha256, find_hits, read_decisions

_PAUSE = 300.0
"""Seconds without a decision after which a person is taken to have paused; pauses do not count for the pace."""
_KINDS = ("keep", "correct", "drop")


def person_name(text: str) -> str:
    """A person's name as it can name a file.

    Raises:
        InputError: nothing is left of it.
    """
    name = re.sub(r"[^\w-]+", "-", text.strip(), flags=re.UNICODE).strip("-_")[:40]
    if not name:
        raise InputError(
            f"The name {text!r} has no letter - write a name by which your decisions are told from others'."
        )
    return name


class Progress(NamedTuple):
    """How far the review is.

    Attributes:
        decided: rows with a decision by anyone.
        waiting: suspected rows without one.
        pace: seconds a decision of this person, pauses left out; None before the second.
        left: seconds that this person needs for the rest at that pace.
        control: rows of the control sample with a decision.
        control_errors: those of them that were corrected or dropped.
        error_rate: the share of errors in the control sample with its 95% interval (Clopper and Pearson 1934); None
            without a decision there.
    """

    decided: int
    waiting: int
    pace: float | None
    left: float | None
    control: int
    control_errors: int
    error_rate: tuple[float, float, float] | None


class Conflict(NamedTuple):
    """A row on which two people decided differently: person -> what."""

    id: str
    kinds: dict[str, str]


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision. `kind` is keep, correct or drop; empty where it was undone."""

    id: str
    who: str
    when: float
    kind: str


class Decisions:
    """The decisions on one dataset. What other processes write is read before each answer.

    Args:
        folder: where the files stand; made with the first decision.
        clock: seconds since 1970.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[Path, tuple[int, int]] = {}
        self._read: dict[Path, int] = {}
        self._of: dict[str, dict[str, Decision]] = {}
        self._order: dict[str, list[Decision]] = {}

    def decide(self, record: Record, who: str, kind: str, corrected: dict[str, str]) -> None:
        """Write a decision and wait until it is on the disk.

        Args:
            record: the row as it was shown.
            who: the person, as `person_name` gives it.
            kind: `keep`, `correct`, `drop`, or empty to take the last one back.
            corrected: field -> new text, of those that change.

        Raises:
            InputError: the kind is unknown, nothing was corrected, or the folder cannot be written.
        """
        if kind not in ("", *_KINDS):
            raise InputError(f"The decision '{kind}' is unknown - use keep, correct or drop.")
        changed = {name: text for name, text in corrected.items() if record.texts().get(name) not in (None, text)}
        if kind == "correct" and not changed:
            raise InputError("Nothing was corrected: the texts are as they were - change one, or keep the row.")
        line = Correction(
            id=record.id,
            english_sha256=english_sha256(record),
            decision=kind if kind in ("keep", "drop") else "",
            corrected=changed if kind == "correct" else {},
            errors=tuple(find_hits(record)),
            english=record.english().texts(),
            korean=record.texts(),
            who=who,
            when=self._clock(),
        )
        log.append(self.folder / f"{who}.jsonl", line.model_dump())

    def latest(self, id: str) -> dict[str, Decision]:
        """Person -> decision on a row."""
        with self._lock:
            self._refresh()
            return dict(self._of.get(id, {}))

    def last_of(self, who: str) -> Decision | None:
        """The person's latest decision that stands, for undo."""
        with self._lock:
            self._refresh()
            return next((d for d in reversed(self._order.get(who, [])) if self._of.get(d.id, {}).get(who) is d), None)

    def decided(self, who: str = "") -> set[str]:
        """Ids of the rows that this person, or anyone, decided on."""
        with self._lock:
            self._refresh()
            return {id for id, of in self._of.items() if (who in of if who else of)}

    def conflicts(self) -> list[Conflict]:
        """Rows on which people differ, by id."""
        with self._lock:
            self._refresh()
            found = [(id, {who: d.kind for who, d in of.items()}) for id, of in self._of.items() if len(of) > 1]
        return [Conflict(id, kinds) for id, kinds in sorted(found) if len(set(kinds.values())) > 1]

    def agreement(self) -> tuple[int, float | None]:
        """Rows with decisions of two or more people, and Krippendorff's alpha over them (sound or not)."""
        with self._lock:
            self._refresh()
            twice = [of for of in self._of.values() if len(of) > 1]
        people = sorted({who for of in twice for who in of})
        table = [[float(of[who].kind == "keep") if who in of else None for of in twice] for who in people]
        if not twice:
            return 0, None
        from kollm.judge.coefficients import krippendorff_alpha  # takes a quarter of a second to import

        return len(twice), krippendorff_alpha(table).value

    def progress(self, who: str, suspected: set[str], control: set[str]) -> Progress:
        """How far the review of these rows is, and how fast this person goes."""
        with self._lock:
            self._refresh()
            decided = set(self._of)
            times = [d.when for d in self._order.get(who, [])]
            errors = sum(any(d.kind != "keep" for d in self._of[id].values()) for id in control & decided)
        gaps = [after - before for before, after in pairwise(times) if after - before < _PAUSE]
        pace = sum(gaps) / len(gaps) if gaps else None
        waiting = len(suspected - decided)
        n = len(control & decided)
        return Progress(
            len(decided), waiting, pace, pace * waiting if pace is not None else None, n, errors, _rate(errors, n)
        )

    def kinds(self) -> Counter[str]:
        """How often each kind was decided last."""
        with self._lock:
            self._refresh()
            return Counter(d.kind for of in self._of.values() for d in of.values())

    def _refresh(self) -> None:
        """Read the files that grew since the last look; the caller holds the lock."""
        for path in sorted(self.folder.glob("*.jsonl")) if self.folder.is_dir() else []:
            state = path.stat()
            if self._seen.get(path) == (state.st_mtime_ns, state.st_size):
                continue
            items, self._read[path] = read_decisions(path, self._read.get(path, 0))
            for item in items:
                self._take(item)
            self._seen[path] = (state.st_mtime_ns, state.st_size)

    def _take(self, item: Correction) -> None:
        kind = item.decision or ("correct" if item.corrected else "")
        decision = Decision(item.id, item.who, item.when, kind)
        if kind:
            self._of.setdefault(item.id, {})[item.who] = decision
            self._order.setdefault(item.who, []).append(decision)
        elif item.who in self._of.get(item.id, {}):
            del self._of[item.id][item.who]
            if not self._of[item.id]:
                del self._of[item.id]


def _rate(errors: int, n: int) -> tuple[float, float, float] | None:
    if n == 0:
        return None
    from scipy.stats import binomtest

    interval = binomtest(errors, n).proportion_ci(0.95, method="exact")
    return errors / n, float(interval.low), float(interval.high)
