"""Judges behind an OpenAI-compatible service, asked in one of four ways.

- `text`: the rubric's prompt with its reply form, as the paper asks; the reply is parsed.
- `structured`: the rubric's question with a strict JSON schema of whole scores.
- `rationale`: as `structured`, with a text before each score in which the judge gives its reasons.
- `logprob`: as `text`, and each score is the expectation of the allowed values under the probabilities that the service
  reports for the tokens where the score stands.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kollm.core.errors import InputError, ServiceError
from kollm.core.generations import Generation
from kollm.core.replies import read_json_object, reasoning_end, without_reasoning
from kollm.core.verdicts import Status, Verdict
from kollm.judge.checklist import read_answers, share
from kollm.judge.expectation import expected_scores
from kollm.judge.parse import parse_verdict
from kollm.judge.rubric import Axis, Context, Rubric
from kollm.judge.rubric_file import load_rubric
from kollm.judge.run import Outcome, Question, verdict_of
from kollm.services.chat import ChatClient, ChatReply, ChatRequest, run_async
from kollm.services.prices import ModelFacts

Mode = Literal["text", "structured", "rationale", "logprob"]
MODES: tuple[Mode, ...] = ("text", "structured", "rationale", "logprob")
REPLY_TOKENS: dict[Mode, int] = {"text": 512, "structured": 512, "rationale": 2048, "logprob": 512}
"""Room for the reply: the form takes about 80 tokens, and a judge may explain itself; a reply that is cut is a failure."""
ALTERNATIVES = 20
"""Most alternatives a token that the service reports."""
FIRST_REPLIES = 10
"""Replies after which a judge that cannot be read is stopped."""
UNREADABLE = 0.9
"""Share of them without a score that stops it."""


@dataclass(frozen=True, slots=True)
class ReplyBudget:
    """Tokens that one judgement may take.

    Attributes:
        reply: of the reply proper; None for what the mode takes.
        reasoning: beside it, for a model that thinks first; None for what the table of models says. More than 0 lets a
            model think that would be kept from it.
    """

    reply: int | None = None
    reasoning: int | None = None

    def __post_init__(self) -> None:
        if (self.reply is not None and self.reply < 1) or (self.reasoning is not None and self.reasoning < 0):
            raise InputError(
                f"The judge is given {self.reply} tokens of reply and {self.reasoning} of reasoning - give 1 or more, and 0 "
                "or more."
            )

    def options(self, facts: ModelFacts, usual: int, **sampling: Any) -> dict[str, Any]:
        """Request options of one model with this room; `usual` is the reply's room where none was given."""
        thinking = facts.reasoning if self.reasoning is None else self.reasoning
        reply = usual if self.reply is None else self.reply
        return facts.options(max_tokens=reply + thinking, thinks=bool(self.reasoning), **sampling)


@dataclass(frozen=True, slots=True)
class Asking:
    """How a chat model is asked for a verdict.

    Attributes:
        mode: `text`, `structured`, `rationale` or `logprob`.
        samples: how often each answer is judged; the verdicts are kept apart and averaged in reports.
        temperature: by default 0 for one sample and 1 for several, which would be alike otherwise.
        budget: tokens of reply and reasoning.

    Raises:
        InputError: an unknown mode, no samples, or a temperature outside 0 to 2.
    """

    mode: Mode = "text"
    samples: int = 1
    temperature: float | None = None
    budget: ReplyBudget = field(default_factory=ReplyBudget)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"There is no mode '{self.mode}' - use {', '.join(MODES)}.")
        if self.samples < 1:
            raise InputError(f"The number of samples is {self.samples} - ask at least once.")
        if not 0 <= self.warmth <= 2:
            raise InputError(f"The temperature is {self.temperature} - give a number from 0 to 2.")

    @property
    def warmth(self) -> float:
        """The temperature that the request gets."""
        return (0.0 if self.samples == 1 else 1.0) if self.temperature is None else self.temperature


Prompts = dict[int, tuple[Generation, str]]
"""What is asked about an answer, by its `id()`; it is kept with its answer, so that its id stays its own."""


class ChatJudge:
    """Judges by asking a chat model.

    `prompts` are written once for each answer; judges by one rubric and in one mode may have them in common.

    Args:
        client: the service and the model; its kind should be `judge`.
        rubric: a Rubric, the name of a shipped one, or the path of a rubric file.
        asking: mode, samples, temperature and room of a reply.
        keep_going: whether to go on where the first replies give no score.

    Raises:
        InputError: a rubric that asks nothing, or log-probabilities of a model or a rubric that allows none.
    """

    def __init__(
        self,
        client: ChatClient,
        rubric: str | Path | Rubric,
        asking: Asking | None = None,
        *,
        keep_going: bool = False,
    ) -> None:
        asking = asking or Asking()
        self.client, self.rubric, self.name = client, load_rubric(rubric), client.model
        self.mode, self.samples, self.temperature, self.budget = (
            asking.mode,
            asking.samples,
            asking.warmth,
            asking.budget,
        )
        if not self.rubric.asks:
            raise InputError(
                f"Rubric '{self.rubric.name}' has rules alone, which no judge is asked - use --engine rules."
            )
        if self.mode == "logprob" and self.rubric.checklist is not None:
            raise InputError(f"Rubric '{self.rubric.name}' asks a checklist - use --mode text or structured.")
        self.keep_going = keep_going
        self._read_replies: Counter[bool] = Counter()
        self.prompts: Prompts = {}
        self._requests: dict[tuple[int, int], tuple[Generation, ChatRequest]] = {}
        self._options(None)  # a model without log-probabilities is refused here, before any row

    def request(self, question: Question) -> ChatRequest:
        """What the service is asked about one answer; the estimate and the run ask for the same, which is made once."""
        key = id(question.generation), question.sample
        if key not in self._requests:  # the answer is kept with its request, so that its id stays its own
            self._requests[key] = question.generation, self._request(question)
        return self._requests[key][1]

    def _request(self, question: Question) -> ChatRequest:
        answer = question.generation
        if id(answer) not in self.prompts:
            ask = self.rubric.prompt if self.mode in ("text", "logprob") else self.rubric.question
            content = ask(answer.instruction, answer.input, answer.response, Context.of(answer))
            self.prompts[id(answer)] = answer, content
        content = self.prompts[id(answer)][1]
        return ChatRequest([{"role": "user", "content": content}], self._options(question), sample=question.sample)

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
                verdict = self.verdict(questions[index], reply, requests[index])
                emit(verdict)
                self._stop_if_unreadable(verdict, reply)

    def _stop_if_unreadable(self, verdict: Verdict, reply: ChatReply) -> None:
        """Stop early where the first replies are paid for and of no use; what was asked before does not count."""
        if (
            self.keep_going
            or reply.replayed
            or reply.status not in ("ok", "truncated")
            or self._read_replies.total() >= FIRST_REPLIES
        ):
            return
        self._read_replies[verdict.status == "ok"] += 1
        if self._read_replies.total() == FIRST_REPLIES and self._read_replies[False] >= UNREADABLE * FIRST_REPLIES:
            cut = verdict.status == "truncated"
            advice = (
                "give the judge more room: --reasoning-tokens, --reply-tokens"
                if cut
                else f"try another --mode ({', '.join(mode for mode in MODES if mode != self.mode)}) or another --model"
            )
            raise ServiceError(
                f"{self._read_replies[False]} of the first {FIRST_REPLIES} replies of '{self.name}' gave no score (the last: "
                f"{_excerpt(reply.text)}) - {advice}; "
                "or go on all the same: --keep-going. What was answered is kept."
            )

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
            scores = self._read(question, reply, usage)
            if any(scores[axis.key] is None for axis in self.rubric.axes if axis.kind != "rules"):
                status = "parse_error"
        return verdict_of(self, question, Outcome(scores, status, reply.model_returned, reply.text, usage))

    def _read(self, question: Question, reply: ChatReply, usage: dict[str, Any]) -> dict[str, float | None]:
        items = len(question.generation.checklist)
        if self.mode == "logprob":
            return self._expected(reply, usage)
        if self.mode == "text":
            scores = parse_verdict(reply.text, self.rubric)
            answers = read_answers(without_reasoning(reply.text), items)
        else:
            values = read_json_object(reply.text) or {}
            scores = structured_scores(values, self.rubric)
            answers = [
                value if isinstance(value := values.get(f"item_{n}"), bool) else None for n in range(1, items + 1)
            ]
        if self.rubric.checklist is not None:
            scores[self.rubric.checklist.key] = share(answers)
            usage["checklist"] = answers
        return scores

    def _expected(self, reply: ChatReply, usage: dict[str, Any]) -> dict[str, float | None]:
        if not reply.logprobs:
            raise ServiceError(
                f"{self.client.base_url} (model '{self.name}') sent no log-probabilities - use --mode text or structured."
            )
        expected = expected_scores(reply.text, reply.logprobs, self.rubric)
        usage.update(mass=expected.mass, chances=expected.chances)
        return self.rubric.none_scores() | expected.scores

    def _options(self, question: Question | None) -> dict[str, Any]:
        options = self.budget.options(
            self.client.facts,
            max(REPLY_TOKENS[self.mode], self.rubric.reply_tokens or 0),
            logprobs=ALTERNATIVES if self.mode == "logprob" else 0,
            temperature=self.temperature,
            seed=question.sample if question else 0,
        )
        if self.mode in ("structured", "rationale"):
            items = len(question.generation.checklist) if question and self.rubric.checklist else 0
            options["response_format"] = response_format(self.rubric, rationale=self.mode == "rationale", items=items)
        return options


def response_format(rubric: Rubric, *, rationale: bool = False, items: int = 0) -> dict[str, Any]:
    """The strict JSON schema of a rubric: one whole score an axis, after its rationale where there is one.

    Args:
        rubric: its scored axes become keys.
        rationale: whether a text comes before each score.
        items: questions of the task's checklist, each answered by true or false.
    """
    properties: dict[str, Any] = {}
    for axis in rubric.scored:
        if rationale:
            properties[f"{axis.key}_rationale"] = {"type": "string", "description": f"{axis.label}: reasons, briefly"}
        properties[axis.key] = {"type": "integer", "enum": list(axis.values), "description": axis.label}
    for number in range(1, items + 1):
        properties[f"item_{number}"] = {"type": "boolean", "description": f"item {number} of the checklist is met"}
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}


def read_structured(text: str, rubric: Rubric) -> dict[str, float | None]:
    """Scores of a JSON reply, wherever the object stands in it; None for an axis without one number on its scale."""
    return structured_scores(read_json_object(text) or {}, rubric)


def structured_scores(values: dict[str, Any], rubric: Rubric) -> dict[str, float | None]:
    """Scores of the object that a judge replied with."""
    return rubric.none_scores() | {axis.key: _score(axis, values.get(axis.key)) for axis in rubric.scored}


def _score(axis: Axis, value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return axis.accept(float(value))


def _excerpt(text: str) -> str:
    """The beginning of a reply proper, on one line; where there is none, of the thinking."""
    proper = text[reasoning_end(text) :].strip() or text
    shown = " ".join(proper.split())
    return repr(shown if len(shown) <= 80 else f"{shown[:77]}...")
