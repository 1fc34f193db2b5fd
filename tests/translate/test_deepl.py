"""DeepL's real client against the loopback server: batches, what is bought once, replay, settings; its faults are in test_deepl_faults.py."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from kollm.core.errors import InputError, MissingKeyError
from kollm.services.ledger import Ledger
from kollm.translate import Budget, Outcome, Router, make_translator, translate_records, translate_stream
from kollm.translate.rows import recall_stream
from tests.servers.deepl import KEY, DeepLServer
from tests.translate.conftest import Engine, Rows


def texts(outcomes: list[Outcome]) -> list[tuple[str, str, str]]:
    return [(item.record.instruction, item.record.input, item.record.output) for item in outcomes]


def sent(server: DeepLServer) -> list[str]:
    return [text for request in server.state.requests for text in request["text"]]


def test_a_row_travels_as_one_document(server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows) -> None:
    (outcome,) = translate_records(rows(1), engine(), ledger=ledger)
    assert outcome.reason is None
    assert sent(server) == [
        '<d><t n="0">Explain item 0 with <x id="0"/>.</t>'
        '<t n="1">See <x id="1"/> &amp; more <x id="2"/>here<x id="3"/>.</t>'
        '<t n="2"><l n="0">It is 0 things, e.g. one &amp; two.</l><l n="1">first</l><l n="2">second 0</l></t></d>'
    ]
    record = outcome.record
    assert re.fullmatch(r"[가-힣]+ [가-힣]+ 0 [가-힣]+ `code_0`\.", record.instruction)
    assert re.fullmatch(r"[가-힣]+ https://example\.org/0 & [가-힣]+ <b>[가-힣]+</b>\.", record.input)
    assert record.output.count("\n") == 3 and " & " in record.output
    provenance = record.provenance
    assert (record.lang, provenance.engine, provenance.mode, provenance.attempt) == ("ko", "deepl", "row", 1)
    assert provenance.characters == server.state.used
    assert record.original is not None and record.original.input.startswith("See https://example.org/0")


def test_options_that_are_sent(server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows) -> None:
    translate_records(rows(1), engine(glossary="g-1"), ledger=ledger)
    (request,) = server.state.requests
    assert request["tag_handling"] == "xml" and request["tag_handling_version"] == "v2"
    assert request["model_type"] == "quality_optimized" and request["glossary_id"] == "g-1"
    assert any("존댓말" in item for item in request["custom_instructions"])
    assert (request["source_lang"], request["target_lang"]) == ("EN", "KO")


def test_field_mode_sends_fields_apart(server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows) -> None:
    (outcome,) = translate_records(rows(1), engine(), mode="field", ledger=ledger)
    assert len(sent(server)) == 3 and outcome.record.provenance.mode == "field"
    assert outcome.record.provenance.characters == server.state.used
    with pytest.raises(InputError, match="no translation mode 'rows'"):
        translate_records(rows(1), engine(), mode="rows", ledger=ledger)


def test_batches_of_fifty(server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows) -> None:
    outcomes = translate_records(rows(120), engine(), ledger=ledger)
    assert [item.record.id for item in outcomes] == [f"dolly-{number}" for number in range(120)]
    assert sorted(len(request["text"]) for request in server.state.requests) == [20, 50, 50]


def test_batches_by_encoded_bytes(server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows) -> None:
    """7,000 Hangul are 42,000 bytes in the request: three fit, four do not."""
    records = [replace(row, input="", output=f"Say {row.id} {'가' * 7000}") for row in rows(10)]
    outcomes = translate_records(records, engine(), ledger=ledger)
    assert all(item.reason is None for item in outcomes)
    assert sorted(len(request["text"]) for request in server.state.requests) == [1, 3, 3, 3]
    assert server.state.refused == {}


def test_a_row_too_large_for_one_request_is_divided(
    server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows
) -> None:
    record = replace(rows(1)[0], input="Long " * 15_000, output="Very " * 15_000)
    (outcome,) = translate_records([record], engine(), ledger=ledger)
    assert outcome.reason is None and len(server.state.requests) == 2
    assert len(outcome.record.output.split()) == 15_000


def test_a_field_too_large_is_rejected_with_its_reason(
    server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows
) -> None:
    huge, wide = replace(rows(1)[0], output="word " * 400_000), replace(rows(1)[0], id="w", output="나" * 30_000)
    outcomes = translate_records([huge, wide, rows(2)[1]], engine(), ledger=ledger)
    assert [item.reason and item.reason.split(",")[0] for item in outcomes] == [
        "too_long: output has 2",
        "too_long: output takes 180",
        None,
    ]
    assert outcomes[0].record.output == huge.output and outcomes[0].record.lang == "en"


def test_equal_texts_are_bought_once(server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows) -> None:
    records = [replace(rows(1)[0], id=f"dolly-{number}") for number in range(300)]
    outcomes = translate_records(records, engine(), ledger=ledger)
    assert len(sent(server)) == 1 and len(set(texts(outcomes))) == 1
    assert [item.record.provenance.characters for item in outcomes] == [server.state.used] + [0] * 299


def test_a_second_run_asks_nobody(server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows) -> None:
    first = translate_records(rows(70), engine(), ledger=ledger)
    requests, usages = len(server.state.requests), server.state.usage_requests
    budget = Budget(max_characters=server.state.used)
    assert translate_records(rows(70), engine(), ledger=ledger, budget=budget) == first
    assert (len(server.state.requests), server.state.usage_requests) == (requests, usages)
    assert budget.spending().characters == server.state.used and budget.spending().bought == 0
    translate_records(rows(70), engine(instructions=()), ledger=ledger)
    assert len(server.state.requests) == 2 * requests, "other options are another purchase"


def test_one_new_row_before_many_known_ones_is_sent(
    server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows
) -> None:
    """The known rows fill no batch: the new one goes out when its outcome is waited for, not at the end of the input."""
    known = rows(500)
    translate_records(known, engine(), ledger=ledger)
    requests = len(server.state.requests)
    new = replace(known[0], id="dolly-new", output="A changed answer.")
    stream = translate_stream([new, *known], engine(workers=1, batch_texts=2), ledger=ledger)
    assert [item.record.id for item in stream][:2] == ["dolly-new", "dolly-0"]
    assert len(server.state.requests) == requests + 1


@pytest.mark.parametrize("mode", ["row", "field"])
def test_finished_rows_are_a_shortcut_and_nothing_more(
    mode: str, server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows
) -> None:
    """Broken answers, shared texts and rejected rows come out alike from finished rows and from the purchases alone."""
    server.state.spoil = lambda answers: [
        text.replace("<x ", "<y ", 1) if 'id="2"' in text or " 7 " in text else text for text in answers
    ]
    records = [*rows(30), *rows(40), replace(rows(1)[0], id="long", output="w " * 100_000)]
    first = translate_records(records, engine(), mode=mode, ledger=ledger, router=Router())
    used, requests = server.state.used, len(server.state.requests)
    budgets = [Budget(), Budget()]
    assert translate_records(records, engine(), mode=mode, ledger=ledger, router=Router(), budget=budgets[0]) == first
    assert list(recall_stream(records, engine(), ledger, mode=mode, router=Router())) == first
    ledger.forget_rows("other code")
    assert list(recall_stream(records, engine(), ledger, mode=mode, router=Router())) == first
    assert translate_records(records, engine(), mode=mode, ledger=ledger, router=Router(), budget=budgets[1]) == first
    assert [budget.spending().characters for budget in budgets] == [used, used]
    assert len(server.state.requests) == requests
    assert {item.reason and item.reason.split(":")[0] for item in first} == {None, "placeholder", "too_long"}


def test_finished_rows_are_those_of_the_same_rules_and_mode(
    server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows
) -> None:
    record = replace(rows(1)[0], instruction="Write a limerick about cats.")
    routes = [
        translate_records([record], engine(), ledger=ledger, router=router)[0].route
        for router in (None, Router(), Router(evaluation=True), Router([]))
    ]
    assert routes == ["translate", "regenerate", "translate", "translate"]
    assert translate_records([record], engine(), mode="field", ledger=ledger)[0].record.provenance.mode == "field"


def test_nothing_to_translate_is_not_sent(server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows) -> None:
    record = replace(rows(1)[0], instruction="`ls -l`", input="", output="42")
    (outcome,) = translate_records([record], engine(), ledger=ledger)
    assert outcome.reason is None and outcome.record.output == "42" and server.state.requests == []


def test_lone_surrogates_and_control_characters(
    server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows
) -> None:
    record = replace(rows(1)[0], input="a \ud800 surrogate,\x00 a \x0b tab\r\n", output='<x id="0"/> ]]> &amp; <d>')
    (outcome,) = translate_records([record], engine(), ledger=ledger)
    assert outcome.reason is None
    assert [c for c in outcome.record.input if c in "\ud800\x00\x0b\r\n"] == ["\ud800", "\x00", "\x0b", "\r", "\n"]
    assert outcome.record.output == '<x id="0"/> ]]> &amp; <d>'


def test_memory_is_bounded_by_reading_ahead_little(engine: Engine, ledger: Ledger, rows: Rows) -> None:
    read = 0

    def endless() -> object:
        nonlocal read
        for row in rows(20_000):
            read += 1
            yield row

    stream = translate_stream(endless(), engine(workers=1, batch_texts=10), ledger=ledger)  # type: ignore[arg-type]
    for _ in range(10):
        next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert read <= 1000


def test_settings(monkeypatch: pytest.MonkeyPatch, server: DeepLServer, tmp_path: Path, rows: Rows) -> None:
    monkeypatch.delenv("DEEPL_AUTH_KEY", raising=False)
    with pytest.raises(MissingKeyError, match="DEEPL_AUTH_KEY"):
        make_translator("deepl")
    monkeypatch.setenv("DEEPL_AUTH_KEY", KEY)
    monkeypatch.setenv("DEEPL_SERVER_URL", server.url)
    monkeypatch.setenv("KOLLM_LEDGER", str(tmp_path / "default.sqlite3"))
    translator = make_translator("deepl")
    assert translator.base_url == server.url and KEY not in json.dumps(dict(translator.options))
    assert translate_records(rows(1), translator)[0].reason is None
    assert b"loopback-key" not in (tmp_path / "default.sqlite3").read_bytes()
    with pytest.raises(InputError, match="no model type 'fast'"):
        make_translator("deepl", model_type="fast")
    with pytest.raises(InputError, match="takes no custom instructions"):
        make_translator("deepl", model_type="latency_optimized")
    with pytest.raises(InputError, match="at most 10 custom instructions of 300"):
        make_translator("deepl", instructions=["x" * 301])
    with pytest.raises(InputError, match="no translator 'babel'"):
        make_translator("babel")
    with pytest.raises(InputError, match=r"cannot be made .*unexpected keyword"):
        make_translator("deepl", colour="blue")
