"""Ledgers travel as JSON Lines: export writes every row, import takes the answered ones, each checked."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kollm.core.errors import InputError
from kollm.core.files import ensure_folder, json_line, read_jsonl, whole_file
from kollm.core.lock import output_lock
from kollm.core.ownership import require_new
from kollm.services.ledger.row import read_purchase, row_fault
from kollm.services.ledger.store import Entry, Ledger
from kollm.services.purchase import Purchase


def export_ledger(ledger: Ledger, path: Path) -> int:
    """Write every row as JSON Lines, sorted by key, to a new file.

    Returns:
        Number of rows.

    Raises:
        InputError: the file is there already: it may hold what was bought elsewhere.
        StateError: a damaged row, or a disk that is full; nothing is left then.
    """
    ensure_folder(require_new(path, "the export").absolute().parent)
    count = 0
    with output_lock(path), whole_file(path) as file:
        for row in ledger.rows():
            file.write(json_line(row).encode("utf-8"))
            count += 1
    return count


def import_ledger(ledger: Ledger, path: Path) -> int:
    """Add the answered rows of an export that are not answered here yet.

    Rows in flight stay where they were sent from: another ledger cannot tell what became of them.

    Returns:
        Number of rows added.

    Raises:
        InputError: the file is not an export, or a row is not sound; nothing is added then.
    """
    return ledger.add_answered(_answered(path))


def merge_ledger(ledger: Ledger, other: Ledger) -> int:
    """Add what another process bought into a ledger of its own, sends without an answer included.

    Returns:
        Number of rows added.

    Raises:
        StateError: a damaged row; nothing is added then.
    """
    return ledger.add_answered((Purchase(**row["request"]), row) for row in other.rows())


class WorkerLedger(Ledger):
    """A worker's ledger: what it lacks and the user's ledger had when the work began, it takes from a copy of that.

    Attributes:
        known: the copy; None for none.
    """

    known: Ledger | None = None

    def look(self, keys: Iterable[str]) -> dict[str, Entry]:
        """As Ledger's."""
        return super().look(self._drawn(keys))

    def answered(self, keys: Iterable[str]) -> set[str]:
        """As Ledger's."""
        return super().answered(self._drawn(keys))

    def _drawn(self, keys: Iterable[str]) -> list[str]:
        wanted = list(keys)
        if self.known is not None:
            missing = sorted(set(wanted) - super().answered(wanted))
            found = list(self.known.rows_of(missing)) if missing else []
            if found:
                self.add_answered((Purchase(**row["request"]), row) for row in found)
        return wanted


def copy_ledger(ledger: Ledger, of: tuple[str, str, str], path: Path) -> None:
    """Copy the purchases of a kind, engine and model into a file for `Ledger.open_copy`; replaced whole."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with Ledger.open(draft, alone=True) as copy:
            copy.add_answered((Purchase(**row["request"]), row) for row in ledger.rows(of))
        draft.replace(path)
    finally:
        for left in draft.parent.glob(f"{draft.name}*"):
            left.unlink()


def _answered(path: Path) -> Iterator[tuple[Purchase, Mapping[str, Any]]]:
    for number, row in enumerate(read_jsonl(path), start=1):
        fault = row_fault(row)
        purchase = read_purchase(row.get("request"))
        if fault is not None or purchase is None:
            raise InputError(f"{path}, row {number}: {fault}; nothing was added.")
        if row["content"] is not None:
            yield purchase, {**row, "sends": 0}
