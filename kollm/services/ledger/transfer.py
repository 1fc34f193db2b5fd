"""Ledgers travel as JSON Lines: export writes every row, import takes the answered ones, each checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kollm.core.errors import InputError
from kollm.core.files import ensure_folder, json_line, read_jsonl, whole_file
from kollm.core.lock import output_lock
from kollm.core.ownership import require_new
from kollm.services.ledger.row import read_purchase, row_fault
from kollm.services.ledger.store import Ledger
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


def _answered(path: Path) -> Iterator[tuple[Purchase, Mapping[str, Any]]]:
    for number, row in enumerate(read_jsonl(path), start=1):
        fault = row_fault(row)
        purchase = read_purchase(row.get("request"))
        if fault is not None or purchase is None:
            raise InputError(f"{path}, row {number}: {fault}; nothing was added.")
        if row["content"] is not None:
            yield purchase, {**row, "sends": 0}
