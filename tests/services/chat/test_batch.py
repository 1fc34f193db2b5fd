"""The Batch API through the real client: submit, detach, collect; nothing asked twice, whatever comes between."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import llmock.routers.batch as batches
import pytest
from llmock.pytest_plugin import LLMock

from kollm.core.errors import MissingKeyError, QuotaError, ServiceError, StateError
from kollm.services.chat import ChatClient, ChatRequest, ChatService, run_async
from kollm.services.chat.batch import ChatBatch
from kollm.services.ledger import Ledger

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # llmock leaves uploads to the collector
MODEL = "gpt-5.4-mini-2026-03-17"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_BATCH_DELAY", 0.0)
    monkeypatch.setenv("LLMOCK_RESPONSE_STYLE", "static")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.sqlite3") as ledger:
        yield ledger


def client_of(ledger: Ledger, **options: float) -> ChatClient:
    return ChatClient(ChatService(MODEL, **options), kind="judge", ledger=ledger)  # type: ignore[arg-type]


def requests_of(count: int) -> list[ChatRequest]:
    return [
        ChatRequest([{"role": "user", "content": f"질문 {n}"}], {"max_completion_tokens": 50}) for n in range(count)
    ]


def created(llmock: LLMock) -> int:
    return sum(request.path == "/v1/batches" and request.method == "POST" for request in llmock.requests)


def test_submit_detach_collect_at_half_the_price(llmock: LLMock, ledger: Ledger, tmp_path: Path) -> None:
    state = tmp_path / "v.batch.json"
    submitted = ChatBatch(client_of(ledger), state).submit(requests_of(6))
    assert not submitted.done and submitted.total == 6 and state.exists() and len(ledger.in_flight()) == 6
    collected = ChatBatch(client_of(ledger), state).collect()
    assert collected.done and (collected.answered, collected.failed) == (6, 0)
    assert not state.exists() and ledger.in_flight() == []
    replies = run_async(client_of(ledger).all(requests_of(6)))
    assert all(reply.replayed and reply.text for reply in replies)
    usage = replies[0].usage
    full = client_of(ledger).facts.cost(usage["prompt_tokens"], usage["completion_tokens"])
    assert replies[0].cost == pytest.approx(full / 2)


def test_a_running_batch_is_left_running(
    llmock: LLMock, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_BATCH_DELAY", 60.0)
    job = ChatBatch(client_of(ledger), tmp_path / "state.json")
    job.submit(requests_of(2))
    assert not job.collect().done and job.pending
    with pytest.raises(StateError, match="A batch is pending"):
        job.submit(requests_of(2))
    assert created(llmock) == 1


def test_only_what_the_ledger_lacks_is_sent(llmock: LLMock, ledger: Ledger, tmp_path: Path) -> None:
    llmock.reply("답", times=None)
    run_async(client_of(ledger).all(requests_of(2)))
    job = ChatBatch(client_of(ledger), tmp_path / "state.json")
    assert job.submit(requests_of(2)).done and created(llmock) == 0
    assert job.submit(requests_of(5)).total == 3


def test_a_kill_between_making_and_writing_down_is_found_again(
    llmock: LLMock, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ChatBatch(client_of(ledger), tmp_path / "state.json")
    writes: list[int] = []
    import kollm.services.chat.batch as module

    write = module.write_json  # type: ignore[attr-defined]

    def dies(path: Path, value: object) -> None:
        writes.append(1)
        if len(writes) == 2:
            raise KeyboardInterrupt
        write(path, value)

    monkeypatch.setattr(module, "write_json", dies)
    with pytest.raises(KeyboardInterrupt):
        job.submit(requests_of(3))
    assert job.collect().answered == 3 and created(llmock) == 1


def test_a_refused_batch_leaves_nothing_behind(llmock: LLMock, ledger: Ledger, tmp_path: Path) -> None:
    llmock.fail(401, times=None)
    job = ChatBatch(client_of(ledger), tmp_path / "state.json")
    with pytest.raises(ServiceError, match="refuses the call"):
        job.submit(requests_of(3))
    assert not job.pending and ledger.in_flight() == []


def test_a_batch_that_was_never_made_is_forgotten(llmock: LLMock, ledger: Ledger, tmp_path: Path) -> None:
    job = ChatBatch(client_of(ledger), tmp_path / "state.json")
    job.submit(requests_of(2))
    batches._batches.clear()
    values = json.loads(job.state.read_text(encoding="utf-8"))
    job.state.write_text(json.dumps({**values, "batch_id": ""}), encoding="utf-8")
    collected = job.collect()
    assert collected.done and collected.failed == 2 and not job.pending and ledger.in_flight() == []


def end(*, status: str = "failed", error: dict[str, object] | None = None) -> None:
    """The only batch ends like this, without an answer."""
    (batch,) = batches._batches.values()
    batch.update(done=True, status=status, errors={"object": "list", "data": [error]} if error else None)


@pytest.fixture
def stalled(llmock: LLMock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches that the service leaves alone, for `end` to end."""
    monkeypatch.setattr(batches, "_BATCH_DELAY", 60.0)
    batches._batches.clear()


@pytest.mark.usefixtures("stalled")
def test_a_batch_that_fails_says_why_and_is_not_submitted_again(llmock: LLMock, ledger: Ledger, tmp_path: Path) -> None:
    job = ChatBatch(client_of(ledger), tmp_path / "state.json")
    job.submit(requests_of(3))
    end(error={"code": "invalid_request", "message": "no such\x1b[31m\nmodel", "line": 2, "param": None})
    words = r"brought no answer: invalid_request in line 2: no such\\x1b\[31m\\nmodel - mend that, then remove '.*state.json'"
    for _ in range(2):  # the second time from the state file, without the service
        with pytest.raises(StateError, match=words) as raised:
            job.collect()
        assert str(raised.value).isprintable() and ledger.in_flight() == []
        llmock.fail(500, times=None)
    with pytest.raises(StateError, match="A batch is pending"):
        job.submit(requests_of(3))
    assert created(llmock) == 1


@pytest.mark.usefixtures("stalled")
def test_a_batch_of_which_every_request_fails_names_the_first(llmock: LLMock, ledger: Ledger, tmp_path: Path) -> None:
    job = ChatBatch(client_of(ledger), tmp_path / "state.json")
    job.submit(requests_of(2))
    end(status="completed")
    body = {"error": {"code": "model_not_found", "message": "There is no such model."}}
    line = json.dumps({"custom_id": "x", "response": {"status_code": 404, "body": body}, "error": None})
    stored = batches._store_file(filename="e", purpose="batch_error", content=line, provider="openai")
    next(iter(batches._batches.values()))["error_file_id"] = stored["id"]
    with pytest.raises(StateError, match=r"model_not_found: There is no such model\."):
        job.collect()
    assert job.pending and ledger.in_flight() == []


def test_a_failed_batch_without_a_reason(
    llmock: LLMock, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_BATCH_DELAY", 60.0)
    batches._batches.clear()
    job = ChatBatch(client_of(ledger), tmp_path / "state.json")
    job.submit(requests_of(2))
    end()
    with pytest.raises(StateError, match="failed: the service gives no reason"):
        job.collect()


def test_the_cap_the_key_and_another_model(
    llmock: LLMock, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state.json"
    with pytest.raises(QuotaError, match="raise --max-cost"):
        ChatBatch(client_of(ledger, max_cost=0.000001), state).submit(requests_of(3))
    assert created(llmock) == 0 and ledger.in_flight() == []
    ChatBatch(client_of(ledger), state).submit(requests_of(3))
    with pytest.raises(StateError, match="collect it with the command that submitted it"):
        ChatBatch(ChatClient(ChatService("gpt-4o"), kind="judge", ledger=ledger), state).collect()
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(MissingKeyError, match="OPENAI_API_KEY"):
        ChatBatch(client_of(ledger), state).collect()
