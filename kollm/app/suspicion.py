"""Which translations to look at first: a score for every row of a dataset, counted once by a process of its own.

The scores stand in a SQLite file in the notes beside the dataset and can be deleted at any time. Pages read it while
it grows, so that nobody waits for the last row before the first.
"""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from kollm.core.errors import InputError
from kollm.core.records import Record
from kollm.dataset.folder import dataset_fingerprint, read_any_records, read_records
from kollm.quality.completeness import LONG_ENOUGH, LONGEST, SHORTEST
from kollm.quality.filters import mixed_register
from kollm.quality.language import LEAST_HANGUL, hangul_share
from kollm.quality.review import find_hits
from kollm.quality.view import View

CONTROL = 0.02
"""Share of the rows that nothing speaks against that are looked at all the same, so that the rest has an error rate."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS scored (id TEXT PRIMARY KEY, score REAL NOT NULL, control INTEGER NOT NULL, reasons TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS by_score ON scored (score DESC, id);
CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
_BATCH = 500


class Suspicion(NamedTuple):
    """How suspect a row is, from 0, and why."""

    score: float
    reasons: list[str]


class Scored(NamedTuple):
    """A row's suspicion as it stands in the file; `control`: it is looked at as one of the random sample."""

    id: str
    score: float
    control: bool
    reasons: list[str]


def suspect(record: Record) -> Suspicion:
    """Weigh what speaks against a translation: 1 for each hit of a detector, less for what is only near a limit."""
    score = 0.0
    reasons = []
    for hit in find_hits(record):
        score += 1.0
        reasons.append(hit.kind)
    view = View(record)
    for name, english, korean in view.compared():
        if len(english) >= LONG_ENOUGH:
            ratio = len(korean) / len(english)
            if ratio < 1.5 * SHORTEST or ratio > 0.75 * LONGEST:
                score += 0.5
                reasons.append(f"length near a limit: {name}")
        if len(korean) >= LONG_ENOUGH and LEAST_HANGUL <= hangul_share(view.prose(name)) < 1.5 * LEAST_HANGUL:
            score += 0.3
            reasons.append(f"little Hangul: {name}")
    if mixed_register(view):
        score += 0.4
        reasons.append("mixed register")
    return Suspicion(score, sorted(set(reasons)))


def is_control(id: str, share: float = CONTROL) -> bool:
    """Whether a row belongs to the random control sample: decided by its id, so that everyone has the same sample."""
    return int.from_bytes(blake2b(id.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "big") < share * 2**32


class SuspicionIndex:
    """The scores of one dataset.

    Args:
        dataset: the dataset folder.
        notes: the folder for the file.
    """

    def __init__(self, dataset: Path, notes: Path) -> None:
        self._dataset = dataset
        self._path = notes / "suspicion.sqlite3"
        self._process: multiprocessing.process.BaseProcess | None = None
        self._starting = threading.Lock()

    def start(self) -> None:
        """Begin to score in a process of its own, unless that is done for this dataset or under way.

        Raises:
            InputError: the notes cannot be written.
        """
        with self._starting:  # two requests may be the first
            if (self._process is not None and self._process.is_alive()) or not self.prepare():
                return
            context = multiprocessing.get_context("spawn")
            self._process = context.Process(target=score_dataset, args=(self._dataset, self._path), daemon=True)
            self._process.start()

    def prepare(self) -> bool:
        """Make the file, without scores of another state of the dataset; whether rows are left to score.

        Raises:
            InputError: the notes cannot be written.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(_connect(self._path)) as database, database:
                database.executescript(_SCHEMA)
                known = dict(database.execute("SELECT key, value FROM state"))
                if known.get("dataset") != (fingerprint := dataset_fingerprint(self._dataset)):
                    database.execute("DELETE FROM scored")
                    database.execute("DELETE FROM state")
                    database.execute("INSERT INTO state VALUES ('dataset', ?)", [fingerprint])
                return not known.get("whole") or known.get("dataset") != fingerprint
        except (OSError, sqlite3.Error) as error:
            raise InputError(
                f"'{self._path.parent}' cannot be written ({error}) - reviews need a folder beside the dataset; copy it to "
                "one of yours."
            ) from error

    def stop(self) -> None:
        """End the process, if it runs."""
        if self._process is not None and self._process.is_alive():
            self._process.terminate()
            self._process.join(5)

    def counts(self) -> tuple[int, bool]:
        """Rows scored so far, and whether that is all of them."""
        with closing(_connect(self._path)) as database:
            ((rows,),) = database.execute("SELECT count(*) FROM scored")
            return int(rows), database.execute("SELECT 1 FROM state WHERE key = 'whole'").fetchone() is not None

    def queue(self, count: int, without: set[str], control: bool = False) -> list[Scored]:
        """The next rows to look at, worst first; with `control`, of the random sample, in an order that ids decide."""
        order = "control = 1 AND score = 0 ORDER BY id" if control else "score > 0 ORDER BY score DESC, id"
        found = []
        with closing(_connect(self._path)) as database:
            for row in database.execute(f"SELECT id, score, control, reasons FROM scored WHERE {order}"):
                if row[0] not in without:
                    found.append(_scored(row))
                if len(found) == count:
                    break
        return found

    def ids(self, control: bool = False, reason: str = "") -> set[str]:
        """Ids of the suspected rows, or of the control sample; with `reason`, of those that it speaks against."""
        condition = "control = 1 AND score = 0" if control else "score > 0"
        values = []
        if reason:
            condition += " AND EXISTS (SELECT 1 FROM json_each(reasons) WHERE json_each.value = ?)"
            values.append(reason)
        with closing(_connect(self._path)) as database:
            return {id for (id,) in database.execute(f"SELECT id FROM scored WHERE {condition}", values)}

    def reasons(self) -> list[tuple[str, int]]:
        """How many rows each reason speaks against, the most frequent first."""
        with closing(_connect(self._path)) as database:
            return list(
                database.execute(
                    "SELECT json_each.value, count(*) FROM scored, json_each(scored.reasons) GROUP BY 1 ORDER BY 2 DESC, 1"
                )
            )

    def get(self, id: str) -> Scored | None:
        """A row's score; None if it has none yet."""
        with closing(_connect(self._path)) as database:
            row = database.execute("SELECT id, score, control, reasons FROM scored WHERE id = ?", [id]).fetchone()
        return _scored(row) if row else None


def score_dataset(dataset: Path, path: Path) -> None:
    """Score every translated row of a dataset, the rejected ones too, and write the scores batch by batch."""
    parent = multiprocessing.parent_process()
    with closing(_connect(path)) as database:
        done = {id for (id,) in database.execute("SELECT id FROM scored")}
        batch: list[tuple[str, float, int, str]] = []
        for record in _translated(dataset):
            if record.id in done:
                continue
            found = suspect(record)
            reasons = json.dumps(found.reasons, ensure_ascii=False)
            batch.append((record.id, found.score, int(is_control(record.id)), reasons))
            if len(batch) == _BATCH:
                _write(database, batch)
                batch = []
                if parent is not None and not parent.is_alive():
                    return  # the server was killed: the next one goes on from here
        _write(database, batch)
        with database:
            database.execute("INSERT OR REPLACE INTO state VALUES ('whole', '1')")


def _translated(dataset: Path) -> Iterator[Record]:
    yield from (record for record in read_records(dataset) if record.original is not None)
    yield from (record for record in read_any_records(dataset, "rejected") if record.original is not None)


def _write(database: sqlite3.Connection, batch: list[tuple[str, float, int, str]]) -> None:
    with database:
        database.executemany("INSERT OR REPLACE INTO scored VALUES (?, ?, ?, ?)", batch)


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=30)
    database.execute("PRAGMA journal_mode = WAL")
    return database


def _scored(row: tuple[str, float, int, str]) -> Scored:
    return Scored(row[0], row[1], bool(row[2]), json.loads(row[3]))
