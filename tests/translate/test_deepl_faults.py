"""DeepL's real client against a loopback server that breaks answers, breaks off, refuses the key or has no quota left."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate

import pytest

from kollm.core.errors import QuotaError, ServiceError
from kollm.services.ledger import Ledger
from kollm.services.ledger.transfer import export_ledger
from kollm.services.retry import RetryPolicy
from kollm.translate import Budget, translate_records
from kollm.translate import deepl as deepl_engine
from kollm.translate.deepl import DeepLTranslator
from tests.servers.deepl import KEY, DeepLServer, Fault
from tests.servers.hanging import HangingServer
from tests.translate.conftest import Engine, Rows


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
    started = time.monotonic()
    server.state.faults.append(Fault(status=503, retry_after=formatdate(time.time() + 2, usegmt=True)))
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
    server.state.faults.append(Fault(delay=60.0))
    outcomes = translate_records(rows(1), engine(timeout=1.0), ledger=ledger)
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
