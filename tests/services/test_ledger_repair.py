"""What comes into a ledger is checked, and of a damaged one everything sound is saved."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kollm.cli import cli
from kollm.core.errors import InputError, StateError
from kollm.services.ledger import Answer, Charge, Ledger, Purchase
from kollm.services.ledger.repair import check_ledger, salvage_ledger
from kollm.services.ledger.transfer import export_ledger, import_ledger

ROWS = 400
CHAT = {
    "text": "답",
    "finish_reason": "stop",
    "refusal": "",
    "logprobs": None,
    "model": "m",
    "usage": {},
    "fingerprint": "",
}


def bought(number: int, engine: str = "deepl") -> Purchase:
    return Purchase("translate", engine, "http://x", "", {"a": 1}, "", f"text {number} " * (number % 7 * 300 + 1))


def filled(path: Path, rows: int = ROWS) -> Path:
    with Ledger.open(path) as ledger:
        items = {item.key: item for item in map(bought, range(rows))}
        ledger.begin({key: (item, Charge(7, 0.5)) for key, item in items.items()})
        ledger.answer_all(
            {key: Answer({"text": f"한국어 {item.text}"}, 7, 0.5) for key, item in list(items.items())[: rows - 10]}
        )
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"content": ["a"]}, "the answer is a list, not an object"),
        ({"content": {}}, "the answer holds no text and no reason"),
        ({"content": {"text": 5}}, "the answer holds no text and no reason"),
        ({"cost": -1.0}, "cost is -1.0 - it must be USD from 0 to 10,000"),
        ({"cost": 1e300}, "cost is 1e+300"),
        ({"cost": "0"}, "cost is 0"),
        ({"characters": -5}, "characters is -5 - it must be a whole number"),
        ({"characters": True}, "characters is True"),
        ({"characters": 1.5}, "characters is 1.5"),
        ({"sent_characters": 10**30}, "sent_characters is 1000"),
        ({"sends": None}, "sends is None"),
        ({"request": []}, "the request is not one of kollm's purchases"),
        ({"request": {"kind": "translate"}}, "the request is not one of kollm's purchases"),
        ({"key": 5}, "does not fit the row"),
        ({"more": 1}, "not a ledger export"),
    ],
)
def test_import_takes_sound_rows_alone(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    with Ledger.open(filled(tmp_path / "ledger.sqlite3", 12)) as ledger:
        export_ledger(ledger, tmp_path / "export.jsonl")
    lines = (tmp_path / "export.jsonl").read_text(encoding="utf-8").splitlines()
    answered = next(n for n, line in enumerate(lines) if json.loads(line)["content"] is not None)
    lines[answered] = json.dumps({**json.loads(lines[answered]), **change})
    (tmp_path / "export.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with Ledger.open(tmp_path / "other.sqlite3") as other:
        with pytest.raises(InputError) as caught:
            import_ledger(other, tmp_path / "export.jsonl")
        assert f"row {answered + 1}: " in str(caught.value) and words in str(caught.value)
        assert list(other.rows()) == [], "nothing was added"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("NaN", "line 2: NaN is no number that JSON has"),
        ("-Infinity", "line 2: -Infinity is no number that JSON has"),
        ("1e999", "row 2: cost is inf - it must be USD from 0 to 10,000"),
    ],
)
def test_import_takes_no_cost_without_end(number: str, words: str, tmp_path: Path) -> None:
    with Ledger.open(filled(tmp_path / "ledger.sqlite3", 12)) as ledger:
        export_ledger(ledger, tmp_path / "export.jsonl")
    lines = (tmp_path / "export.jsonl").read_text(encoding="utf-8").splitlines()
    lines[1] = json.dumps({**json.loads(lines[1]), "cost": "PLACE"}).replace('"PLACE"', number)
    (tmp_path / "export.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with Ledger.open(tmp_path / "other.sqlite3") as other:
        with pytest.raises(InputError, match=words):
            import_ledger(other, tmp_path / "export.jsonl")
        assert list(other.rows()) == [], "nothing was added"


@pytest.mark.parametrize(
    "content", [{}, {"text": "x"}, {**CHAT, "usage": "many"}, {**CHAT, "text": None}, {**CHAT, "logprobs": [1]}]
)
def test_answers_of_a_chat_model_have_their_form(content: dict[str, Any], tmp_path: Path) -> None:
    item = bought(1, "openai")
    with Ledger.open(tmp_path / "ledger.sqlite3") as ledger:
        ledger.begin({item.key: (item, Charge())})
        with pytest.raises(StateError, match="cannot be kept"):
            ledger.answer_all({item.key: Answer(content)})
        ledger.answer_all({item.key: Answer(CHAT)})
        assert ledger.find([item.key]) == {item.key: Answer(CHAT)}


@pytest.mark.parametrize("poison", ["content = '[1]'", "content = '{'", "cost = -3", "characters = 'many'"])
def test_a_poisoned_row_is_named_when_it_is_read(poison: str, tmp_path: Path) -> None:
    path = filled(tmp_path / "ledger.sqlite3", 12)
    key = bought(0).key
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE purchases SET {poison} WHERE key = ?", (key,))
    connection.close()
    with Ledger.open(path) as ledger, pytest.raises(StateError, match=f"row {key}: .*kollm ledger salvage"):
        ledger.find([key])
    assert len(check_ledger(path).faults) == 1
    saved = salvage_ledger(path, tmp_path / "new.sqlite3")
    assert (saved.rows, saved.answered) == (11, 1) and saved.left_out == 1
    assert check_ledger(tmp_path / "new.sqlite3").faults == []


@pytest.mark.parametrize("damage", ["header", "schema", "index", "middle", "end", "log"])
def test_what_is_left_is_saved(damage: str, tmp_path: Path) -> None:
    path = filled(tmp_path / "ledger.sqlite3")
    if damage == "log":  # killed: the rows are in the write-ahead log alone
        whole = Ledger.open(path)
        item = bought(ROWS)
        whole.begin({item.key: (item, Charge())})
        whole.answer_all({item.key: Answer({"text": "late"})})
        path = tmp_path / "copy.sqlite3"
        shutil.copy(whole.path, path)
        shutil.copy(f"{whole.path}-wal", f"{path}-wal")
        with path.open("r+b") as file:
            file.write(b"\0" * 100)
    size = path.stat().st_size
    place = {"header": (0, 16), "schema": (100, 3000), "index": (size // 2, 100), "middle": (size // 2 // 4096 * 4096, 8192), "end": (size - 4096, 4096), "log": (0, 100)}[damage]  # fmt: skip
    with path.open("r+b") as file:
        file.seek(place[0])
        file.write(random.Random(1).randbytes(place[1]))
    before = path.read_bytes()
    checked = check_ledger(path)
    saved = salvage_ledger(path, tmp_path / "new.sqlite3")
    assert path.read_bytes() == before, "the damaged ledger stays as it is"
    assert checked.faults or saved.rows >= ROWS
    assert saved.rows >= (ROWS - 20 if damage in ("middle", "end", "index") else ROWS), saved
    with Ledger.open(tmp_path / "new.sqlite3") as ledger:
        answers = ledger.find(bought(number).key for number in range(ROWS + 1))
    assert len(answers) == saved.answered
    assert all(
        answers[bought(n).key] == Answer({"text": f"한국어 {bought(n).text}"}, 7, 0.5)
        for n in range(ROWS)
        if bought(n).key in answers
    )
    if damage == "log":
        assert answers[bought(ROWS).key].content == {"text": "late"}


def test_nothing_to_save(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(random.Random(1).randbytes(10_000))
    with pytest.raises(StateError, match="Nothing of the ledger"):
        salvage_ledger(path, tmp_path / "new.sqlite3")
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(InputError, match="exists already"):
        salvage_ledger(path, path)


def test_commands(tmp_path: Path) -> None:
    path = filled(tmp_path / "ledger.sqlite3", 20)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["ledger", *arguments, "--ledger", str(path)])

    assert "20 rows, all sound" in run("check").output
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE purchases SET cost = -1 WHERE key = ?", (bought(3).key,))
    connection.close()
    checked = run("check")
    assert isinstance(checked.exception, StateError) and "has 1 fault " in str(checked.exception)
    assert f"row {bought(3).key}: cost is -1.0" in checked.output
    saved = run("salvage", str(tmp_path / "new.sqlite3"))
    assert "19 rows saved" in saved.output and "1 left out as not sound" in saved.output


def test_the_file_is_its_users_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        ledger = Ledger.open(tmp_path / "ledger.sqlite3")
        item = bought(1)
        ledger.begin({item.key: (item, Charge())})
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
        assert modes and set(modes.values()) == {0o600}
    finally:
        os.umask(before)


def test_a_ledger_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    path, item = tmp_path / "ledger.sqlite3", bought(1)
    connection = sqlite3.connect(path)
    connection.executescript(
        "CREATE TABLE purchases (key TEXT PRIMARY KEY, request TEXT NOT NULL, kind TEXT NOT NULL, engine TEXT NOT NULL,"
        " model TEXT NOT NULL, sends INTEGER NOT NULL, sent_characters INTEGER NOT NULL, sent_cost REAL NOT NULL,"
        " content TEXT, characters INTEGER NOT NULL DEFAULT 0, cost REAL NOT NULL DEFAULT 0);"
        "CREATE INDEX unanswered ON purchases (key) WHERE sends > 0;"
        "CREATE TABLE rows (key BLOB PRIMARY KEY, code TEXT NOT NULL, value TEXT NOT NULL); PRAGMA user_version = 1;"
    )
    values = (item.key, json.dumps(item.to_row()), 1, 9, 0.5, '{"text": "답"}', 9, 0.5)
    connection.execute("INSERT INTO purchases VALUES (?, ?, 'translate', 'deepl', '', ?, ?, ?, ?, ?, ?)", values)
    connection.commit()
    connection.close()
    with Ledger.open(path) as ledger:
        assert ledger.find([item.key]) == {item.key: Answer({"text": "답"}, 9, 0.5)}
        assert ledger.lost([item.key]) == {item.key: Charge(9, 0.5)}


def test_a_disk_without_file_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger of several processes is refused there, in one sentence; one that a process has for itself does without."""

    class Lustre(sqlite3.Connection):
        locks = True

        def execute(self, sql: str, /, *parameters: Any) -> sqlite3.Cursor:
            if self.locks and sql.startswith("PRAGMA journal_mode"):
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorname = "SQLITE_IOERR_LOCK"
                raise error
            return super().execute(sql, *parameters)

    def connect(address: str, **options: Any) -> sqlite3.Connection:
        made: Lustre = real(address, factory=Lustre, **options)
        made.locks = "vfs=unix-none" not in address
        return made

    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", connect)
    with pytest.raises(StateError, match=r"has no file locks.* set KOLLM_LEDGER to a file on a disk of this machine"):
        Ledger.open(tmp_path / "a.sqlite3")
    assert not list(tmp_path.iterdir())
    with Ledger.open(tmp_path / "b.sqlite3", alone=True) as ledger:
        ledger.begin({"k": (bought(1), Charge(7, 0.5))})
    monkeypatch.undo()
    with Ledger.open(tmp_path / "b.sqlite3") as ledger:
        assert len(ledger.stats()) == 1


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "photos.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE photos (name TEXT)")
    connection.close()
    with pytest.raises(StateError, match="another program's database"):
        Ledger.open(path)
