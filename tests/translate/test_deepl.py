"""DeepL's real client against the loopback server: batches, faults, the key, the quota, replay."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import pytest

from kollm.core.errors import InputError, MissingKeyError, QuotaError, ServiceError
from kollm.services.ledger import Ledger
from kollm.services.ledger.transfer import export_ledger
from kollm.services.retry import RetryPolicy
from kollm.translate import Budget, Outcome, Router, make_translator, translate_records, translate_stream
from kollm.translate import deepl as deepl_engine
from kollm.translate.deepl import DeepLTranslator
from tests.servers.deepl import KEY, DeepLServer, Fault
from tests.servers.hanging import HangingServer
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
    ledger.forget_rows("other code")
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


# -- broken answers ----------------------------------------------------------------------------------------------


def spoil_first(change: Callable[[str], str]) -> Fault:
    return Fault(spoil=lambda answers: [change(answers[0]), *answers[1:]])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: re.sub(r'<x id="0"/>', "", text), "placeholder: lost '`code_0`' in instruction"),
        (lambda text: text.replace("</t>", '<x id="0"/></t>', 1), "placeholder: doubled '`code_0`' in instruction"),
        (
            lambda text: (
                text.replace('<x id="0"/>', "").replace("</d>", "").replace("</t>", '<x id="0"/></t>') + "</d>"
            ),
            "placeholder: a foreign <x> came back in input",
        ),
        (lambda text: text[:-4], "markup: not well-formed"),
        (lambda text: text.replace(" 0 ", " 9 ", 1), "numbers: lost 0 in instruction"),
    ],
)
def test_a_broken_answer_is_asked_again_alone_and_then_rejected(
    change: Callable[[str], str], reason: str, server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows
) -> None:
    server.state.faults.append(spoil_first(change))
    mended = translate_records(rows(3), engine(), ledger=ledger)
    assert [item.reason for item in mended] == [None] * 3
    assert [item.record.provenance.attempt for item in mended] == [2, 1, 1]
    assert [len(request["text"]) for request in server.state.requests] == [3, 1], "alone"
    again = server.state.requests[1]["text"][0]
    assert not re.search(r"\d", re.sub(r"<[^>]*>", "", again)), "numbers are masked on the retry"
    assert sum(item.record.provenance.characters for item in mended) == server.state.used
    assert translate_records(rows(3), engine(), ledger=ledger) == mended
    assert len(server.state.requests) == 2, "both attempts are in the ledger"


def test_twice_broken_is_rejected_with_the_reason(
    server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows
) -> None:
    server.state.spoil = lambda answers: [text.replace('<x id="0"/>', "") for text in answers]
    outcomes = translate_records(rows(3)[1:], engine(), ledger=ledger)
    assert [len(request["text"]) for request in server.state.requests] == [2, 1], (
        "with numbers masked they are one text"
    )
    lost = "placeholder: lost '{}' in instruction"
    assert [item.reason for item in outcomes] == [lost.format(1), lost.format(2)], (
        "of the retry, where numbers are masked"
    )
    assert [item.record.lang for item in outcomes] == ["en", "en"]
    assert outcomes[0].record.instruction == "Explain item 1 with `code_1`.", "English stays where Korean is broken"
    requests = len(server.state.requests)
    assert translate_records(rows(3)[1:], engine(), ledger=ledger) == outcomes
    assert len(server.state.requests) == requests, "a rejected row is not bought again either"


def test_a_service_that_breaks_everything_is_paid_for_one_request(
    server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows
) -> None:
    """A server that strips the XML: neither the rest is sent nor anything a second time; mended, the same run goes on."""
    server.state.spoil = lambda answers: [re.sub(r"<[^<>]*>", "", text) for text in answers]
    with pytest.raises(
        ServiceError, match=r"of the last 50 answers of deepl 50 were broken, e\.g\. 'markup: .* same command"
    ):
        translate_records(rows(400), engine(workers=16), ledger=ledger)
    assert [len(request["text"]) for request in server.state.requests] == [50]
    with pytest.raises(ServiceError, match="answers of deepl"):
        translate_records(rows(400), engine(workers=1), ledger=ledger)
    assert sum(len(request["text"]) for request in server.state.requests) <= 110, "a request more"
    server.state.spoil = None
    outcomes = translate_records(rows(400), engine(), ledger=ledger)
    assert sum(item.reason is None for item in outcomes) >= 300


def test_a_service_that_begins_to_break_everything(
    server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows
) -> None:
    server.state.spoil = lambda answers: (
        answers if len(server.state.requests) <= 4 else [text.replace("</d>", "") for text in answers]
    )
    with pytest.raises(ServiceError, match="Stopped before more is spent"):
        translate_records(rows(1000), engine(workers=1), ledger=ledger)
    assert sum(len(request["text"]) for request in server.state.requests) <= 400


# -- faults ------------------------------------------------------------------------------------------------------


def test_retry_after_is_kept_to(server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows) -> None:
    server.state.faults.append(Fault(status=429, retry_after="0.3"))
    started = time.monotonic()
    outcomes = translate_records(rows(1), engine(backoff=0.0), ledger=ledger)
    assert time.monotonic() - started >= 0.3, "never sooner than the service asks"
    assert outcomes[0].reason is None and ledger.in_flight() == []


def test_an_answer_that_is_too_long_is_not_read_to_its_end(
    server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deepl_engine, "MOST_BYTES", 1 << 20)
    server.state.spoil = lambda answers: [answers[0] + "가" * (1 << 20)] if len(server.state.requests) == 1 else answers
    budget = Budget()
    (outcome,) = translate_records(rows(1), engine(backoff=0.0), ledger=ledger, budget=budget)
    assert outcome.reason is None and len(server.state.requests) == 2
    assert budget.spending().lost.characters > 0, "what was answered may have been charged"


def test_a_date_in_retry_after(server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows) -> None:
    server.state.faults.append(Fault(status=503, retry_after=formatdate(time.time() + 2, usegmt=True)))
    started = time.monotonic()
    assert translate_records(rows(1), engine(backoff=0.0), ledger=ledger)[0].reason is None
    assert time.monotonic() - started >= 0.9


def test_a_long_wait_is_left_to_the_next_run(server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows) -> None:
    server.state.faults.append(Fault(status=429, retry_after="3600"))
    with pytest.raises(ServiceError, match="asks to wait 3,600 s - run the same command again then"):
        translate_records(rows(1), engine(), ledger=ledger)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
def test_faults_that_pass(status: int, server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows) -> None:
    server.state.faults.extend([Fault(status=status), None, Fault(status=status)])
    budget = Budget()
    outcomes = translate_records(rows(120), engine(workers=1), ledger=ledger, budget=budget)
    assert all(item.reason is None for item in outcomes) and server.state.refused == {status: 2}
    lost = budget.spending().lost.characters
    assert (lost > 0) == (status in (500, 502)), "429, 503 and 529 are refusals, the others may have been charged"
    assert sum(item.charge.characters for item in ledger.in_flight()) == lost


@pytest.mark.parametrize("moment", ["before", "after"])
def test_no_answer(moment: str, server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows) -> None:
    server.state.faults.append(Fault(hang_up=moment))
    budget = Budget()
    outcomes = translate_records(rows(2), engine(), ledger=ledger, budget=budget)
    assert all(item.reason is None for item in outcomes)
    assert [item.answered for item in ledger.in_flight()] == [True, True], "listed although answered later"
    assert budget.spending().lost.characters > 0
    if moment == "after":
        assert budget.spending().usage == 2 * budget.spending().bought
        assert "e.g. sends without an answer" in budget.spending().reconciliation()


def test_a_slow_answer_is_given_up(server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows) -> None:
    server.state.faults.append(Fault(delay=1.0))
    outcomes = translate_records(rows(1), engine(timeout=0.2), ledger=ledger)
    assert outcomes[0].reason is None and len(server.state.requests) == 2


@pytest.mark.parametrize("dribble", [False, True])
def test_a_service_that_hangs_has_a_limit(dribble: bool, ledger: Ledger, rows: Rows) -> None:
    with HangingServer(dribble) as hanging:
        translator = DeepLTranslator(KEY, hanging.url, timeout=0.3)
        translator.limits = replace(translator.limits, retry=RetryPolicy(tries=2, first=0.01))
        translator.usage = lambda: None  # type: ignore[method-assign]
        with pytest.raises(ServiceError, match="gave no answer in 2 tries"):
            translate_records(rows(1), translator, ledger=ledger)
    assert [item.sends for item in ledger.in_flight()] == [2]


def test_what_never_left_is_not_counted_as_charged(ledger: Ledger, rows: Rows) -> None:
    translator = DeepLTranslator(KEY, "http://127.0.0.1:9")
    translator.limits = replace(translator.limits, retry=RetryPolicy(tries=2, first=0.01))
    translator.usage = lambda: None  # type: ignore[method-assign]
    with pytest.raises(ServiceError, match="gave no answer in 2 tries"):
        translate_records(rows(1), translator, ledger=ledger)
    assert ledger.in_flight() == []


@pytest.mark.parametrize("header", ["0", "-7", "nan"])
def test_tries_end_whatever_the_service_says(
    header: str, server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows
) -> None:
    server.state.faults.extend([Fault(status=429, retry_after=header)] * 50)
    with pytest.raises(ServiceError, match="gave no answer in 4 tries"):
        translate_records(rows(1), engine(tries=4, workers=1), ledger=ledger)
    assert server.state.refused == {429: 4} and ledger.in_flight() == []


def test_no_answer_at_all_stops_after_some_tries(
    server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows
) -> None:
    server.state.faults.extend([Fault(status=503)] * 3)
    with pytest.raises(ServiceError, match="gave no answer in 3 tries, at last: Service unavailable"):
        translate_records(rows(1), engine(tries=3, workers=1), ledger=ledger)
    assert ledger.in_flight() == []


def test_a_wrong_key_stops_at_once(server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows) -> None:
    with pytest.raises(ServiceError, match=r"refuses the key .* check DEEPL_AUTH_KEY"):
        translate_records(rows(200), engine(key="wrong"), ledger=ledger)
    assert server.state.refused == {} and ledger.stats() == [], "the usage is asked first, and nothing was sent"


def test_no_server_is_one_sentence(engine: Engine, server: DeepLServer, ledger: Ledger, rows: Rows) -> None:
    translator = DeepLTranslator(KEY, "http://127.0.0.1:9")
    with pytest.raises(ServiceError, match=r"DeepL at http://127.0.0.1:9 does not tell its usage \(no answer"):
        translate_records(rows(1), translator, ledger=ledger)


def test_the_quota_at_the_server(server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows) -> None:
    """Others use the account meanwhile: the server says 456 although /usage left room."""
    server.state.faults.extend([None, Fault(status=456)])
    with pytest.raises(QuotaError, match="quota is used up"):
        translate_records(rows(400), engine(workers=1), ledger=ledger)
    assert len(server.state.requests) == 1 and ledger.in_flight() == []
    assert len(ledger.find(item for item in _keys(ledger))) == 50, "what was answered is kept"


def _keys(ledger: Ledger) -> list[str]:
    path = ledger.path.with_suffix(".jsonl")
    export_ledger(ledger, path)
    return [json.loads(line)["key"] for line in path.read_text().splitlines()]


def test_413_and_400_divide_the_batch(server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows) -> None:
    server.state.faults.extend([Fault(status=413), Fault(status=400)])
    outcomes = translate_records(rows(8), engine(workers=1), ledger=ledger)
    assert all(item.reason is None for item in outcomes)
    assert sorted(len(request["text"]) for request in server.state.requests) == [2, 2, 4]


def test_one_text_that_is_refused_leaves_the_others(
    server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = DeepLTranslator.translate

    def picky(self: DeepLTranslator, batch: list[object]) -> list[object]:
        if any("item 5 " in segment.text for segment in batch):  # type: ignore[attr-defined]
            server.state.faults.append(Fault(status=400))
        return real(self, batch)  # type: ignore[arg-type,return-value]

    monkeypatch.setattr(DeepLTranslator, "translate", picky)
    outcomes = translate_records(rows(8), engine(workers=1), ledger=ledger)
    assert [item.reason is None for item in outcomes] == [number != 5 for number in range(8)]
    assert str(outcomes[5].reason).startswith("refused: Bad request")


def test_everything_refused_stops(server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows) -> None:
    server.state.faults.extend([Fault(status=400)] * 500)
    with pytest.raises(ServiceError, match="refused 10 texts one after the other, at last with: Bad request"):
        translate_records(rows(100), engine(), ledger=ledger)
    assert ledger.in_flight() == []


# -- the engine itself -------------------------------------------------------------------------------------------


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


_ONE = '{"detected_source_language": "EN", "text": %s, "billed_characters": %s}'


@pytest.mark.parametrize(
    "body",
    ["", "[]", "3", "{", "null", '{"translations": null}', '{"translations": [3]}', '{"translations": {"a": 1}}', "[" * 20_000,
     '{"translations": [' + _ONE % ("3", "1") + "]}", '{"translations": [' + _ONE % ('"a"', '"EN"') + "]}",
     '{"translations": [' + _ONE % ('"a"', "-1") + "]}", '{"translations": [' + _ONE % ('"a"', "9" * 5000) + "]}",
     '{"translations": [' + _ONE % ('["a"]', "null") + "]}", '{"translations": []}'],
)  # fmt: skip
def test_an_answer_that_is_none_is_asked_again_and_raises_nothing(
    body: str, server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows
) -> None:
    server.state.faults.append(Fault(body=body))
    (outcome,) = translate_records(rows(1), engine(), ledger=ledger)
    assert outcome.reason is None and len(server.state.requests) == 2
