"""Pairwise judging: which of two answers is better, asked in both orders, since judges favour a place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from kollm.core.columns import check_shown, with_defaults
from kollm.core.errors import InputError
from kollm.core.files import ensure_folder, json_line, read_jsonl, write_atomic
from kollm.core.generations import Generation
from kollm.core.hashing import text_sha256
from kollm.core.lock import output_lock
from kollm.core.verdicts import STATUSES, Status
from kollm.judge.agreement import PositionBias, position_bias
from kollm.judge.choices import Choice, read_choice
from kollm.judge.rubric import Context, encodable, fence_token, fill, turns_text, without_shown_tools
from kollm.judge.rubric_file import RUBRICS
from kollm.judge.stats import holm

if TYPE_CHECKING:  # reading verdicts, as a report does, needs no client
    from kollm.judge.served import ReplyBudget
    from kollm.services.chat import ChatClient, ChatReply, ChatRequest

TEMPLATE = RUBRICS / "pairwise.txt"
REPLY_TOKENS = 256
CHOICES = ("first", "second", "tie", None)
Pair = tuple[Generation, Generation]


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """One pair of answers to one task, judged in both orders.

    Attributes:
        forward: the choice with A shown first and B second; None for no certain choice.
        backward: the choice with B shown first and A second.
        outcome: `a`, `b` or `tie`; `inconsistent` where the orders disagree; None where one of them failed.
        raw: the two replies.
        statuses: of the two replies; a reply without a certain choice is a `parse_error`.
        errors: why there is no reply, or none to use; empty where there is.
        cost: USD of both.
        cluster: as of `Generation.cluster`.
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
    statuses: tuple[Status, Status] = ("ok", "ok")
    errors: tuple[str, str] = ("", "")
    cost: float = 0.0
    category: str = ""
    cluster: str = ""

    def to_row(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The inverse of `to_row`; what older rows lack may be missing.

        Raises:
            InputError: a column is missing or holds a value of another kind.
        """
        verdict = cls(**with_defaults(cls, row))
        texts = (
            verdict.id,
            verdict.system_a,
            verdict.system_b,
            verdict.model_requested,
            verdict.category,
            verdict.cluster,
        )
        if not all(isinstance(text, str) for text in texts):
            raise InputError(f"The pair {verdict.id!r}: id, systems and model must be text - judge the pairs again.")
        if any(choice not in CHOICES for choice in (verdict.forward, verdict.backward)):
            raise InputError(
                f"The pair {verdict.id!r}: a choice is first, second, tie or null - judge the pairs again."
            )
        if not all(status in STATUSES for status in verdict.statuses):
            raise InputError(
                f"The pair {verdict.id!r}: a status is one of {', '.join(STATUSES)} - judge the pairs again."
            )
        return verdict


class PairwiseResult(NamedTuple):
    """Verdicts in the order of the tasks, and how they add up for each two systems."""

    verdicts: list[PairVerdict]
    summaries: dict[tuple[str, str], PositionBias]

    @property
    def summary(self) -> PositionBias:
        """Of the first two systems, where there are no others."""
        return next(iter(self.summaries.values()))


def judge_pairs(
    first: Sequence[Generation],
    second: Sequence[Generation],
    client: ChatClient,
    output: Path,
    *,
    budget: ReplyBudget | None = None,
) -> PairwiseResult:
    """Compare the answers to the tasks that two systems answered.

    Each pair is asked twice, once in each order; the chat client keeps and pays each reply once.

    Args:
        first: answers of system A, or of several systems.
        second: answers of system B, or of several systems; each is compared with each of `first`.
        client: the judge.
        output: the file to write, one `PairVerdict` a line.
        budget: tokens of reply and reasoning.

    Raises:
        InputError: no task was answered by two systems.
        StateError: another process writes that file.
    """
    pairs = match_pairs(first, second)
    with output_lock(output):
        return _judge(pairs, client, output, budget)


def _judge(pairs: Sequence[Pair], client: ChatClient, output: Path, budget: ReplyBudget | None) -> PairwiseResult:
    others = _of_others(output, pairs, client.model)
    from kollm.services.chat import run_async

    replies = run_async(client.all(pair_requests(pairs, client, budget)))
    prompt_hash = text_sha256(without_shown_tools(TEMPLATE.read_text(encoding="utf-8")))
    verdicts = [
        _verdict(a, b, forward, backward, client.model, prompt_hash)
        for (a, b), forward, backward in zip(pairs, replies[::2], replies[1::2], strict=True)
    ]
    ensure_folder(output.parent)
    write_atomic(output, "".join(json_line(verdict.to_row()) for verdict in [*others, *verdicts]))
    return PairwiseResult(verdicts, summarize_pairs(verdicts))


def _of_others(output: Path, pairs: Sequence[Pair], model: str) -> list[PairVerdict]:
    """The rows of an earlier file that are not judged anew now: of other systems, tasks or judges.

    Raises:
        InputError: the file is there and holds something else than pairs.
    """
    if not output.exists():
        return []
    now = {(a.id, a.system, b.system, model) for a, b in pairs}
    return [v for v in read_pairs(output) if (v.id, v.system_a, v.system_b, v.model_requested) not in now]


def read_pairs(path: Path) -> list[PairVerdict]:
    """The pairs of a file.

    Raises:
        InputError: the file is missing or holds something else.
    """
    pairs = []
    for number, row in enumerate(read_jsonl(path), start=1):
        try:
            pair = PairVerdict.from_row(row)
        except InputError as error:
            raise InputError(f"{path}, row {number}: {error}") from error
        for system in (pair.system_a, pair.system_b):
            check_shown(f"{path}, row {number}", pair.id, system)
        pairs.append(pair)
    return pairs


def summarize_pairs(verdicts: Sequence[PairVerdict]) -> dict[tuple[str, str], PositionBias]:
    """Wins and position bias of each two systems; p-values corrected by Holm over all of them."""
    grouped: dict[tuple[str, str], list[PairVerdict]] = {}
    for verdict in verdicts:
        grouped.setdefault((verdict.system_a, verdict.system_b), []).append(verdict)
    found = {
        systems: position_bias(
            [v.forward for v in of_two],
            [v.backward for v in of_two],
            clusters=[v.cluster or v.id for v in of_two],
        )
        for systems, of_two in grouped.items()
    }
    tested = [systems for systems, summary in found.items() if summary.p_value is not None]
    corrected = holm([found[systems].p_value or 0.0 for systems in tested])
    return found | {systems: replace(found[systems], p_holm=p) for systems, p in zip(tested, corrected, strict=True)}


def pair_requests(pairs: Sequence[Pair], client: ChatClient, budget: ReplyBudget | None = None) -> list[ChatRequest]:
    """Two requests a pair, A first and then B first."""
    from kollm.judge.served import ReplyBudget
    from kollm.services.chat import ChatRequest

    options = (budget or ReplyBudget()).options(client.facts, REPLY_TOKENS, temperature=0.0, seed=0)
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
    context = Context.of(task)
    turns = [(encodable(user), encodable(assistant)) for user, assistant in context.history]
    beside = {name: encodable(getattr(context, name)) for name in ("system_message", "reference", "tools")}
    others = [text for text in beside.values() if text] + [text for turn in turns for text in turn]
    values["fence"] = fence_token(without_shown_tools(template), *values.values(), *others)
    return fill(template, values | beside | {"history": turns_text(turns, "ko", values["fence"])})


def match_pairs(first: Sequence[Generation], second: Sequence[Generation]) -> list[Pair]:
    """The answers of two systems to each task that both answered, for each two systems of the two sides.

    One system on each side is compared whatever its name; of several, those of different names, each two once.

    Raises:
        InputError: there is no such pair.
    """
    left, right = _by_system(first), _by_system(second)
    single = len(left) == 1 and len(right) == 1
    seen: set[frozenset[str]] = set()
    pairs: list[Pair] = []
    for a, tasks in left.items():
        for b, others in right.items():
            if not single and (a == b or frozenset((a, b)) in seen):
                continue
            seen.add(frozenset((a, b)))
            pairs += [(answer, others[id]) for id, answer in tasks.items() if id in others]
    if not pairs:
        raise InputError("No task was answered by both systems - compare answers to the same evaluation set.")
    return pairs


def _by_system(answers: Sequence[Generation]) -> dict[str, dict[str, Generation]]:
    systems: dict[str, dict[str, Generation]] = {}
    for answer in answers:
        tasks = systems.setdefault(answer.system, {})
        if answer.id in tasks and tasks[answer.id].response != answer.response:
            raise InputError(
                f"'{answer.system}' has several answers to task {answer.id} - pairs are judged on one; keep one in the file."
            )
        tasks[answer.id] = answer
    return systems


def _verdict(
    a: Generation, b: Generation, forward: ChatReply, backward: ChatReply, model: str, prompt_hash: str
) -> PairVerdict:
    replies = (forward, backward)
    choices = [read_choice(reply.text) if reply.status == "ok" else None for reply in replies]
    statuses = [
        "parse_error" if reply.status == "ok" and choice is None else reply.status
        for reply, choice in zip(replies, choices, strict=True)
    ]
    errors = [
        reply.error or reply.refusal or ("no certain choice" if status == "parse_error" else "")
        for reply, status in zip(replies, statuses, strict=True)
    ]
    return PairVerdict(
        id=a.id,
        system_a=a.system,
        system_b=b.system,
        response_sha256_a=text_sha256(a.response),
        response_sha256_b=text_sha256(b.response),
        prompt_sha256=prompt_hash,
        model_requested=model,
        model_returned=forward.model_returned or backward.model_returned,
        forward=choices[0],
        backward=choices[1],
        outcome=_outcome(choices[0], choices[1]),
        raw=(forward.text, backward.text),
        statuses=(statuses[0], statuses[1]),
        errors=(errors[0], errors[1]),
        cost=round(forward.cost + backward.cost, 8),
        category=a.category,
        cluster=a.cluster,
    )


def _outcome(forward: Choice | None, backward: Choice | None) -> str | None:
    if forward is None or backward is None:
        return None
    agreed = {("first", "second"): "a", ("second", "first"): "b", ("tie", "tie"): "tie"}
    return agreed.get((forward, backward), "inconsistent")
