"""Judges behind an OpenAI-compatible service, asked in one of three ways.

- `text`: the rubric's prompt with its reply form, as the paper asks; the reply is parsed.
- `structured`: the rubric's question with a strict JSON schema of whole scores.
- `logprob`: as `text`, and each score is the expectation of the allowed values under the probabilities that the service
  reports for the tokens where the score stands.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from kollm.core.errors import InputError, ServiceError
from kollm.core.records import Status, Verdict
from kollm.judge.expectation import expected_scores
from kollm.judge.parse import parse_verdict
from kollm.judge.rubric import Axis, Rubric
from kollm.judge.rubric_file import load_rubric
from kollm.judge.run import Question, verdict_of
from kollm.services.chat import ChatClient, ChatReply, ChatRequest, run_async

Mode = Literal["text", "structured", "logprob"]
MODES: tuple[Mode, ...] = ("text", "structured", "logprob")
REPLY_TOKENS = 512
"""Room for the form (about 80 tokens) and for a judge that explains itself; a reply that is cut is a failure."""
REASONING_TOKENS = 8192
"""Room beside it for a model that cannot be kept from reasoning first."""
ALTERNATIVES = 20
"""Most alternatives a token that the service reports."""


class ChatJudge:
    """Judges by asking a chat model.

    Args:
        client: the service and the model; its kind should be `judge`.
        rubric: a Rubric, the name of a shipped one, or the path of a rubric file.
        mode: `text`, `structured` or `logprob`.
        samples: how often each answer is judged; the verdicts are kept apart and averaged in reports.
        temperature: by default 0 for one sample and 1 for several, which would be alike otherwise.

    Raises:
        InputError: an unknown mode, no samples, a temperature outside 0 to 2, or log-probabilities of a model or a rubric
            that allows none.
    """

    def __init__(
        self,
        client: ChatClient,
        rubric: str | Path | Rubric,
        *,
        mode: Mode = "text",
        samples: int = 1,
        temperature: float | None = None,
    ) -> None:
        if mode not in MODES:
            raise InputError(f"There is no mode '{mode}' - use {', '.join(MODES)}.")
        if samples < 1:
            raise InputError(f"The number of samples is {samples} - ask at least once.")
        self.client, self.rubric, self.mode, self.samples = client, load_rubric(rubric), mode, samples
        self.name = client.model
        self.temperature = (0.0 if samples == 1 else 1.0) if temperature is None else temperature
        if not 0 <= self.temperature <= 2:
            raise InputError(f"The temperature is {temperature} - give a number from 0 to 2.")
        if mode == "logprob" and any(axis.high > 9 for axis in self.rubric.axes):
            raise InputError(f"Rubric '{self.rubric.name}' has scores of two digits - use --mode text or structured.")
        self._options(0)  # a model without log-probabilities is refused here, before any row

    def request(self, question: Question) -> ChatRequest:
        """What the service is asked about one answer."""
        answer = question.generation
        ask = self.rubric.question if self.mode == "structured" else self.rubric.prompt
        content = ask(answer.instruction, answer.input, answer.response)
        return ChatRequest(
            [{"role": "user", "content": content}], self._options(question.sample), sample=question.sample
        )

    def run(self, questions: Sequence[Question], emit: Callable[[Verdict], None]) -> None:
        """Judge every question, handing each verdict to `emit` as it comes.

        Raises:
            MissingKeyError, QuotaError, ServiceError: as ChatClient raises them.
        """
        run_async(self._run(questions, emit))

    async def _run(self, questions: Sequence[Question], emit: Callable[[Verdict], None]) -> None:
        requests = [self.request(question) for question in questions]
        async with contextlib.aclosing(self.client.stream(requests)) as stream:
            async for index, reply in stream:
                emit(self.verdict(questions[index], reply, requests[index]))

    def verdict(self, question: Question, reply: ChatReply, request: ChatRequest) -> Verdict:
        """Read one reply."""
        status: Status = reply.status
        scores = self.rubric.none_scores()
        asked = {key: value for key, value in request.options.items() if key != "response_format"}
        usage: dict[str, Any] = {**reply.usage, "parameters": asked, "cost": round(reply.cost, 8)}
        if reply.error:
            usage["error"] = reply.error
        if reply.refusal:
            usage["refusal"] = reply.refusal
        if status == "ok":
            scores = self._read(reply, usage)
            if any(score is None for score in scores.values()):
                status = "parse_error"
        return verdict_of(self, question, reply.model_returned, scores, status, reply.text, usage)

    def _read(self, reply: ChatReply, usage: dict[str, Any]) -> dict[str, float | None]:
        if self.mode == "text":
            return parse_verdict(reply.text, self.rubric)
        if self.mode == "structured":
            return read_structured(reply.text, self.rubric)
        if not reply.logprobs:
            raise ServiceError(
                f"{self.client.base_url} (model '{self.name}') sent no log-probabilities - use --mode text or structured."
            )
        scores, usage["mass"] = expected_scores(reply.text, reply.logprobs, self.rubric)
        return scores

    def _options(self, sample: int) -> dict[str, Any]:
        facts = self.client.facts
        options = facts.options(
            max_tokens=REPLY_TOKENS + (REASONING_TOKENS if facts.sampling == "never" else 0),
            logprobs=ALTERNATIVES if self.mode == "logprob" else 0,
            temperature=self.temperature,
            seed=sample,
        )
        if self.mode == "structured":
            options["response_format"] = response_format(self.rubric)
        return options


def response_format(rubric: Rubric) -> dict[str, Any]:
    """The strict JSON schema of a rubric: one whole score an axis."""
    properties = {
        axis.key: {"type": "integer", "enum": list(axis.values), "description": axis.label} for axis in rubric.axes
    }
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}


def read_structured(text: str, rubric: Rubric) -> dict[str, float | None]:
    """Scores of a JSON reply: a number on its axis, or None; a key that comes twice with two values is None."""
    seen: dict[str, set[str]] = {}

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        for key, value in items:
            seen.setdefault(key, set()).add(repr(value))
        return dict(items)

    try:
        values = json.loads(text, object_pairs_hook=pairs)
    except (ValueError, RecursionError):
        return rubric.none_scores()
    if not isinstance(values, dict):
        return rubric.none_scores()
    return {axis.key: _score(axis, values.get(axis.key), len(seen.get(axis.key, ()))) for axis in rubric.axes}


def _score(axis: Axis, value: Any, versions: int) -> float | None:
    if versions != 1 or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return axis.accept(float(value))
