"""A ledger of the test's own, and a client factory for the loopback chat service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kollm.services.chat import ChatClient, ChatService
from kollm.services.ledger import Ledger
from kollm.services.retry import RetryPolicy
from tests.servers.chat import LoopbackChat

MakeClient = Callable[..., ChatClient]


@pytest.fixture
def make_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeClient]:
    monkeypatch.setenv("OPENAI_API_KEY", "test-key")
    with Ledger.open(tmp_path / "ledger.sqlite3") as ledger:

        def make(chat: LoopbackChat, **options: Any) -> ChatClient:
            model = options.pop("model", "gpt-4")
            service = ChatService(model, chat.url, **{"retry": RetryPolicy(first=0.01), **options})
            return ChatClient(service, kind="answer", ledger=ledger)

        yield make
