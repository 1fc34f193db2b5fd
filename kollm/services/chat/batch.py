"""The Batch API: the same requests at half the price within a day; submit, detach, collect.

A batch only fills the ledger. Its state is a small file beside the results; whoever runs the same command later collects
the answers, and then everything goes on as if they had been asked for at once. Where a batch brought no answer at all, its
state file stays and holds the reason, so that nobody submits the same again unasked.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import TypeAdapter

from kollm.core.counting import counted
from kollm.core.errors import InputError, QuotaError, StateError
from kollm.core.files import ensure_folder, read_json, write_json
from kollm.core.hashing import canonical_json, content_id
from kollm.core.reading import conforming
from kollm.services.chat.client import ChatClient
from kollm.services.chat.messages import ChatRequest, answer_content, answer_tokens, prompt_tokens, token_counts
from kollm.services.ledger import Answer, Charge, Purchase
from kollm.services.ledger.owner import new_batch
from kollm.services.prices import BATCH_DISCOUNT

MOST_REQUESTS = 50_000
MOST_BYTES = 200_000_000
ENDPOINT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
TAG = "kollm_requests"
"""Key of a batch's metadata that holds the hash of its requests, by which a lost batch is found again."""
ENDED = ("completed", "failed", "expired", "cancelled")
IN_VAIN = ("completed", "failed")
"""Endings after which, where no answer came at all, the same requests would fail again."""
LONGEST_REASON = 300
LEASE_SECONDS = 25 * 3600.0
"""A batch takes a day at most."""


@dataclass(frozen=True, slots=True)
class BatchState:
    """A batch that was, or is about to be, submitted.

    Attributes:
        batch_id: the service's id; empty until the service has told it.
        tag: hash of the requests, also in the batch's metadata.
        base_url: the service.
        model: the model.
        keys: custom id -> key of the purchase.
        costs: custom id -> USD that it may cost at most.
        failure: why the batch brought no answer; empty while that is open.
        owner: who holds the leases of its requests.
    """

    batch_id: str
    tag: str
    base_url: str
    model: str
    keys: dict[str, str]
    costs: dict[str, float]
    failure: str = ""
    owner: str = ""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a state file.

        Raises:
            InputError: it holds something else.
        """
        return conforming(
            TypeAdapter[Self](cls), read_json(path), path, "remove the file if you do not need that batch"
        )


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """Where a batch stands.

    Attributes:
        status: the service's word: `in_progress`, `completed`, ...
        done: True where its answers were collected and the state file is gone.
        answered: answers that came into the ledger now.
        failed: requests without an answer; the next run asks them again.
    """

    batch_id: str
    status: str
    done: bool
    answered: int = 0
    failed: int = 0
    total: int = 0


class ChatBatch:
    """Requests of one client, sent as a batch.

    Args:
        client: the service, the model and the ledger.
        state: the state file, e.g. `verdicts.jsonl.batch.json`.
    """

    def __init__(self, client: ChatClient, state: Path) -> None:
        self.client, self.state = client, state

    @property
    def pending(self) -> bool:
        """Whether a batch was submitted and not yet collected."""
        return self.state.exists()

    def submit(self, requests: Sequence[ChatRequest]) -> BatchProgress:
        """Send what the ledger does not hold, and return at once.

        Raises:
            StateError: a batch is pending already.
            QuotaError: it would go past the client's cap.
            InputError: more than one batch may hold.
            MissingKeyError, ServiceError: no key, or the service refuses.
        """
        if self.pending:
            raise StateError(f"A batch is pending in '{self.state}' - collect it first.")
        missing = self._missing(requests)
        if not missing:
            return BatchProgress("", "completed", True)
        lines, purchases, costs = [], {}, {}
        facts = self.client.facts.discounted(BATCH_DISCOUNT)
        for key, request in missing.items():
            custom = key.removeprefix("sha256:")[:48]
            purchases[custom] = self.client.purchase(request)
            costs[custom] = facts.cost(prompt_tokens(request), answer_tokens(request))
            lines.append(self._line(custom, request))
        self.client.count_earlier(requests)
        self._check(lines, sum(costs.values()))
        keys = {custom: purchase.key for custom, purchase in purchases.items()}
        state = BatchState(
            "",
            content_id(sorted(keys.values())),
            self.client.base_url,
            self.client.model,
            keys,
            costs,
            owner=new_batch(),
        )
        ensure_folder(self.state.parent)
        with self.client.service() as service:
            # Written down before it is sent: a kill in between leaves a batch that its tag finds again.
            if not self._lease({keys[custom]: (purchases[custom], Charge(0, costs[custom])) for custom in keys}):
                return self.submit(requests)
            write_json(self.state, asdict(state))
            try:
                file = service.files.create(file=("requests.jsonl", "".join(lines).encode("ascii")), purpose="batch")
                batch = service.batches.create(
                    input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h", metadata={TAG: state.tag}
                )
            except self.client.refusals:
                self._forget(state)
                raise
        write_json(self.state, asdict(replace(state, batch_id=batch.id)))
        self.client.ledger.hand_over(list(keys.values()), self.client.buying.owner, state.owner, LEASE_SECONDS)
        return BatchProgress(batch.id, batch.status, False, total=len(lines))

    def collect(self) -> BatchProgress:
        """Ask how far the batch is; where it has ended, bring its answers into the ledger and forget it.

        Raises:
            StateError: the batch belongs to another service or model, or it brought no answer at all.
            MissingKeyError, ServiceError: no key, or the service refuses.
        """
        state = BatchState.read(self.state)
        if state.failure:
            raise self._failed(state)
        if (state.base_url, state.model) != (self.client.base_url, self.client.model):
            raise StateError(
                f"The pending batch in '{self.state}' asks '{state.model}' at {state.base_url}, not "
                f"'{self.client.model}' at {self.client.base_url} - collect it with the command that submitted it."
            )
        with self.client.service() as service:
            batch_id = state.batch_id or self._find(service, state.tag)
            if not batch_id:
                self._forget(state)
                return BatchProgress("", "never submitted", True, 0, len(state.keys), len(state.keys))
            batch = service.batches.retrieve(batch_id)
            if batch.status not in ENDED:
                return BatchProgress(batch.id, batch.status, False, total=len(state.keys))
            files = [file for file in (batch.output_file_id, batch.error_file_id) if file]
            lines = [line for file in files for line in service.files.content(file).text.splitlines() if line.strip()]
        answers = self._answers(lines, state)
        self.client.ledger.answer_all({state.keys[custom]: item for custom, item in answers.items()}, state.owner)
        unanswered = [key for custom, key in state.keys.items() if custom not in answers]
        # A batch charges what it answers, and nothing else.
        self.client.ledger.end_leases(unanswered, charged=False, owner=state.owner)
        if not answers and batch.status in IN_VAIN:
            state = replace(state, batch_id=batch.id, failure=_reason(batch, lines))
            write_json(self.state, asdict(state))
            raise self._failed(state)
        self.state.unlink()
        return BatchProgress(batch.id, batch.status, True, len(answers), len(unanswered), len(state.keys))

    def _missing(self, requests: Iterable[ChatRequest]) -> dict[str, ChatRequest]:
        by_key = {self.client.purchase(request).key: request for request in requests}
        answered = self.client.ledger.find(by_key)
        return {key: request for key, request in by_key.items() if key not in answered}

    def _line(self, custom: str, request: ChatRequest) -> str:
        body = {"model": self.client.model, "messages": [dict(m) for m in request.messages], **request.options}
        line = canonical_json({"custom_id": custom, "method": "POST", "url": ENDPOINT, "body": body})
        return line + "\n"

    def _check(self, lines: Sequence[str], cost: float) -> None:
        size = sum(len(line) for line in lines)
        if len(lines) > MOST_REQUESTS or size > MOST_BYTES:
            raise InputError(
                f"The batch would have {counted(len(lines), 'request')} and {size / 1e6:.0f} MB; the Batch API takes {MOST_REQUESTS:,} "
                f"and {MOST_BYTES // 1_000_000} MB - use --limit and submit it in parts."
            )
        cap, spent = self.client.budget.max_cost, self.client.spent
        if cap is not None and spent + cost > cap:
            raise QuotaError(
                f"The batch may cost USD {cost:.4f} and USD {spent:.4f} is spent, past the cap of USD {cap:.4f} - "
                "raise --max-cost."
            )

    def _answers(self, lines: Iterable[str], state: BatchState) -> dict[str, Answer]:
        facts = self.client.facts.discounted(BATCH_DISCOUNT)
        answers: dict[str, Answer] = {}
        for line in lines:
            try:
                row = json.loads(line)
                response = row.get("response") or {}
                if row.get("custom_id") not in state.keys or response.get("status_code") != 200:
                    continue
                content = answer_content(response.get("body"))
            except (ValueError, AttributeError, TypeError, RecursionError):
                continue  # an answer without a message is none; it is asked again
            answers[row["custom_id"]] = Answer(content, 0, facts.cost(*token_counts(content["usage"])))
        return answers

    def _failed(self, state: BatchState) -> StateError:
        return StateError(
            f"Batch {_printable(state.batch_id)} brought no answer: {state.failure} - mend that, then remove '{self.state}' "
            "to ask again; nothing was charged."
        )

    def _find(self, service: Any, tag: str) -> str:
        """The id of the batch with this tag, where a kill came between its making and its being written down."""
        found = (batch.id for batch in service.batches.list(limit=100) if (batch.metadata or {}).get(TAG) == tag)
        return next(found, "")

    def _lease(self, wanted: dict[str, tuple[Purchase, Charge]]) -> bool:
        """Lease all requests; False where some were answered meanwhile, so that the batch is another one.

        Raises:
            StateError: another process, or another batch, is asking for some of them.
            QuotaError: the cap leaves no room.
        """
        leases = self.client.buying.lease(wanted)
        if len(leases.taken) == len(wanted):
            return True
        self.client.buying.release(leases.taken, charged=False)
        if leases.busy:
            raise StateError(
                f"Of the {counted(len(wanted), 'request')}, {counted(len(leases.busy), 'is', 'are')} under way in another process or batch - wait for "
                "it, then run the same command again."
            )
        for error in leases.refused.values():
            raise error
        return False

    def _forget(self, state: BatchState) -> None:
        owner = state.owner if state.batch_id else self.client.buying.owner
        self.client.ledger.end_leases(state.keys.values(), charged=False, owner=owner)
        self.state.unlink(missing_ok=True)


def _reason(batch: Any, lines: Iterable[str]) -> str:
    """Why a batch failed, in one line: its first error (code, line of the file, message), else that of its first request."""
    errors: list[Any] = list(getattr(batch.errors, "data", None) or ())
    if errors:
        code, line, message = (getattr(errors[0], name, None) for name in ("code", "line", "message"))
    else:
        found = (_error(text) for text in lines)
        first = next((error for error in found if error), {})
        code, line, message = first.get("code"), None, first.get("message")
    where = "" if line is None else f" in line {line}"
    text = _printable(f"{code or batch.status}{where}: {message or 'the service gives no reason'}")
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 1] + "…"


def _error(line: str) -> dict[str, Any]:
    """The error of one line of a batch's answers: its own, or that in the service's response; empty for none."""
    try:
        row = json.loads(line)
        body = (row.get("response") or {}).get("body")
        error = row.get("error") or (body.get("error") if isinstance(body, dict) else None)
    except (ValueError, AttributeError, RecursionError):
        return {}
    return error if isinstance(error, dict) else {}


def _printable(text: str) -> str:
    """The text with control characters and whatever else has no shape escaped, for a terminal."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in text)
