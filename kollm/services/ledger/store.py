"""The store: one row a text, in one SQLite file (WAL) that several processes use at once.

A purchase is leased before it is sent and its answer is written before it is used. Whatever a kill leaves behind is either
answered, and then never bought again, or in flight, and then may have been charged: such sends stay listed and count
against a cap, also after the text was sent again. A lease keeps other processes from sending the same text; it ends with
the answer, with its process, or at its time. A cache such as diskcache knows no purchase that is under way, which is the
state that a cap depends on.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from kollm.core.errors import StateError
from kollm.services.ledger.connection import connect, default_path
from kollm.services.ledger.owner import is_gone
from kollm.services.ledger.reserve import Reserve
from kollm.services.ledger.row import charge_fault, compact_json, content_fault
from kollm.services.purchase import Answer, Charge, Expense, InFlight, Purchase, Stats

_KEYS_A_QUERY = 500
_STATE = "key, content, characters, cost, sends, sent_characters, sent_cost, owner, leased_until"


class Entry(NamedTuple):
    """How a purchase stands.

    Attributes:
        key: its key.
        answer: its answer; None where there is none yet.
        expense: what it cost, whoever bought it.
        owner: who changed it last.
        leased_until: time at which its lease ends, in seconds since 1970; None where none is held.
    """

    key: str
    answer: Answer | None
    expense: Expense
    owner: str
    leased_until: float | None

    def is_held(self) -> bool:
        """Whether its owner is still at it."""
        return self.leased_until is not None and self.leased_until > time.time() and not is_gone(self.owner)


class Change(NamedTuple):
    """What another process did to a purchase.

    Attributes:
        key: the purchase's key.
        expense: what it cost since.
        owner: who did it.
        answered: whether it is answered now.
    """

    key: str
    expense: Expense
    owner: str
    answered: bool


class Ledger:
    """The open ledger; safe to use from several threads. Open it with `Ledger.open`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self.path = connection, path
        self._lock = threading.RLock()
        self._reserve = Reserve(path)

    @classmethod
    def open(cls, path: Path | None = None, alone: bool = False) -> Self:
        """Open the ledger, making it if needed, readable by its user alone.

        Args:
            path: the file; None for `$KOLLM_LEDGER`, else `ledger.sqlite3` in the user's data directory.
            alone: keep every other process out, which a file on a network's disk needs: SQLite's writers share memory.

        Raises:
            InputError: the folder cannot be written.
            StateError: the file is not a ledger, is damaged, is one of a later kollm, or its disk has no file locks.
        """
        path = path or default_path()
        return cls(connect(path, alone), path)

    @classmethod
    def open_copy(cls, path: Path) -> Self:
        """Open a ledger that nobody writes any more, for reading; without a lock, so that a network's disk will do."""
        uri = f"{path.absolute().as_uri()}?immutable=1"
        return cls(sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None), path)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep every other writer out until the end; what is written inside is written together or not at all."""
        with self._transaction():
            yield

    def find(self, keys: Iterable[str]) -> dict[str, Answer]:
        """The answers of those keys that have one."""
        return {key: entry.answer for key, entry in self.look(keys).items() if entry.answer is not None}

    def answered(self, keys: Iterable[str]) -> set[str]:
        """Those of the keys that have an answer, which is not read."""
        return {key for (key,) in self._select("key", "content IS NOT NULL", keys)}

    def look(self, keys: Iterable[str]) -> dict[str, Entry]:
        """How those of the keys stand that the ledger knows.

        Raises:
            StateError: a row that holds no answer of its kind, or a damaged file.
        """
        entries = (self._entry(*row) for row in self._select(f"engine, {_STATE}", "1", keys))
        return {entry.key: entry for entry in entries}

    def standing(self, keys: Iterable[str]) -> Iterator[Entry]:
        """As `look`, without reading the answers: an empty one stands for each.

        Raises:
            StateError: a row of which it is not known what it cost, or a damaged file.
        """
        for key, answered, *state in self._select(_STATE.replace("content", "content IS NOT NULL"), "1", keys):
            yield self._stands(key, {} if answered else None, *state)

    def begin(
        self, items: Mapping[str, tuple[Purchase, Charge]], owner: str = "", seconds: float | None = None
    ) -> None:
        """Write purchases as in flight; call it before sending them.

        Args:
            items: key -> what will be sent, and what it may be charged.
            owner: who sends it.
            seconds: how long nobody else may send it; None for no lease.

        Raises:
            StateError: the disk has no room for it, or for the answers.
        """
        if items:
            self._reserve.fill()
        until = None if seconds is None else time.time() + seconds
        with self._transaction() as connection:
            change = self._next_change()
            connection.executemany(
                "INSERT INTO purchases (key, request, kind, engine, model, sends, sent_characters, sent_cost, owner,"
                " leased_until, changed) VALUES (?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET"
                " sends = sends + 1, sent_characters = excluded.sent_characters, sent_cost = excluded.sent_cost,"
                " owner = excluded.owner, leased_until = excluded.leased_until, changed = excluded.changed",
                [
                    (
                        *(key, compact_json(item.to_row()), item.kind, item.engine, item.model),
                        *(charge.characters, charge.cost, owner, until, change),
                    )
                    for key, (item, charge) in items.items()
                ],
            )

    def answer_all(self, answers: Mapping[str, Answer], owner: str = "") -> None:
        """Write the answers of one request in one transaction; call it before using them.

        Should two processes have bought the same text, the first answer stays and both are counted as paid. Where the disk
        is full, they take the room that was set aside for them.

        Raises:
            StateError: a purchase that was never begun, or an answer that is none; nothing is written then.
        """
        try:
            self._answer_all(answers, owner)
        except StateError as error:
            refused = isinstance(error.__cause__, sqlite3.OperationalError) and not self._connection.in_transaction
            if not refused or not self._reserve.give():
                raise
            self._answer_all(answers, owner)

    def _answer_all(self, answers: Mapping[str, Answer], owner: str) -> None:
        with self._transaction() as connection:
            change = self._next_change()
            for key, answer in answers.items():
                row = connection.execute("SELECT engine FROM purchases WHERE key = ?", (key,)).fetchone()
                if row is None:
                    raise StateError(f"The ledger has no purchase {key} - begin it before answering it.")
                fault = content_fault(row[0], answer.content) or charge_fault(answer.characters, answer.cost)
                if fault is not None:
                    raise StateError(f"An answer of '{row[0]}' cannot be kept: {fault} - report it.")
                connection.execute(
                    "UPDATE purchases SET content = coalesce(content, ?), characters = characters + ?, cost = cost + ?,"
                    " sends = max(sends - 1, 0), owner = ?, leased_until = NULL, changed = ? WHERE key = ?",
                    (compact_json(answer.content), answer.characters, answer.cost, owner, change, key),
                )

    def end_leases(self, keys: Iterable[str], charged: bool, owner: str = "") -> None:
        """There was no answer: let others send these purchases.

        Args:
            keys: their keys.
            charged: whether the service may have charged the send; else it is taken back.
            owner: who held the lease; the lease of another, who took over, stays.
        """
        with self._transaction() as connection:
            change = self._next_change()
            connection.executemany(
                "UPDATE purchases SET sends = max(sends - ?, 0), changed = ?,"
                " leased_until = CASE WHEN owner = ? THEN NULL ELSE leased_until END WHERE key = ?",
                [(0 if charged else 1, change, owner, key) for key in keys],
            )

    def hand_over(self, keys: Iterable[str], owner: str, to: str, seconds: float) -> None:
        """Give the leases that one owner holds to another, for some time from now."""
        with self._transaction() as connection:
            change, until = self._next_change(), time.time() + seconds
            connection.executemany(
                "UPDATE purchases SET owner = ?, leased_until = ?, changed = ?"
                " WHERE key = ? AND owner = ? AND leased_until IS NOT NULL",
                [(to, until, change, key, owner) for key in keys],
            )

    def last_change(self) -> int:
        """The number of the last change."""
        with self._reading() as connection:
            return int(connection.execute("SELECT coalesce(max(changed), 0) FROM purchases").fetchone()[0])

    def changes(self, since: int, owner: str) -> list[Change]:
        """What others than this owner changed after the change of that number."""
        query = f"SELECT {_STATE} FROM purchases WHERE changed > ? AND owner != ? ORDER BY changed"
        with self._reading() as connection:
            rows = connection.execute(query, (since, owner)).fetchall()
        return [
            Change(key, _expense(characters, cost, sends, sent, sent_cost, until), by, content is not None)
            for key, content, characters, cost, sends, sent, sent_cost, by, until in rows
        ]

    def in_flight(self, keys: Iterable[str] | None = None) -> list[InFlight]:
        """Purchases with sends that got no answer, sorted by key; all of them, or those among the keys."""
        columns = "key, request, sends, sent_characters, sent_cost, content IS NOT NULL"
        return [
            InFlight(
                key, Purchase(**json.loads(request)), sends, Charge(sends * characters, sends * cost), bool(answered)
            )
            for key, request, sends, characters, cost, answered in sorted(self._select(columns, "sends > 0", keys))
        ]

    def lost(self, keys: Iterable[str]) -> dict[str, Charge]:
        """What the sends of these keys that got no answer may have cost; keys without such a send are left out."""
        with self._reading() as connection:
            if not connection.execute("SELECT EXISTS (SELECT 1 FROM purchases WHERE sends > 0)").fetchone()[0]:
                return {}
        rows = self._select("key, sends * sent_characters, sends * sent_cost", "sends > 0", keys)
        return {key: Charge(characters, cost) for key, characters, cost in rows}

    def has_rows(self) -> bool:
        """Whether there is a finished row at all."""
        with self._reading() as connection:
            return bool(connection.execute("SELECT EXISTS (SELECT 1 FROM rows)").fetchone()[0])

    def find_rows(self, keys: Sequence[bytes]) -> dict[bytes, Any]:
        """Finished rows, which whoever added them derived from answers; see translate/memo.py."""
        with self._reading() as connection:
            marks = ", ".join("?" * len(keys))
            found = connection.execute(f"SELECT key, value FROM rows WHERE key IN ({marks})", keys).fetchall()
        return {key: json.loads(value) for key, value in found}

    def add_rows(self, code: str, values: Mapping[bytes, Any]) -> None:
        """Keep finished rows, derived by code of that fingerprint."""
        with self._transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO rows (key, code, value) VALUES (?, ?, ?)",
                [(key, code, compact_json(value)) for key, value in values.items()],
            )

    def forget_rows(self, code: str) -> None:
        """Drop the finished rows that other code derived."""
        with self._reading() as connection:
            query = "SELECT EXISTS (SELECT 1 FROM rows WHERE code < ?) + EXISTS (SELECT 1 FROM rows WHERE code > ?)"
            others = connection.execute(query, (code, code)).fetchone()[0]
        if others:
            with self._transaction() as connection:
                connection.execute("DELETE FROM rows WHERE code != ?", (code,))

    def stats(self) -> list[Stats]:
        """Totals by kind, engine and model, sorted."""
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT kind, engine, model, count(content), sum(characters), sum(cost), sum(sends),"
                " sum(sends * sent_characters), sum(sends * sent_cost) FROM purchases"
                " WHERE sends > 0 OR content IS NOT NULL GROUP BY kind, engine, model ORDER BY kind, engine, model"
            ).fetchall()
        return [
            Stats(kind, engine, model, answered, characters, cost, sends, Charge(lost_characters, lost_cost))
            for kind, engine, model, answered, characters, cost, sends, lost_characters, lost_cost in rows
        ]

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def rows(self, of: tuple[str, str, str] | None = None) -> Iterator[dict[str, Any]]:
        """Every purchase in the form of an export, sorted by key.

        Args:
            of: kind, engine and model, of which alone they are to be.

        Raises:
            StateError: a damaged file.
        """
        return self._rows("(kind, engine, model) = (?, ?, ?)" if of else "1", of or ())

    def rows_of(self, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The purchases with these keys, as `rows`."""
        for start in range(0, len(keys), _KEYS_A_QUERY):
            part = keys[start : start + _KEYS_A_QUERY]
            yield from self._rows(f"key IN ({', '.join('?' * len(part))})", part)

    def _rows(self, condition: str, parameters: Sequence[str]) -> Iterator[dict[str, Any]]:
        columns = "key, request, sends, sent_characters, sent_cost, content, characters, cost"
        query = f"SELECT {columns} FROM purchases WHERE (sends > 0 OR content IS NOT NULL) AND {condition} ORDER BY key"
        with self._reading() as connection:
            for row in connection.execute(query, parameters):
                values = dict(zip(columns.split(", "), row, strict=True))
                for name in ("request", "content"):
                    values[name] = None if values[name] is None else self._json(values["key"], values[name])
                yield values

    def add_answered(self, rows: Iterable[tuple[Purchase, Mapping[str, Any]]]) -> int:
        """Add rows of another ledger that are not answered here yet.

        Returns:
            Number of rows added.
        """
        added = 0
        with self._transaction() as connection:
            change = self._next_change()
            for purchase, row in rows:
                content = None if row["content"] is None else compact_json(row["content"])
                added += connection.execute(
                    "INSERT INTO purchases (key, request, kind, engine, model, sends, sent_characters, sent_cost,"
                    " content, characters, cost, changed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                    " ON CONFLICT (key) DO UPDATE SET content = excluded.content, characters = excluded.characters,"
                    " cost = excluded.cost, changed = excluded.changed WHERE content IS NULL",
                    (
                        *(
                            purchase.key,
                            compact_json(purchase.to_row()),
                            purchase.kind,
                            purchase.engine,
                            purchase.model,
                        ),
                        *(row["sends"], row["sent_characters"], row["sent_cost"]),
                        *(content, row["characters"], row["cost"], change),
                    ),
                ).rowcount
        return added

    def _entry(self, engine: str, key: str, content: str | None, *state: Any) -> Entry:
        if content is None:
            return self._stands(key, None, *state)
        value = self._json(key, content)
        fault = content_fault(engine, value)
        if fault is not None:
            raise StateError(f"The ledger '{self.path}', row {key}: {fault} - {_SALVAGE}.")
        return self._stands(key, value, *state)

    def _stands(self, key: str, content: dict[str, Any] | None, *state: Any) -> Entry:
        """A row with the content of its answer; `state` are the columns of _STATE after `content`."""
        characters, cost, sends, sent_characters, sent_cost, owner, until = state
        fault = charge_fault(characters, cost) or charge_fault(sent_characters, sent_cost)
        if fault is not None or not isinstance(sends, int):
            raise StateError(f"The ledger '{self.path}', row {key}: {fault or f'{sends} sends'} - {_SALVAGE}.")
        answer = None if content is None else Answer(content, characters, cost)
        expense = _expense(characters, cost, sends, sent_characters, sent_cost, until)
        return Entry(key, answer, expense, owner, until)

    def _json(self, key: str, text: Any) -> Any:
        try:
            return json.loads(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise StateError(f"The ledger '{self.path}', row {key}: no JSON ({error}) - {_SALVAGE}.") from error

    def _next_change(self) -> int:
        return self.last_change() + 1

    def _select(self, columns: str, condition: str, keys: Iterable[str] | None) -> list[Any]:
        query = f"SELECT {columns} FROM purchases WHERE {condition}"
        with self._reading() as connection:
            if keys is None:
                return connection.execute(query).fetchall()
            chosen, rows = list(keys), []
            for start in range(0, len(chosen), _KEYS_A_QUERY):
                part = chosen[start : start + _KEYS_A_QUERY]
                marks = ", ".join("?" * len(part))
                rows += connection.execute(f"{query} AND key IN ({marks})", part).fetchall()
            return rows

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._connection
            except sqlite3.Error as error:
                raise self._meaning(error) from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._connection.in_transaction:
                yield self._connection
                return
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise self._meaning(error) from error
                raise

    def _meaning(self, error: sqlite3.Error) -> StateError:
        if isinstance(error, sqlite3.OperationalError):
            return StateError(
                f"The ledger '{self.path}' cannot be written ({error}) - end the process that holds it, or free disk space."
            )
        return StateError(f"The ledger '{self.path}' is damaged ({error}) - {_SALVAGE}.")


_SALVAGE = "`kollm ledger check` lists what is wrong, `kollm ledger salvage NEW` saves what is left"


def _expense(
    characters: int, cost: float, sends: int, sent_characters: int, sent_cost: float, leased_until: float | None
) -> Expense:
    if not sends:
        return Expense(Charge(characters, cost))  # as of most
    under_way = 1 if leased_until is not None and sends > 0 else 0
    lost = sends - under_way
    return Expense(
        Charge(characters, cost),
        Charge(lost * sent_characters, lost * sent_cost),
        Charge(under_way * sent_characters, under_way * sent_cost),
    )
