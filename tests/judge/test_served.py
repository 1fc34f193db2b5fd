"""Judges behind a service: the three ways to ask, statuses, samples, replay; the real client against loopback servers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llmock.pytest_plugin import LLMock
from llmock.scenarios import Reply

from kollm.core.errors import InputError, MissingKeyError, QuotaError, ServiceError
from kollm.judge.rubric_file import load_rubric
from kollm.judge.run import Question, judge_generations
from kollm.judge.served import Asking, ChatJudge, ReplyBudget, read_structured, response_format
from kollm.judge.verdicts import read_verdicts
from kollm.services.chat import ChatClient, ChatService
from kollm.services.ledger import Ledger
from kollm.services.retry import RetryPolicy
from tests.judge.conftest import REPLY, SCORES, answers
from tests.servers.logprobs import LogprobServer

MODEL = "gpt-5.4-mini-2026-03-17"
Make = Callable[..., ChatJudge]


@pytest.fixture
def make(llmock: LLMock, ledger: Ledger) -> Make:
    def build(rubric: str = "kullm2023", client: dict[str, Any] | None = None, **options: Any) -> ChatJudge:
        settings = {"ledger": ledger, "model": MODEL, "retry": RetryPolicy(first=0.01), **(client or {})}
        book = settings.pop("ledger")
        asking = Asking(**{name: options.pop(name) for name in tuple(options) if name != "keep_going"})
        return ChatJudge(ChatClient(ChatService(**settings), kind="judge", ledger=book), rubric, asking, **options)

    return build


def test_text_mode_asks_as_the_paper_and_reads_the_form(llmock: LLMock, make: Make, tmp_path: Path) -> None:
    llmock.reply(REPLY, times=None)
    judge = make()
    report = judge_generations(answers(5), judge, tmp_path / "verdicts.jsonl")
    assert report.statuses == {"ok": 5} and report.scores == {"adapter": SCORES}
    verdict = read_verdicts(tmp_path / "verdicts.jsonl")[0]
    assert (verdict.mode, verdict.model_requested, verdict.model_returned) == ("text", MODEL, MODEL)
    assert verdict.raw == REPLY and verdict.usage["prompt_tokens"] > 0 and verdict.usage["cost"] > 0
    assert verdict.usage["parameters"] == {
        "max_completion_tokens": 512,
        "temperature": 0.0,
        "seed": 0,
        "reasoning_effort": "none",
    }
    body = llmock.requests[0].body
    (message,) = body["messages"]
    prompts = [judge.rubric.prompt(a.instruction, a.input, a.response) for a in answers(5)]
    assert message["role"] == "user" and message["content"] in prompts and body["temperature"] == 0


def test_structured_mode_sends_a_strict_schema_and_no_reply_form(llmock: LLMock, make: Make, tmp_path: Path) -> None:
    report = judge_generations(answers(2), make("kullm3", mode="structured"), tmp_path / "verdicts.jsonl")
    assert report.statuses == {"ok": 2} and set(report.scores["adapter"].values()) == {1.0}
    body = llmock.requests[0].body
    assert body["response_format"] == response_format(load_rubric("kullm3"))
    assert body["response_format"]["json_schema"]["strict"] is True
    assert "Result:" not in body["messages"][0]["content"]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ('{"naturalness": 2}', 2.0),
        ('{"naturalness": 2.5}', 2.5),
        ('{"naturalness": 4}', None),
        ('{"naturalness": "2"}', None),
        ('{"naturalness": true}', None),
        ('{"naturalness": null}', None),
        ('{"naturalness": NaN}', None),
        ('{"naturalness": 2, "naturalness": 3}', None),
        ('[{"naturalness": 2}]', 2.0),
        ('```json\n{"naturalness": 2}\n```', 2.0),
        ('<think>{"naturalness": 3}</think>{"naturalness": 2}', 2.0),
        ('판정: {"naturalness": 2} 입니다.', 2.0),
        ('\ufeff{"naturalness": 2}', 2.0),
        ('{"naturalness": 2} 아니면 {"naturalness": 3}', None),
        ("자연스러움: 2", None),
        ("[" * 100_000, None),
        ("", None),
    ],
)
def test_structured_replies(text: str, read: float | None) -> None:
    assert read_structured(text, load_rubric("kullm2023"))["naturalness"] == read


def test_logprob_mode_takes_the_expectation_at_each_score(make: Make, tmp_path: Path) -> None:
    chances = {
        "이해 가능성": {" 1": 0.8, " 0": 0.2},
        "자연스러움": {" 2": 0.5, " 3": 0.3, "3": 0.1, " good": 0.1},
        "맥락 유지": {" 3": 1.0},
        "흥미롭기": {" 1": 0.6, " 2": 0.4},
        "지시어 사용": {" 0": 0.9, " 1": 0.1},
        "전반적인 품질": {" 4": 0.5, " 5": 0.25, " 1": 0.25, " 6": 0.0001},
    }
    with LogprobServer(REPLY, chances) as server:
        judge = make(mode="logprob", client={"base_url": server.base_url})
        judge_generations(answers(1), judge, tmp_path / "verdicts.jsonl")
    (verdict,) = read_verdicts(tmp_path / "verdicts.jsonl")
    expected = [0.8, (2 * 0.5 + 3 * 0.4) / 0.9, 3.0, 1.4, 0.1, 4 * 0.5 + 5 * 0.25 + 0.25]
    assert list(verdict.scores.values()) == pytest.approx(expected, abs=1e-5)
    assert verdict.usage["mass"]["naturalness"] == pytest.approx(0.9)
    assert verdict.model_returned == f"{MODEL}-served" and verdict.usage["system_fingerprint"] == "fp_loopback"
    assert server.bodies[0]["logprobs"] is True and server.bodies[0]["top_logprobs"] == 20


def test_logprob_mode_where_there_are_none(make: Make, tmp_path: Path) -> None:
    with LogprobServer(REPLY, {}, reports=False) as server, pytest.raises(ServiceError, match="no log-probabilities"):
        judge = make(mode="logprob", client={"base_url": server.base_url})
        judge_generations(answers(1), judge, tmp_path / "verdicts.jsonl")
    with pytest.raises(InputError, match="give no log-probabilities"):
        make(mode="logprob", client={"model": "gpt-5"})


def test_an_axis_without_a_score_has_none_in_logprob_mode(make: Make, tmp_path: Path) -> None:
    reply = REPLY.replace("(1 - 3): 2", "(1 - 3): N/A")
    with LogprobServer(reply, {}) as server:
        judge = make(mode="logprob", client={"base_url": server.base_url})
        judge_generations(answers(1), judge, tmp_path / "verdicts.jsonl")
    (verdict,) = read_verdicts(tmp_path / "verdicts.jsonl")
    assert verdict.status == "parse_error"
    assert verdict.scores == {**SCORES, "naturalness": None}


def test_failures_are_statuses_with_nulls(llmock: LLMock, make: Make, tmp_path: Path) -> None:
    llmock.add(
        Reply(text=REPLY),
        Reply(text="저는 평가할 수 없습니다."),
        Reply(text=REPLY[:40], finish_reason="length"),
        Reply(text="", finish_reason="content_filter"),
    )
    llmock.fail(400, times=1)
    judge_generations(answers(5), make(client={"concurrency": 1}), tmp_path / "verdicts.jsonl")
    verdicts = {verdict.status: verdict for verdict in read_verdicts(tmp_path / "verdicts.jsonl")}
    assert set(verdicts) == {"ok", "parse_error", "truncated", "refusal", "api_error"}
    for status in ("truncated", "refusal", "api_error"):
        assert set(verdicts[status].scores.values()) == {None}
    assert "400" in verdicts["api_error"].usage["error"] and verdicts["refusal"].usage["refusal"] == "content_filter"


@pytest.mark.parametrize(
    ("model", "options", "limit"),
    [
        ("gpt-5.4-mini-2026-03-17", {}, {"max_completion_tokens": 512, "reasoning_effort": "none"}),
        ("gpt-5.4-mini-2026-03-17", {"mode": "rationale"}, {"max_completion_tokens": 2048}),
        ("gpt-5.4-mini-2026-03-17", {"budget": ReplyBudget(300, 900)}, {"max_completion_tokens": 1200}),
        ("gpt-5", {}, {"max_completion_tokens": 512 + 8192}),
        ("gpt-4-0613", {}, {"max_tokens": 512}),
        ("my-own-model", {}, {"max_tokens": 512 + 4096}),
        ("my-own-model", {"budget": ReplyBudget(reasoning=0)}, {"max_tokens": 512}),
        ("Qwen3-30B-Thinking", {}, {"max_tokens": 512 + 8192}),
    ],
)
def test_a_judge_has_room_to_think(make: Make, model: str, options: dict[str, Any], limit: dict[str, Any]) -> None:
    sent = make(client={"model": model}, **options).request(Question(answers(1)[0])).options
    assert {key: sent.get(key) for key in limit} == limit
    if options.get("budget") == ReplyBudget(300, 900):
        assert "reasoning_effort" not in sent and "temperature" not in sent, "a model that thinks takes neither"


def test_wrong_budgets(make: Make) -> None:
    with pytest.raises(InputError, match="0 tokens of reply"):
        ReplyBudget(0)


def test_a_rationale_before_each_score(llmock: LLMock, make: Make, tmp_path: Path) -> None:
    values = {f"{axis.key}_rationale": "이유" for axis in load_rubric("kullm3").axes}
    values |= {axis.key: 4 for axis in load_rubric("kullm3").axes}
    llmock.reply("<think>3?</think>```json\n" + json.dumps(values, ensure_ascii=False) + "\n```", times=None)
    report = judge_generations(answers(2), make("kullm3", mode="rationale"), tmp_path / "verdicts.jsonl")
    assert report.statuses == {"ok": 2} and set(report.scores["adapter"].values()) == {4.0}
    keys = list(llmock.requests[0].body["response_format"]["json_schema"]["schema"]["properties"])
    assert keys[:2] == ["fluency_rationale", "fluency"], "the reasons come before the score"
    assert {verdict.mode for verdict in read_verdicts(tmp_path / "verdicts.jsonl")} == {"rationale"}


def test_scales_to_10_by_log_probabilities(make: Make, tmp_path: Path) -> None:
    """Where numbers are one token each, and where they are written digit by digit."""
    rubric = tmp_path / "ten.yaml"
    rubric.write_text(
        "name: ten\nlanguage: ko\naxes: [{key: score, label: 점수, low: 0, high: 10}]\n"
        "prompt: '{instruction} {input} {response}'\nreply_form: '점수:'\n",
        encoding="utf-8",
    )
    for name, chances, expected in (
        ("whole", {" 8": 0.5, " 10": 0.3, " 1": 0.2}, 0.5 * 8 + 0.3 * 10 + 0.2),
        ("digits", {" 8": 0.7, " 9": 0.29, " 1": 0.01}, (0.7 * 8 + 0.29 * 9) / 0.99),
    ):
        with LogprobServer("점수: 8", {"점수": chances}) as server:
            judge = make(str(rubric), mode="logprob", client={"base_url": server.base_url})
            judge_generations(answers(1), judge, tmp_path / f"{name}.jsonl")
        (verdict,) = read_verdicts(tmp_path / f"{name}.jsonl")
        assert verdict.scores["score"] == pytest.approx(expected, abs=1e-5)


def test_samples_differ_in_seed_and_are_kept_apart(llmock: LLMock, make: Make, tmp_path: Path) -> None:
    llmock.reply(REPLY, times=None)
    report = judge_generations(answers(2), make(samples=3), tmp_path / "verdicts.jsonl")
    assert report.verdicts == 6 and len(llmock.requests) == 6
    assert sorted({request.body["seed"] for request in llmock.requests}) == [0, 1, 2]
    assert {request.body["temperature"] for request in llmock.requests} == {1.0}


def test_replay_needs_no_key_and_asks_nobody(
    llmock: LLMock, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llmock.reply(REPLY, times=None)
    judge_generations(answers(20), make(), tmp_path / "first.jsonl")
    monkeypatch.delenv("OPENAI_API_KEY")
    judge_generations(answers(20), make(), tmp_path / "second.jsonl")
    assert len(llmock.requests) == 20
    first, second = (read_verdicts(tmp_path / f"{name}.jsonl") for name in ("first", "second"))
    assert sorted(v.id for v in first) == sorted(v.id for v in second)
    assert {v.id: v for v in first} == {v.id: v for v in second}
    with pytest.raises(MissingKeyError, match="OPENAI_API_KEY"):
        judge_generations(answers(21), make(), tmp_path / "third.jsonl")


def test_a_run_stopped_by_quota_keeps_its_verdicts_and_goes_on(llmock: LLMock, make: Make, tmp_path: Path) -> None:
    output = tmp_path / "verdicts.jsonl"
    llmock.reply(REPLY, times=None)
    judge_generations(answers(4), make(), output)
    llmock.fail(429, times=None, code="insufficient_quota")
    with pytest.raises(QuotaError):
        judge_generations(answers(9), make(), output)
    assert len(read_verdicts(output)) == 4
    llmock.reset().reply(REPLY, times=None)
    assert judge_generations(answers(9), make(), output).reused == 4
    assert len(llmock.requests) == 5


def test_faults_on_every_path_lose_and_double_nothing(
    llmock: LLMock, make: Make, ledger: Ledger, tmp_path: Path
) -> None:
    llmock.reply(REPLY, times=None)
    for status in (429, 500, 503, 429, 502):
        llmock.fail(status, times=4)
    llmock.rate_limit(times=3, retry_after=0.2)
    report = judge_generations(answers(60), make(), tmp_path / "verdicts.jsonl")
    assert report.statuses == {"ok": 60}
    assert ledger.stats()[0].answered == 60 and len(read_verdicts(tmp_path / "verdicts.jsonl")) == 60


@pytest.mark.parametrize(
    ("options", "words"), [({"mode": "poem"}, "no mode 'poem'"), ({"samples": 0}, "number of samples is 0")]
)
def test_wrong_options(make: Make, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make(**options)


def test_an_answer_of_100_kb_with_a_lone_surrogate_is_judged(llmock: LLMock, make: Make, tmp_path: Path) -> None:
    llmock.reply(REPLY, times=None)
    report = judge_generations(answers(1, text="가나다 \ud83d" * 20_000), make(), tmp_path / "verdicts.jsonl")
    assert report.statuses == {"ok": 1}
    assert "\ufffd" in llmock.requests[0].body["messages"][0]["content"]
    json.dumps([verdict.to_row() for verdict in read_verdicts(tmp_path / "verdicts.jsonl")])


def test_the_prompt_and_the_verdict_belong_together(llmock: LLMock, make: Make, tmp_path: Path) -> None:
    """Each task's verdict comes from its own request, whatever the order of coming in."""
    judge = make()
    requests = [judge.request(Question(answer)) for answer in answers(8)]
    for n, answer in enumerate(answers(8)):
        assert f"Response: {answer.response}\n" in requests[n].messages[0]["content"]
