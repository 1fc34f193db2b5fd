"""Parts in, answers out: batches, tries and attempts; what is bought, and whether it may be, is services/buying.py."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, Self

from kollm.core.errors import KollmError, ServiceError
from kollm.core.progress import say
from kollm.services.budget import Budget, CapError
from kollm.services.buying import Buying, Leases, poll_waits
from kollm.services.ledger import Answer, Charge, Ledger
from kollm.services.retry import Patience, RetryPolicy
from kollm.translate.parts import Part, PartResult
from kollm.translate.translator import RefusedError, TransientError, Translation, Translator

MOST_REFUSALS = 10
"""Batches of one text refused in a row, without an answer between, before the run stops: then it is not the texts."""
TRIAL_TEXTS = 50
"""Texts of the first request, whose answers are looked at before any other is sent."""
LEAST_JUDGED, LAST_JUDGED = 10, 100
"""The run stops when most of its last answers are broken: of the last hundred, and not before there are ten."""
_STRIPES = 512


class _Asked(NamedTuple):
    """What came of one request.

    Attributes:
        answers: parts with their answers.
        busy: parts that another process is asking for.
        error: the cap that left no room for the other parts.
    """

    answers: list[tuple[Part, Translation]]
    busy: list[Part]
    error: CapError | None = None


class Buyer:
    """Gets parts answered: from the ledger, else from the engine, each text once.

    Use as a context manager: leaving waits for the requests under way, whose answers are kept, and sends no more.

    Args:
        translator: the engine.
        ledger: where answers are kept; None for an engine whose answers are not.
        budget: caps and counts.
    """

    def __init__(self, translator: Translator, ledger: Ledger | None, budget: Budget) -> None:
        self._translator, self._budget = translator, budget
        self._buying = Buying(ledger, budget) if ledger is not None else None
        self._limits = translator.limits
        self._pool = ThreadPoolExecutor(self._limits.workers, thread_name_prefix=translator.name)
        self._lock = threading.Lock()
        self._waiting: list[Part] = []
        self._flying: dict[str, Part] = {}
        self._stripes = [threading.Lock() for _ in range(_STRIPES)]
        self._refusals = 0
        self._judged: deque[bool] = deque(maxlen=LAST_JUDGED)  # of each answer whether it was broken
        self._answers = 0
        self._sent = False
        self._tried = threading.Event()
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._pace = _Pace(self._limits.requests_per_second, self._limits.retry, self._stop)

    def add(self, parts: Sequence[Part], send: bool = True) -> list[Part]:
        """Begin to get parts answered.

        Returns:
            For each part the one whose future to wait for: itself, or an earlier one with the same text.
        """
        chosen, fresh = [], []
        with self._lock:
            for part in parts:
                first = self._flying.setdefault(part.key, part)
                chosen.append(first)
                if first is part:
                    fresh.append((part.key, part))
        for key, part in fresh:
            part.future.add_done_callback(partial(self._landed, key))
        open_parts = [part for _, part in fresh]
        while open_parts:
            missing, open_parts = self._replay(open_parts)
            self._waiting += missing
        if send:
            self.send_full_batches()
        return chosen

    def send(self, parts: Sequence[Part]) -> None:
        """Send these parts now if they still wait for a full batch, with those that wait in front of them."""
        wanted = {id(part) for part in parts}
        while any(id(part) in wanted for part in self._waiting):
            self._submit(self._take_batch())

    def flush(self) -> None:
        """Send what waits for a full batch."""
        while self._waiting:
            self._submit(self._take_batch())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._translator.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._sent:
            try:
                self._budget.close_usage(self._translator.usage())
            except KollmError as error:
                say(f"The usage could not be read at the end: {error}")

    def _landed(self, key: str, _: Future[PartResult]) -> None:
        del self._flying[key]

    def _replay(self, parts: Sequence[Part]) -> tuple[list[Part], list[Part]]:
        """Answer parts from the ledger; those that it lacks, and those whose answer was broken, for their next attempt."""
        if self._buying is None:
            return list(parts), []
        answers = self._buying.find(part.key for part in parts)
        missing, broken = [], []
        for part in parts:
            answer = answers.get(part.key)
            if answer is None:
                missing.append(part)
            elif not _accept(part, _translation(answer)):
                part.escalate()
                broken.append(part)
        return missing, broken

    def send_full_batches(self) -> None:
        """Send what waits, as far as it fills batches."""
        for part in [part for part in self._waiting if part.attempt > 1]:
            self._waiting.remove(part)
            self._start(self._buy_again, part)
        while (
            len(self._waiting) >= self._limits.batch_texts
            or sum(part.size for part in self._waiting) > self._limits.batch_bytes
        ):
            self._submit(self._take_batch())

    def _take_batch(self) -> list[Part]:
        batch: list[Part] = []
        size = 0
        most = self._limits.batch_texts if self._sent else min(TRIAL_TEXTS, self._limits.batch_texts)
        for part in self._waiting[:most]:
            size += part.size
            if batch and size > self._limits.batch_bytes:
                break
            batch.append(part)
        del self._waiting[: len(batch)]
        return batch

    def _submit(self, batch: list[Part]) -> None:
        self._start(self._buy, batch)

    def _start(self, buy: Callable[[Any], None], what: object) -> None:
        """Begin a purchase in a worker; the first goes alone, so that a service that breaks all is paid for little."""
        if self._sent:
            self._pool.submit(self._after_trial, buy, what)
            return
        self._budget.set_usage(self._translator.usage())
        self._sent = True
        self._pool.submit(self._trial, buy, what)

    def _trial(self, buy: Callable[[Any], None], what: object) -> None:
        try:
            buy(what)
        finally:
            self._tried.set()

    def _after_trial(self, buy: Callable[[Any], None], what: object) -> None:
        self._tried.wait()
        buy(what)

    def _buy(self, batch: list[Part]) -> None:
        """In a worker: buy one batch, and what its answers ask to be tried again; wait for what others are buying."""
        waits = poll_waits()
        while batch:
            try:
                asked = self._ask(batch)
                again = [part for part, translation in asked.answers if not self._take(part, translation)]
                self._judge([part.reason for part, _ in asked.answers])
            except BaseException as error:
                return self._fail(batch, error)
            # What broke an answer may have been the company of others: each goes alone.
            if self._limits.texts_apart and again:
                self._buy(again)
            else:
                for part in again:
                    self._buy_again(part)
            if asked.error is not None:
                return self._fail(batch, asked.error)
            batch = asked.busy
            if batch:
                self._stop.wait(next(waits))

    def _judge(self, reasons: Sequence[str]) -> None:
        """Stop when most answers are broken: asking for all of them again would cost twice as much for nothing."""
        with self._lock:
            self._judged.extend(bool(reason) for reason in reasons)
            broken, judged = sum(self._judged), len(self._judged)
        if judged >= LEAST_JUDGED and 2 * broken > judged:
            example = next((reason for reason in reversed(reasons) if reason), "the same as before")
            raise ServiceError(
                f"Stopped before more is spent: of the last {judged} answers of {self._translator.name} {broken} were "
                f"broken, e.g. '{example}' - use a service or model that keeps XML tags, or other options, and run the "
                "same command again; what was answered is kept."
            )

    def _buy_again(self, part: Part) -> None:
        """Buy a later attempt. Texts that differed by a number only are now the same: the second waits for the first."""
        with self._stripes[hash(part.key) % _STRIPES]:
            try:
                missing, _ = self._replay([part])
            except BaseException as error:
                return self._fail([part], error)
            if missing:
                self._buy([part])

    def _fail(self, parts: Sequence[Part], error: BaseException) -> None:
        with self._lock:
            self._error = self._error or error
        self._stop.set()
        for part in parts:
            if not part.future.done():
                part.future.set_exception(error)

    def _take(self, part: Part, translation: Translation) -> bool:
        """Take an answer; False if the part is to be asked again, in its next attempt."""
        if _accept(part, translation):
            return True
        part.escalate()
        missing, broken = self._replay([part])
        assert not broken, "the last attempt is never broken"
        return not missing

    def _ask(self, batch: list[Part]) -> _Asked:
        """Ask for a batch, or for its halves if it is refused; a text refused alone gets its reason."""
        try:
            asked = self._ask_patiently(batch)
        except RefusedError as error:
            if len(batch) > 1:
                middle = len(batch) // 2
                first, second = self._ask(batch[:middle]), self._ask(batch[middle:])
                return _Asked(first.answers + second.answers, first.busy + second.busy, first.error or second.error)
            with self._lock:
                self._refusals += 1
                systematic = self._refusals >= MOST_REFUSALS
            if systematic:
                raise ServiceError(
                    f"{self._translator.name} refused {MOST_REFUSALS} texts one after the other, at last with: {error} - "
                    "check the options; what was answered is kept."
                ) from error
            batch[0].refuse(f"refused: {error}")
            return _Asked([], [])
        with self._lock:
            self._refusals = 0
        return asked

    def _ask_patiently(self, batch: list[Part]) -> _Asked:
        name, policy = self._translator.name, self._limits.retry
        patience = Patience(policy)
        while True:
            answers = self._answers
            try:
                return self._ask_once(batch)
            except TransientError as error:
                if error.wait is not None and error.wait > policy.longest_asked:
                    raise ServiceError(
                        f"{name} asks to wait {error.wait:,.0f} s - run the same command again then; what was answered is "
                        "kept."
                    ) from error
                if not error.charged and self._answers > answers:
                    patience.renew()
                wait = patience.next_wait(error.wait)
                if wait is None:
                    raise ServiceError(
                        f"{name} gave no answer in {patience.tries} tries, at last: {error} - run the same command again "
                        "later; what was answered is kept."
                    ) from error
                if not error.charged:  # too many requests, or maintenance: true for all of them
                    self._pace.pause(wait)
                else:
                    self._stop.wait(wait)

    def _ask_once(self, batch: list[Part]) -> _Asked:
        self._pace.wait()
        if self._stop.is_set():
            raise self._error or ServiceError("Stopped.")
        by_key: dict[str, list[Part]] = {}
        for part in batch:
            by_key.setdefault(part.key, []).append(part)
        leases = self._lease(by_key)
        answered = {key: _translation(answer) for key, answer in leases.answered.items()}
        if leases.taken:
            answered |= self._send({key: by_key[key][0] for key in leases.taken})
        return _Asked(
            [(part, translation) for key, translation in answered.items() for part in by_key[key]],
            [part for key in leases.busy for part in by_key[key]],
            next(iter(leases.refused.values()), None),
        )

    def _lease(self, by_key: dict[str, list[Part]]) -> Leases:
        wanted = {}
        for key, (part, *_) in by_key.items():
            wanted[key] = part.purchase, Charge(*self._translator.price(part.segment.text))
        if self._buying is not None:
            return self._buying.lease(wanted)
        if not self._translator.books_itself:
            self._budget.reserve({key: price for key, (_, price) in wanted.items()})
        return Leases({key: purchase for key, (purchase, _) in wanted.items()})

    def _send(self, parts: dict[str, Part]) -> dict[str, Translation]:
        self._budget.count_request()
        try:
            answers = self._translator.translate([part.segment for part in parts.values()])
        except BaseException as error:
            # Only what the service refused in so many words is certainly free.
            charged = error.charged if isinstance(error, TransientError) else not isinstance(error, _NOT_CHARGED)
            if self._buying is not None:
                self._buying.release(parts, charged)
            else:
                self._budget.release(parts, charged)
            raise
        self._answers += 1
        self._pace.answered()
        found = dict(zip(parts, answers, strict=True))
        if self._buying is not None:
            self._buying.settle({key: _content(answer) for key, answer in found.items()})
        elif not self._translator.books_itself:
            self._budget.settle({key: Charge(answer.characters, answer.cost) for key, answer in found.items()})
        return found


_NOT_CHARGED = (RefusedError, KollmError)


def recall_parts(parts: Sequence[Part], ledger: Ledger) -> bool:
    """Answer parts from the ledger alone; False where it lacks an answer, of which attempt ever."""
    waiting = list(parts)
    while waiting:
        answers = ledger.find(part.key for part in waiting)
        if any(part.key not in answers for part in waiting):
            return False
        waiting = [part for part in waiting if not _accept(part, _translation(answers[part.key]))]
        for part in waiting:
            part.escalate()
    return True


def _accept(part: Part, translation: Translation) -> bool:
    return part.accept(translation.text, translation.reason, translation.characters, translation.cost)


def _content(translation: Translation) -> Answer:
    content: dict[str, str | None] = {"text": translation.text}
    if translation.text is None:
        content["reason"] = translation.reason
    return Answer(content, translation.characters, translation.cost)


def _translation(answer: Answer) -> Translation:
    return Translation(answer.content["text"], answer.characters, answer.cost, answer.content.get("reason", ""))


class _Pace:
    """Spaces requests evenly, and holds all of them back when the service asks for it."""

    def __init__(self, requests_per_second: float | None, policy: RetryPolicy, stop: threading.Event) -> None:
        self._stop, self._policy = stop, policy
        self._interval = 1.0 / requests_per_second if requests_per_second else 0.0
        self._lock = threading.Lock()
        self._next, self._paused_until = 0.0, 0.0
        self._refusals = 0

    def wait(self) -> None:
        with self._lock:
            now = time.monotonic()
            at = max(now, self._next)
            self._next = at + self._interval
        self._stop.wait(at - now)

    def answered(self) -> None:
        self._refusals = 0

    def pause(self, seconds: float) -> None:
        """Nobody sends before; waves of refusals without an answer between make the waits grow."""
        with self._lock:
            now = time.monotonic()
            if now >= self._paused_until:
                self._refusals += 1
                if self._refusals > 1:
                    seconds = max(seconds, self._policy.wait(self._refusals))
            self._paused_until = max(self._paused_until, now + seconds)
            self._next = max(self._next, self._paused_until)
