"""The ledger: what was bought from paid services, kept for ever, so that nothing answered is paid for twice.

One row a text. A purchase is written before it is sent and its answer before it is used: whatever a kill leaves behind
is either answered, and then never bought again, or in flight, and then may have been charged: such sends stay listed
and count against a cap, also after the text was sent again. One SQLite file in WAL mode; several processes may use it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import platformdirs

from kollm.core.errors import InputError, StateError
from kollm.core.files import ensure_folder, json_line, read_jsonl, whole_file
from kollm.core.ownership import require_new
from kollm.services.purchase import Answer, Charge, InFlight, Purchase, Stats

__all__ = ["Answer", "Charge", "InFlight", "Ledger", "Purchase", "Stats", "default_path"]

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS purchases (
    key TEXT PRIMARY KEY,
    request TEXT NOT NULL,
    kind TEXT NOT NULL,
    engine TEXT NOT NULL,
    model TEXT NOT NULL,
    sends INTEGER NOT NULL,
    sent_characters INTEGER NOT NULL,
    sent_cost REAL NOT NULL,
    content TEXT,
    characters INTEGER NOT NULL DEFAULT 0,
    cost REAL NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS unanswered ON purchases (key) WHERE sends > 0;
CREATE TABLE IF NOT EXISTS rows (key BLOB PRIMARY KEY, code TEXT NOT NULL, value TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS rows_by_code ON rows (code);
"""
_KEYS_A_QUERY = 500


class Ledger:
    """The open ledger; safe to use from several threads. Open it with `Ledger.open`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self.path = connection, path
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: Path | None = None) -> Self:
        """Open the ledger, making it if needed.

        Args:
            path: the file; None for `$KOLLM_LEDGER`, else `ledger.sqlite3` in the user's data directory.

        Raises:
            InputError: the folder cannot be written.
            StateError: the file is not a ledger, or one of a later kollm.
        """
        path = path or default_path()
        ensure_folder(path.parent)
        try:
            connection = sqlite3.connect(path, timeout=60, check_same_thread=False, isolation_level=None)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")  # an answer is money: it survives a power cut too
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA_VERSION:
                raise StateError(f"The ledger '{path}' has version {version}, from a later kollm - update kollm.")
            connection.executescript(_SCHEMA)
            if version != SCHEMA_VERSION:
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        except sqlite3.DatabaseError as error:
            raise StateError(
                f"'{path}' cannot be opened as a ledger ({error}) - set KOLLM_LEDGER to a ledger or to a new file."
            ) from error
        return cls(connection, path)

    def find(self, keys: Iterable[str]) -> dict[str, Answer]:
        """The answers of those keys that have one."""
        rows = self._select("key, content, characters, cost", "content IS NOT NULL", keys)
        return {key: Answer(json.loads(content), characters, cost) for key, content, characters, cost in rows}

    def begin(
        self,
        purchases: Sequence[Purchase],
        characters: int | Sequence[int] = 0,
        cost: float | Sequence[float] = 0.0,
    ) -> None:
        """Write purchases as in flight; call it before sending them.

        Args:
            purchases: what will be sent.
            characters: characters that each may be billed for, or one number for all.
            cost: USD that each may cost, or one number for all.
        """
        counts = [characters] * len(purchases) if isinstance(characters, int) else characters
        costs = [cost] * len(purchases) if isinstance(cost, int | float) else cost
        rows = [
            (
                purchase.key,
                _compact(purchase.to_row()),
                purchase.kind,
                purchase.engine,
                purchase.model,
                count,
                usd,
            )
            for purchase, count, usd in zip(purchases, counts, costs, strict=True)
        ]
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO purchases (key, request, kind, engine, model, sends, sent_characters, sent_cost)"
                " VALUES (?, ?, ?, ?, ?, 1, ?, ?) ON CONFLICT (key) DO UPDATE SET sends = sends + 1,"
                " sent_characters = excluded.sent_characters, sent_cost = excluded.sent_cost",
                rows,
            )

    def answer(self, key: str, content: Mapping[str, Any], characters: int = 0, cost: float = 0.0) -> None:
        """Write the answer of a purchase that was begun; call it before using the answer.

        Should two processes have bought the same text, the first answer stays and both are counted as paid.
        """
        self.answer_all({key: Answer(dict(content), characters, cost)})

    def answer_all(self, answers: Mapping[str, Answer]) -> None:
        """Write the answers of one request in one transaction."""
        with self._transaction() as connection:
            for key, (content, characters, cost) in answers.items():
                done = connection.execute(
                    "UPDATE purchases SET content = coalesce(content, ?), characters = characters + ?, cost = cost + ?,"
                    " sends = max(sends - 1, 0) WHERE key = ?",
                    (_compact(content), characters, cost, key),
                )
                if done.rowcount != 1:
                    raise StateError(f"The ledger has no purchase {key} - begin it before answering it.")

    def release(self, keys: Iterable[str]) -> None:
        """Take back one send of each key, which the service certainly did not charge (it refused the request)."""
        chosen = [(key,) for key in keys]
        with self._transaction() as connection:
            connection.executemany("UPDATE purchases SET sends = max(sends - 1, 0) WHERE key = ?", chosen)
            connection.executemany("DELETE FROM purchases WHERE key = ? AND sends = 0 AND content IS NULL", chosen)

    def in_flight(self, keys: Iterable[str] | None = None) -> list[InFlight]:
        """Purchases with sends that got no answer, sorted by key; all of them, or those among the keys."""
        columns = "key, request, sends, sent_characters, sent_cost, content IS NOT NULL"
        return [
            InFlight(
                key,
                Purchase(**json.loads(request)),
                sends,
                Charge(sends * characters, sends * cost),
                bool(answered),
            )
            for key, request, sends, characters, cost, answered in sorted(self._select(columns, "sends > 0", keys))
        ]

    def lost(self, keys: Iterable[str]) -> Charge:
        """What the sends of these keys that got no answer may have cost."""
        with self._lock:
            if not self._connection.execute("SELECT EXISTS (SELECT 1 FROM purchases WHERE sends > 0)").fetchone()[0]:
                return Charge()
        rows = self._select("sends * sent_characters, sends * sent_cost", "sends > 0", keys)
        return Charge(sum(characters for characters, _ in rows), sum(cost for _, cost in rows))

    def find_rows(self, keys: Sequence[bytes]) -> dict[bytes, Any]:
        """Finished rows, which whoever added them derived from answers; see translate/memo.py."""
        with self._lock:
            marks = ", ".join("?" * len(keys))
            found = self._connection.execute(f"SELECT key, value FROM rows WHERE key IN ({marks})", keys)
            return {key: json.loads(value) for key, value in found}

    def add_rows(self, code: str, values: Mapping[bytes, Any]) -> None:
        """Keep finished rows, derived by code of that fingerprint."""
        with self._transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO rows (key, code, value) VALUES (?, ?, ?)",
                [(key, code, _compact(value)) for key, value in values.items()],
            )

    def forget_rows(self, code: str) -> None:
        """Drop the finished rows that other code derived."""
        with self._lock:
            query = "SELECT EXISTS (SELECT 1 FROM rows WHERE code < ?) + EXISTS (SELECT 1 FROM rows WHERE code > ?)"
            others = self._connection.execute(query, (code, code)).fetchone()[0]
        if others:
            with self._transaction() as connection:
                connection.execute("DELETE FROM rows WHERE code != ?", (code,))

    def stats(self) -> list[Stats]:
        """Totals by kind, engine and model, sorted."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT kind, engine, model, count(content), sum(characters), sum(cost), sum(sends),"
                " sum(sends * sent_characters), sum(sends * sent_cost)"
                " FROM purchases GROUP BY kind, engine, model ORDER BY kind, engine, model"
            ).fetchall()
        return [
            Stats(kind, engine, model, answered, characters, cost, sends, Charge(lost_characters, lost_cost))
            for kind, engine, model, answered, characters, cost, sends, lost_characters, lost_cost in rows
        ]

    def export(self, path: Path) -> int:
        """Write every row as JSON Lines, sorted by key.

        Returns:
            Number of rows.

        Raises:
            InputError: the file is there already.
            StateError: it cannot be written; nothing is left of it.
        """
        ensure_folder(require_new(path, "the export").absolute().parent)
        count = 0
        with self._lock, whole_file(path) as file:
            for row in self._connection.execute(
                "SELECT key, request, sends, sent_characters, sent_cost, content, characters, cost"
                " FROM purchases ORDER BY key"
            ):
                values = dict(zip(_EXPORTED, row, strict=True))
                values["request"] = json.loads(values["request"])
                values["content"] = None if values["content"] is None else json.loads(values["content"])
                file.write(json_line(values).encode("utf-8"))
                count += 1
        return count

    def import_(self, path: Path) -> int:
        """Add the answered rows of an export that are not answered here yet.

        Rows in flight stay where they were sent from: another ledger cannot tell what became of them.

        Returns:
            Number of rows added.

        Raises:
            InputError: the file is not an export, or a row's key does not fit its content; nothing is added then.
        """
        added = 0
        with self._transaction() as connection:
            for number, row in enumerate(read_jsonl(path), start=1):
                if row.keys() != set(_EXPORTED):
                    raise InputError(
                        f"{path}, row {number}: not a ledger export - make one with `kollm ledger export`."
                    )
                try:
                    purchase = Purchase(**row["request"])
                except TypeError:
                    purchase = None
                if purchase is None or purchase.key != row["key"]:
                    raise InputError(
                        f"{path}, row {number}: the key {row['key']} does not fit the row - export it again."
                    )
                if row["content"] is None:
                    continue
                added += connection.execute(
                    "INSERT INTO purchases (key, request, kind, engine, model, sends, sent_characters, sent_cost,"
                    " content, characters, cost) VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?)"
                    " ON CONFLICT (key) DO UPDATE SET content = excluded.content, characters = excluded.characters,"
                    " cost = excluded.cost WHERE content IS NULL",
                    (
                        row["key"],
                        _compact(purchase.to_row()),
                        purchase.kind,
                        purchase.engine,
                        purchase.model,
                        row["sent_characters"],
                        row["sent_cost"],
                        _compact(row["content"]),
                        row["characters"],
                        row["cost"],
                    ),
                ).rowcount
        return added

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _select(self, columns: str, condition: str, keys: Iterable[str] | None) -> list[Any]:
        query = f"SELECT {columns} FROM purchases WHERE {condition}"
        with self._lock:
            if keys is None:
                return self._connection.execute(query).fetchall()
            chosen, rows = list(keys), []
            for start in range(0, len(chosen), _KEYS_A_QUERY):
                part = chosen[start : start + _KEYS_A_QUERY]
                marks = ", ".join("?" * len(part))
                rows += self._connection.execute(f"{query} AND key IN ({marks})", part).fetchall()
            return rows

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise StateError(
                        f"The ledger '{self.path}' cannot be written ({error}) - end the process that holds it, or free "
                        "disk space."
                    ) from error
                raise


_EXPORTED = ("key", "request", "sends", "sent_characters", "sent_cost", "content", "characters", "cost")


def default_path() -> Path:
    """`$KOLLM_LEDGER`, else `ledger.sqlite3` in the user's data directory."""
    chosen = os.environ.get("KOLLM_LEDGER")
    return Path(chosen) if chosen else platformdirs.user_data_path("kollm") / "ledger.sqlite3"


def _compact(value: Any) -> str:
    """JSON in which Korean takes three bytes a syllable; lone surrogates, which SQLite refuses, keep their escapes."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"))
    return text
