"""Pairwise judging: which of two answers is better, asked in both orders, since judges favour a place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from kollm.core.errors import InputError
from kollm.core.files import ensure_folder, json_line, read_jsonl, write_atomic
from kollm.core.records import Generation, text_sha256
from kollm.judge.agreement import Choice, PositionBias, position_bias
from kollm.judge.rubric import RUBRICS, encodable, fence_token
from kollm.services.chat import ChatClient, ChatReply, ChatRequest, run_async

TEMPLATE = RUBRICS / "pairwise.txt"
REPLY_TOKENS = 256
_PLACEHOLDER = re.compile(r"\{([a-z]+)\}")
_CHOICES: Mapping[str, Choice] = {"1": "first", "2": "second", "무승부": "tie"}
_VERDICT = re.compile(r"^[\s*_#>`-]*판정\s*[:：]\s*[*_`]*\s*(1|2|무승부)\s*[*_`.]*\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """One pair of answers to one task, judged in both orders.

    Attributes:
        forward: the choice with A shown first and B second; None for no certain choice.
        backward: the choice with B shown first and A second.
        outcome: `a`, `b` or `tie`; `inconsistent` where the orders disagree; None where one of them failed.
        raw: the two replies.
    """

    id: str
    system_a: str
    system_b: str
    response_sha256_a: str
    response_sha256_b: str
    prompt_sha256: str
    model_requested: str
    model_returned: str
    forward: Choice | None
    backward: Choice | None
    outcome: str | None
    raw: tuple[str, str]

    def to_row(self) -> dict[str, Any]:
        return asdict(self)


class PairwiseResult(NamedTuple):
    """Verdicts in the order of the tasks, and how they add up."""

    verdicts: list[PairVerdict]
    summary: PositionBias


def judge_pairs(
    first: Sequence[Generation], second: Sequence[Generation], client: ChatClient, output: Path, *, seed: int = 0
) -> PairwiseResult:
    """Judge every task that both systems answered, in both orders, and write one line a pair to `output`.

    The ledger keeps every reply, so that a run that was stopped goes on where it was.

    Args:
        first: answers of system A.
        second: answers of system B.
        client: the judge.
        output: pairs.jsonl.
        seed: of the bootstrap interval.

    Raises:
        InputError: no task was answered by both, or a side holds several systems.
    """
    pairs = match_pairs(first, second)
    others = _of_others(output, pairs, client.model)
    requests = pair_requests(pairs, client)
    replies = run_async(client.all(requests))
    prompt_hash = text_sha256(TEMPLATE.read_text(encoding="utf-8"))
    verdicts = [
        _verdict(a, b, forward, backward, client.model, prompt_hash)
        for (a, b), forward, backward in zip(pairs, replies[::2], replies[1::2], strict=True)
    ]
    ensure_folder(output.parent)
    write_atomic(output, "".join(json_line(row) for row in [*others, *(verdict.to_row() for verdict in verdicts)]))
    choices = [(verdict.forward, verdict.backward) for verdict in verdicts]
    return PairwiseResult(verdicts, position_bias([f for f, _ in choices], [b for _, b in choices], seed=seed))


def _of_others(output: Path, pairs: Sequence[tuple[Generation, Generation]], model: str) -> list[dict[str, Any]]:
    """The rows of an earlier file that are not judged anew now: of other systems, tasks or judges.

    Raises:
        InputError: the file is there and holds something else than pairs.
    """
    if not output.exists():
        return []
    rows = list(read_jsonl(output))
    if any(row.keys() != {field.name for field in fields(PairVerdict)} for row in rows):
        raise InputError(f"'{output}' holds something else than judged pairs - write to another file.")
    now = {(a.id, a.system, b.system, model) for a, b in pairs}
    keys = ("id", "system_a", "system_b", "model_requested")
    return [row for row in rows if tuple(row[key] for key in keys) not in now]


def pair_requests(pairs: Sequence[tuple[Generation, Generation]], client: ChatClient) -> list[ChatRequest]:
    """Two requests a pair, A first and then B first."""
    options = client.facts.options(max_tokens=REPLY_TOKENS, temperature=0.0, seed=0)
    prompts = [
        prompt
        for a, b in pairs
        for prompt in (pair_prompt(a, a.response, b.response), pair_prompt(a, b.response, a.response))
    ]
    return [ChatRequest([{"role": "user", "content": prompt}], options) for prompt in prompts]


def pair_prompt(task: Generation, first: str, second: str) -> str:
    """The prompt for two answers in this order; all fields are put in at once, between fences that none contains."""
    template = TEMPLATE.read_text(encoding="utf-8").rstrip("\n")
    fields = {"instruction": task.instruction, "input": task.input or "-", "first": first, "second": second}
    values = {name: encodable(text) for name, text in fields.items()}
    values["fence"] = fence_token(template, *values.values())
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)


def read_choice(text: str) -> Choice | None:
    """The choice that a reply states on a line of its own; None where it states none, or two different ones."""
    found = {_CHOICES[match] for match in _VERDICT.findall(text)}
    return found.pop() if len(found) == 1 else None


def match_pairs(first: Sequence[Generation], second: Sequence[Generation]) -> list[tuple[Generation, Generation]]:
    """The two answers to each task that both systems answered.

    Raises:
        InputError: there is none, or a side holds several systems.
    """
    for side in (first, second):
        if len(systems := {answer.system for answer in side}) > 1:
            raise InputError(
                f"One side of a pairwise comparison holds {len(systems)} systems ({', '.join(sorted(systems))}) - "
                "give a file of one system on each side."
            )
    others = {answer.id: answer for answer in second}
    pairs = [(answer, others[answer.id]) for answer in first if answer.id in others]
    if not pairs:
        raise InputError("No task was answered by both systems - compare answers to the same evaluation set.")
    return pairs


def _verdict(
    a: Generation, b: Generation, forward: ChatReply, backward: ChatReply, model: str, prompt_hash: str
) -> PairVerdict:
    choices = [read_choice(reply.text) if reply.status == "ok" else None for reply in (forward, backward)]
    return PairVerdict(
        id=a.id,
        system_a=a.system,
        system_b=b.system,
        response_sha256_a=text_sha256(a.response),
        response_sha256_b=text_sha256(b.response),
        prompt_sha256=prompt_hash,
        model_requested=model,
        model_returned=forward.model_returned,
        forward=choices[0],
        backward=choices[1],
        outcome=_outcome(choices[0], choices[1]),
        raw=(forward.text, backward.text),
    )


def _outcome(forward: Choice | None, backward: Choice | None) -> str | None:
    if forward is None or backward is None:
        return None
    agreed = {("first", "second"): "a", ("second", "first"): "b", ("tie", "tie"): "tie"}
    return agreed.get((forward, backward), "inconsistent")
