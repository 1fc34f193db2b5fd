"""The ledger: what is answered is found, what is in flight stays listed, and exports travel."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner

from kollm.cli.ledger import ledger as ledger_command
from kollm.core.errors import InputError, StateError
from kollm.services.ledger import Answer, Charge, Ledger, Order, Purchase
from kollm.services.ledger.transfer import export_ledger, import_ledger


def purchase(text: str = "Hello.", **changes: object) -> Purchase:
    values = {"kind": "translate", "engine": "deepl", "base_url": "http://x", "model": "", "options": {}, "context": ""}
    return Purchase(**{**values, "text": text, **changes})  # type: ignore[arg-type]


def begin(book: Ledger, items: list[Purchase], characters: int | list[int] = 0, cost: float = 0.0) -> None:
    counts = characters if isinstance(characters, list) else [characters] * len(items)
    book.begin({item.key: (item, Charge(count, cost)) for item, count in zip(items, counts, strict=True)})


def answer(book: Ledger, key: str, content: dict[str, object], characters: int = 0, cost: float = 0.0) -> None:
    book.answer_all({key: Answer(content, characters, cost)})


@pytest.fixture
def book(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path / "ledger.sqlite3")


def test_an_order_makes_the_purchases_that_its_texts_would_be() -> None:
    options = {"custom_instructions": ["존댓말로", "é"], "glossary": None, "tags": {"b": 1.5, "a": False}}
    order = Order(purchase(options=options, attempt=2, sample=1, context="그 앞"))
    for text in ("", "Hello.", '"}', "한국어\n\ud83d😀"):
        made = purchase(text, options=options, attempt=2, sample=1, context="그 앞")
        assert order.purchase(text) == made
        assert order.purchase(text).key == made.key


def test_every_field_is_part_of_the_key() -> None:
    changed = [
        {"kind": "judge"},
        {"engine": "openai"},
        {"base_url": "http://y"},
        {"model": "m"},
        {"options": {"a": 1}},
        {"context": "c"},
        {"text": "Bye."},
        {"attempt": 2},
        {"sample": 1},
    ]
    keys = {purchase(**change).key for change in changed} | {purchase().key}
    assert len(keys) == len(changed) + 1
    assert purchase(options={"a": 1, "b": 2}).key == purchase(options={"b": 2, "a": 1}).key


def test_begin_answer_find(book: Ledger) -> None:
    item = purchase("a lone \ud800 surrogate")
    assert book.find([item.key]) == {}
    begin(book, [item], characters=7, cost=0.5)
    assert book.find([item.key]) == {}
    assert book.lost([item.key]) == {item.key: Charge(7, 0.5)}
    answer(book, item.key, {"text": "안녕 \udfff"}, characters=6, cost=0.25)
    assert book.find([item.key, "other"]) == {item.key: Answer({"text": "안녕 \udfff"}, 6, 0.25)}
    assert book.in_flight() == [] and book.lost([item.key]) == {}


def test_a_send_without_an_answer_stays_counted_after_a_later_one_was_answered(book: Ledger) -> None:
    item = purchase()
    begin(book, [item], characters=10)
    begin(book, [item], characters=10)
    assert book.lost([item.key]) == {item.key: Charge(20, 0.0)}
    answer(book, item.key, {"text": "x"}, characters=10)
    (left,) = book.in_flight()
    assert (left.purchase, left.sends, left.charge, left.answered) == (item, 1, Charge(10, 0.0), True)
    assert book.stats()[0].in_flight == 1 and book.stats()[0].lost == Charge(10, 0.0)


def test_how_purchases_stand_is_told_without_reading_their_answers(book: Ledger) -> None:
    items = [purchase(text) for text in ("answered", "sent", "sent twice", "unknown")]
    keys = [item.key for item in items]
    begin(book, items[:3], [7, 8, 9], cost=0.5)
    answer(book, keys[0], {"text": "답"}, 3, 0.25)
    begin(book, items[2:3], 9, cost=0.5)
    looked = book.look(keys)
    assert looked[keys[0]].answer == Answer({"text": "답"}, 3, 0.25)
    told = {entry.key: entry for entry in book.standing(keys)}
    assert told == {
        key: entry if entry.answer is None else entry._replace(answer=entry.answer._replace(content={}))
        for key, entry in looked.items()
    }


def test_release_takes_back_one_send(book: Ledger) -> None:
    refused, sent_twice = purchase("refused"), purchase("sent twice")
    begin(book, [refused, sent_twice], characters=[5, 6])
    begin(book, [sent_twice], characters=6)
    book.end_leases([refused.key, sent_twice.key], charged=False)
    assert [(item.purchase.text, item.sends) for item in book.in_flight()] == [("sent twice", 1)]
    assert book.in_flight([refused.key]) == []


def test_answer_without_begin_is_an_error(book: Ledger) -> None:
    with pytest.raises(StateError, match="begin it before"):
        answer(book, "sha256:0", {"text": "x"})
    known = purchase()
    begin(book, [known])
    with pytest.raises(StateError):
        book.answer_all({known.key: Answer({"text": "x"}), "sha256:0": Answer({"text": "x"})})
    assert book.find([known.key]) == {}, "one transaction: all answers or none"


def test_many_keys(book: Ledger) -> None:
    items = [purchase(str(number)) for number in range(1203)]
    begin(book, items)
    book.answer_all({item.key: Answer({"text": item.text}) for item in items})
    found = book.find(item.key for item in items)
    assert [found[item.key].content["text"] for item in items] == [item.text for item in items]


def test_export_and_import(book: Ledger, tmp_path: Path) -> None:
    answered, flying = purchase("answered"), purchase("flying")
    begin(book, [answered, flying], characters=8)
    answer(book, answered.key, {"text": "답"}, characters=8, cost=0.1)
    assert export_ledger(book, tmp_path / "out" / "ledger.jsonl") == 2
    other = Ledger.open(tmp_path / "other.sqlite3")
    begin(other, [answered], characters=8)
    assert import_ledger(other, tmp_path / "out" / "ledger.jsonl") == 1
    assert import_ledger(other, tmp_path / "out" / "ledger.jsonl") == 0
    assert other.find([answered.key, flying.key]) == {answered.key: Answer({"text": "답"}, 8, 0.1)}
    assert [item.answered for item in other.in_flight()] == [True], "its own lost send stays listed"


def test_a_forged_export_adds_nothing(book: Ledger, tmp_path: Path) -> None:
    for number in range(2):
        begin(book, [purchase(str(number))])
        answer(book, purchase(str(number)).key, {"text": "답"})
    path = tmp_path / "ledger.jsonl"
    export_ledger(book, path)
    lines = path.read_text().splitlines()
    path.write_text(lines[0] + "\n" + lines[1].replace('"attempt": 1', '"attempt": 2') + "\n")
    other = Ledger.open(tmp_path / "other.sqlite3")
    with pytest.raises(InputError, match="row 2: the key"):
        import_ledger(other, path)
    path.write_text('{"a": 1}\n')
    with pytest.raises(InputError, match="row 1: not a ledger export"):
        import_ledger(other, path)
    assert other.stats() == []


def test_default_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOLLM_LEDGER", str(tmp_path / "deep" / "book.sqlite3"))
    assert Ledger.open().path == tmp_path / "deep" / "book.sqlite3"
    monkeypatch.delenv("KOLLM_LEDGER")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert Ledger.open().path == tmp_path / "data" / "kollm" / "ledger.sqlite3"


def test_a_home_that_cannot_be_written_names_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").write_text("a file, as a container's home may be none")
    monkeypatch.delenv("KOLLM_LEDGER", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    with pytest.raises(InputError, match=r"home/kollm' cannot be written \(.*\) - set KOLLM_LEDGER to a file in one"):
        Ledger.open()


def test_not_a_ledger(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("These are notes, not a database. " * 40)
    with pytest.raises(StateError, match="cannot be opened as a ledger"):
        Ledger.open(path)


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    book = Ledger.open(tmp_path / "ledger.sqlite3")
    book._connection.execute("PRAGMA max_page_count = 12")
    with pytest.raises(StateError, match=r"cannot be written .*database or disk is full"):
        begin(book, [purchase("long " * 50_000)])
    assert book.stats() == []
    begin(book, [purchase("short")])
    assert len(book.in_flight()) == 1


def test_finished_rows_of_other_code_are_forgotten(book: Ledger) -> None:
    book.add_rows("one", {b"a": {"text": "가"}, b"b": ["\ud800"]})
    assert book.has_rows()
    book.forget_rows("one")
    assert book.find_rows([b"a", b"b", b"c"]) == {b"a": {"text": "가"}, b"b": ["\ud800"]}
    book.forget_rows("two")
    assert book.find_rows([b"a", b"b"]) == {}
    assert not book.has_rows()


def test_a_later_version_is_refused(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "ledger.sqlite3"
    Ledger.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StateError, match="version 99"):
        Ledger.open(path)


def _write_until_killed(path: Path, pipe: object) -> None:
    book = Ledger.open(path)
    for number in range(100_000):
        item = purchase(str(number))
        begin(book, [item], characters=1)
        answer(book, item.key, {"text": item.text}, characters=1)
        pipe.send(number)  # type: ignore[attr-defined]


def test_kill_9_loses_no_answer(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_write_until_killed, args=(tmp_path / "ledger.sqlite3", theirs))
    process.start()
    theirs.close()
    while ours.recv() < 20:
        pass
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    last = 20
    try:
        while True:
            last = ours.recv()
    except EOFError:
        pass
    book = Ledger.open(tmp_path / "ledger.sqlite3")
    assert len(book.find(purchase(str(number)).key for number in range(last + 1))) == last + 1
    assert book.stats()[0].in_flight <= 1


def test_command(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    run = CliRunner()
    assert "nothing bought yet" in run.invoke(ledger_command, ["stats", "--ledger", str(path)]).output
    with Ledger.open(path) as book:
        begin(book, [purchase("Good morning."), purchase("Good night.")], characters=13)
        answer(book, purchase("Good morning.").key, {"text": "좋은 아침입니다."}, characters=13, cost=0.01)
    shown = run.invoke(ledger_command, ["stats", "--ledger", str(path), "--in-flight"]).output
    assert "translate deepl -: 1 text answered, 13 characters, USD 0.01; 1 sent without an answer" in shown
    assert "sent 1x, not answered: Good night." in shown
    export = tmp_path / "export.jsonl"
    assert "2 rows written" in run.invoke(ledger_command, ["export", "--ledger", str(path), str(export)]).output
    other = str(tmp_path / "other.sqlite3")
    assert "1 answer added" in run.invoke(ledger_command, ["import", "--ledger", other, str(export)]).output
