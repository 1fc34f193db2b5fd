"""Caps on characters and cost, held against what DeepL's real client buys from the loopback server."""

from __future__ import annotations

import pytest

from kollm.core.counting import counted
from kollm.core.errors import InputError, QuotaError
from kollm.services.ledger import Ledger
from kollm.translate import Budget, translate_records
from tests.servers.deepl import DeepLServer, Fault
from tests.translate.conftest import Engine, Rows


@pytest.mark.parametrize("cap", [0, 1, 3000, 7000])
def test_characters_stay_under_the_cap(
    cap: int, server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows
) -> None:
    with pytest.raises(QuotaError, match=f"Stopped before the cap of {counted(cap, 'character')}:"):
        translate_records(rows(400), engine(), ledger=ledger, budget=Budget(max_characters=cap))
    assert server.state.used <= cap and ledger.in_flight() == []
    assert sum(row.characters for row in ledger.stats()) == server.state.used, "all that was paid is kept"
    if cap >= 3000:
        assert server.state.used > cap - 1000, "as much as fits is bought"


def test_a_cap_holds_over_runs_and_counts_what_was_in_flight(
    server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows
) -> None:
    for _ in range(3):
        with pytest.raises(QuotaError):
            translate_records(rows(400), engine(batch_texts=10), ledger=ledger, budget=Budget(max_characters=5000))
    assert server.state.used <= 5000
    server.state.faults.append(Fault(hang_up="after"))
    with pytest.raises(QuotaError, match="characters that were sent without an answer included"):
        translate_records(rows(400), engine(batch_texts=10), ledger=ledger, budget=Budget(max_characters=8000))
    assert server.state.used <= 8000


def test_cost_stays_under_the_cap(server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows) -> None:
    budget = Budget(max_cost=0.10)
    with pytest.raises(QuotaError, match=r"Stopped before the cap of USD 0\.10"):
        translate_records(rows(400), engine(price=20.0, batch_texts=10), ledger=ledger, budget=budget)
    assert server.state.used * 20.0 / 1e6 <= 0.10
    assert budget.spending().cost == pytest.approx(server.state.used * 20.0 / 1e6)


def test_a_budget_is_reconciled_with_the_service(
    server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows
) -> None:
    budget = Budget(max_characters=1_000_000)
    translate_records(rows(60), engine(), ledger=ledger, budget=budget)
    spending = budget.spending()
    assert spending.usage == spending.bought == server.state.used and spending.requests == 2
    assert spending.reconciliation().endswith(f"{server.state.used:,} by the service's own count")


def test_one_budget_for_several_streams(server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows) -> None:
    server.state.limit = 10_000
    budget, translator = Budget(max_characters=10_000), engine()
    translate_records(rows(40), translator, ledger=ledger, budget=budget)
    translate_records(rows(60), translator, ledger=ledger, budget=budget)
    spending = budget.spending()
    assert spending.characters == spending.bought == spending.usage == server.state.used, "shared texts count once"
    with pytest.raises(QuotaError):
        translate_records(rows(400), translator, ledger=ledger, budget=budget)
    assert server.state.used <= 10_000


def test_a_negative_cap() -> None:
    with pytest.raises(InputError, match="cap on characters is -1"):
        Budget(max_characters=-1)


def test_the_quota_of_usage_is_a_cap(server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows) -> None:
    server.state.limit = 6000
    with pytest.raises(QuotaError, match="quota is 6,000 characters, 0 were used before"):
        translate_records(rows(400), engine(), ledger=ledger)
    assert 0 < server.state.used <= 6000 and server.state.refused == {}


def test_what_was_bought_of_later_rows_counts_before_the_first_is_sent(
    server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows
) -> None:
    translate_records(rows(400)[250:], engine(), ledger=ledger)
    cap = server.state.used + 500
    with pytest.raises(QuotaError, match="Stopped before the cap"):
        translate_records(rows(400), engine(), ledger=ledger, budget=Budget(max_characters=cap))
    assert server.state.used <= cap
