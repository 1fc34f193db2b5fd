"""Finished rows of earlier runs, so that a second build neither masks nor reads them again.

A derived store beside the purchases: without it the same comes out, more slowly. A row is found by the same fields, the
same engine, options, mode and rules, and the same code of this package; other code's rows are thrown away.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kollm.core.hashing import content_id
from kollm.core.records import Record
from kollm.services.ledger import Ledger
from kollm.translate.parts import Paid
from kollm.translate.routing import Router
from kollm.translate.translator import Identified


class Finished(NamedTuple):
    """What became of a row.

    Attributes:
        texts: Korean text by field name.
        reason: None, or why the row was rejected.
        route: what routing decided.
        attempt: the attempt that was used; 0 for none.
        paid: for each part of the row what its attempts cost.
    """

    texts: dict[str, str]
    reason: str | None
    route: str
    attempt: int
    paid: tuple[tuple[Paid, ...], ...]


class RowMemo:
    """Finds and adds finished rows of one engine, mode and set of rules.

    Args:
        ledger: whose file holds them.
        translator: the engine.
        mode: `row` or `field`.
        router: the rules; None for none.
    """

    def __init__(self, ledger: Ledger, translator: Identified, mode: str, router: Router | None) -> None:
        self._ledger = ledger
        rules = router.fingerprint if router is not None else ""
        limits = [translator.limits.batch_bytes, translator.limits.text_bytes]
        engine = [translator.name, translator.base_url, translator.model, dict(translator.options)]
        self._prefix = content_id([*engine, mode, rules, limits, code_fingerprint()]).encode("ascii")
        self._added: dict[bytes, Finished] = {}
        ledger.forget_rows(code_fingerprint())

    def keys(self, records: Sequence[Record]) -> list[bytes]:
        """What each record is found by."""
        return [
            hashlib.blake2b(
                self._prefix + json.dumps(list(item.texts().items())).encode("ascii"),
                digest_size=16,
            ).digest()
            for item in records
        ]

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Finished]:
        """The finished rows among the keys."""
        found = {}
        for key, value in self._ledger.find_rows(keys).items():
            texts, reason, route, attempt, paid = value
            parts = tuple(tuple(Paid(*item) for item in part) for part in paid)
            found[key] = Finished(texts, reason, route, attempt, parts)
        return found

    def add(self, key: bytes, finished: Finished) -> None:
        """Note a finished row; `flush` writes it."""
        self._added[key] = finished

    def flush(self) -> None:
        """Write what was noted."""
        if self._added:
            self._ledger.add_rows(code_fingerprint(), self._added)
            self._added = {}


@functools.cache
def code_fingerprint() -> str:
    """Hash of this package's files: other code may come to other rows."""
    files = sorted(path for path in Path(__file__).parent.iterdir() if path.suffix in (".py", ".yaml", ".txt"))
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()
