"""The ledger's file: where it is, who may read it, its tables, and what an older one is given."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import platformdirs

from kollm.core.errors import InputError, StateError
from kollm.core.files import ensure_folder

SCHEMA_VERSION = 2
_OPENING_SECONDS = 60.0
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
_LEASES = (
    "ALTER TABLE purchases ADD COLUMN owner TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE purchases ADD COLUMN leased_until REAL",
    "ALTER TABLE purchases ADD COLUMN changed INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX changes ON purchases (changed)",
)
"""From version 1 to 2: who changed a row last, until when it may be sent, and the number of the change."""
_NO_LOCKS = ("SQLITE_IOERR_LOCK", "SQLITE_IOERR_RDLOCK", "SQLITE_IOERR_SHMLOCK", "SQLITE_IOERR_CHECKRESERVEDLOCK")
"""What SQLite calls the answers of a disk that has no file locks."""


def default_path() -> Path:
    """`$KOLLM_LEDGER`, else `ledger.sqlite3` in the user's data directory."""
    chosen = os.environ.get("KOLLM_LEDGER")
    return Path(chosen) if chosen else platformdirs.user_data_path("kollm") / "ledger.sqlite3"


def connect(path: Path, alone: bool = False) -> sqlite3.Connection:
    """Connect to a ledger: a new file, which its user alone may read, gets its tables, an older one what it lacks.

    Args:
        path: the file.
        alone: no other process writes it, and every other is kept out where the disk has file locks.

    Raises:
        InputError: the folder cannot be written.
        StateError: the file is not a ledger, is damaged, is one of a later kollm, or several processes may write it and its
            disk has no file locks.
    """
    try:
        ensure_folder(path.parent)
    except InputError as error:
        raise InputError(f"{str(error).partition(' - ')[0]} - set KOLLM_LEDGER to a file in one that can.") from error
    deadline = time.monotonic() + _OPENING_SECONDS
    while True:
        try:
            return _open(path, alone)
        except (sqlite3.DatabaseError, OSError) as error:
            # Another process that makes the same ledger holds it for a moment; SQLite's own wait leaves WAL out.
            if "locked" in str(error) and time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            raise StateError(
                f"'{path}' cannot be opened as a ledger ({error}) - set KOLLM_LEDGER to a ledger or to a new file; of a "
                "damaged ledger `kollm ledger salvage` saves what is left."
            ) from error


def _open(path: Path, alone: bool) -> sqlite3.Connection:
    new = not path.exists()
    if new:  # before SQLite makes it for everyone; its side files take its mode
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    try:
        return _connect(path.absolute().as_uri(), path, alone)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname not in _NO_LOCKS:
            raise
        if alone:
            return _connect(f"{path.absolute().as_uri()}?vfs=unix-none", path, alone)
        if new and not path.stat().st_size:  # nobody can have written there
            path.unlink(missing_ok=True)
        raise StateError(
            f"The disk of the ledger '{path}' has no file locks, and without them two processes would pay for the same - set "
            "KOLLM_LEDGER to a file on a disk of this machine."
        ) from error


def _connect(uri: str, path: Path, alone: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=60, check_same_thread=False, isolation_level=None)
    try:
        if alone:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # an answer is money: it survives a power cut too
        if _version(connection, path) < SCHEMA_VERSION:
            connection.execute("BEGIN IMMEDIATE")
            version = _version(connection, path)
            if version == 0:
                if connection.execute("SELECT EXISTS (SELECT 1 FROM sqlite_master)").fetchone()[0]:
                    raise sqlite3.DatabaseError("it is another program's database")
                for statement in _SCHEMA.split(";\n"):
                    connection.execute(statement)
            if version < SCHEMA_VERSION:
                for statement in _LEASES:
                    connection.execute(statement)
                path.chmod(0o600)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _version(connection: sqlite3.Connection, path: Path) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA_VERSION:
        raise StateError(f"The ledger '{path}' has version {version}, from a later kollm - update kollm.")
    return version
