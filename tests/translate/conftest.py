"""A loopback DeepL, an engine that speaks to it, a ledger of the test's own, and rows to translate."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kollm.core.records import Record
from kollm.services.ledger import Ledger
from kollm.services.retry import RetryPolicy
from kollm.translate.deepl import DeepLTranslator
from tests.servers.deepl import KEY, DeepLServer


@pytest.fixture
def server() -> Iterator[DeepLServer]:
    with DeepLServer() as running:
        yield running


@pytest.fixture
def engine(server: DeepLServer) -> Callable[..., DeepLTranslator]:
    def make(**options: Any) -> DeepLTranslator:
        retry = RetryPolicy(tries=options.pop("tries", 8), first=options.pop("backoff", 0.01))
        limits = {"batch_texts": options.pop("batch_texts")} if "batch_texts" in options else {}
        translator = DeepLTranslator(
            options.pop("key", KEY), server.url, **{"requests_per_second": 2000.0, "workers": 4, **options}
        )
        translator.limits = dataclasses.replace(translator.limits, retry=retry, **limits)
        return translator

    return make


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.sqlite3") as book:
        yield book


@pytest.fixture
def rows() -> Callable[..., list[Record]]:
    def make(count: int, **changes: Any) -> list[Record]:
        return [
            Record(
                **{
                    "id": f"dolly-{number}",
                    "source": "dolly",
                    "instruction": f"Explain item {number} with `code_{number}`.",
                    "input": "" if number % 3 else f"See https://example.org/{number} & more <b>here</b>.",
                    "output": f"It is {number} things, e.g. one & two.\n\n- first\n- second {number}",
                    **changes,
                }
            )
            for number in range(count)
        ]

    return make


Engine = Callable[..., DeepLTranslator]
Rows = Callable[..., list[Record]]
