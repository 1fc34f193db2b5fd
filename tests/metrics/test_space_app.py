"""The Space's page: whose key pays, and what a visitor sees; the page itself where gradio is installed."""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Any

import pytest
from llmock.pytest_plugin import LLMock

import kollm
from tests.judge.conftest import REPLY
from tests.servers.logprobs import LogprobServer

MODEL = "gpt-5.4-mini-2026-03-17"


@pytest.fixture
def app() -> dict[str, Any]:
    return runpy.run_path(str(Path(kollm.metric_path()) / "app.py"))


def judge(
    app: dict[str, Any],
    rows: list[list[Any]],
    typed: str = "",
    environment: dict[str, str] | None = None,
    **kwargs: Any,
) -> Any:
    spending = kwargs.get("spending") or app["Spending"]()
    return app["judge_table"](rows, app["Asked"](typed, MODEL, "kullm2023", "text"), environment or {}, spending)


def test_a_typed_key_pays_and_is_kept_nowhere(app: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    rows = [["지시", "", "답"], ["", None, ""], ["지시", "입력", "다른 답"]]
    with LogprobServer(REPLY, {}) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        table, words = judge(app, rows, typed="typed-key")
    assert server.authorizations == ["Bearer typed-key"] * 2
    assert len(table) == 2 and table[0][:2] == [1.0, 2.0] and table[0][-2:] == ["ok", REPLY]
    assert words.startswith("2 of 2 scored") and "전반적인 품질 4.00" in words
    assert "typed-key" not in str(dict(os.environ)) and "typed-key" not in words


def test_the_spaces_secret_is_used_only_in_a_private_space_or_under_a_cap(llmock: LLMock, app: dict[str, Any]) -> None:
    llmock.reply(REPLY, times=None)
    rows = [["지시", "", "답"]]
    secret = {"OPENAI_API_KEY": "secret"}
    assert judge(app, rows)[1].startswith("No key - type")
    assert "type a key of yours" in judge(app, rows, environment=secret)[1] and llmock.requests == []
    assert judge(app, rows, environment={**secret, "KOLLM_SPACE_PRIVATE": "1"})[1].startswith("1 of 1")
    spending = app["Spending"]()
    capped = {**secret, "KOLLM_SPACE_MAX_COST": "0.01"}
    assert judge(app, rows, environment=capped, spending=spending)[1].startswith("1 of 1")
    assert 0 < spending.total < 0.01
    spending.total = 0.0099
    assert "raise --max-cost" in judge(app, rows, environment=capped, spending=spending)[1]
    spending.total = 0.01
    assert "reached its cap" in judge(app, rows, environment=capped, spending=spending)[1]
    assert "type a key" in judge(app, rows, environment={**secret, "KOLLM_SPACE_MAX_COST": "lots"})[1]


@pytest.mark.parametrize(
    ("rows", "words"),
    [([], "lists are empty"), ([["", "", ""]], "lists are empty"), ([["a", "", "b"]] * 51, "at most 50")],
)
def test_wrong_tables(app: dict[str, Any], rows: list[list[Any]], words: str) -> None:
    table, message = judge(app, rows, typed="key")
    assert table == [] and words in message


def test_the_page_builds_on_current_gradio(app: dict[str, Any]) -> None:
    gradio = pytest.importorskip("gradio")
    page = app["build"]()
    assert isinstance(page, gradio.Blocks)
    key = next(block for block in page.blocks.values() if getattr(block, "label", "") == "OpenAI key")
    assert key.type == "password"
