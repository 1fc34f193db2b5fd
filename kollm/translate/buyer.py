"""Parts in, answers out: the ledger before the service, caps before the request, patience with faults."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Self

from kollm.core.errors import KollmError, ServiceError
from kollm.core.progress import say
from kollm.services.ledger import Answer, Charge, Ledger
from kollm.translate.budget import Budget, CapError
from kollm.translate.parts import Part, PartResult
from kollm.translate.translator import RefusedError, TransientError, Translation, Translator

MOST_REFUSALS = 10
"""Batches of one text refused in a row, without an answer between, before the run stops: then it is not the texts."""
TRIAL_TEXTS = 50
"""Texts of the first request, whose answers are looked at before any other is sent."""
LEAST_JUDGED, LAST_JUDGED = 10, 100
"""The run stops when most of its last answers are broken: of the last hundred, and not before there are ten."""
LONGEST_WAIT = 300.0
"""A service that asks for a longer wait, in seconds, is asked again by the next run and not by this one."""
_STRIPES = 512


class Buyer:
    """Gets parts answered: from the ledger, else from the engine, each text once.

    Use as a context manager: leaving waits for the requests under way, whose answers are kept, and sends no more.

    Args:
        translator: the engine.
        ledger: where answers are kept; None for an engine whose answers are not.
        budget: caps and counts.
    """

    def __init__(self, translator: Translator, ledger: Ledger | None, budget: Budget) -> None:
        self._translator, self._ledger, self._budget = translator, ledger, budget
        self._limits = translator.limits
        self._pool = ThreadPoolExecutor(self._limits.workers, thread_name_prefix=translator.name)
        self._lock = threading.Lock()
        self._waiting: list[Part] = []
        self._flying: dict[str, Part] = {}
        self._stripes = [threading.Lock() for _ in range(_STRIPES)]
        self._refusals = 0
        self._judged: deque[bool] = deque(maxlen=LAST_JUDGED)  # of each answer whether it was broken
        self._sent = False
        self._tried = threading.Event()
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._pace = _Pace(self._limits.requests_per_second, self._stop)

    def add(self, parts: Sequence[Part]) -> list[Part]:
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
        self._submit_full_batches()
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
        if self._ledger is None:
            return list(parts), []
        # Of a later attempt, which parts may come to share, the budget itself knows whether it was counted.
        counted = [part.key for part in parts if (part.counted if part.attempt == 1 else self._budget.claim(part.key))]
        answers = self._ledger.find(part.key for part in parts)
        paid = [answers[key] for key in counted if key in answers]
        self._budget.add_earlier(
            Charge(sum(answer.characters for answer in paid), sum(answer.cost for answer in paid)),
            self._ledger.lost(counted),
        )
        missing, broken = [], []
        for part in parts:
            answer = answers.get(part.key)
            if answer is None:
                missing.append(part)
            elif not part.accept(
                answer.content["text"], answer.content.get("reason", ""), answer.characters, answer.cost
            ):
                part.escalate()
                broken.append(part)
        return missing, broken

    def _submit_full_batches(self) -> None:
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
        """In a worker: buy one batch, and what its answers ask to be tried again."""
        try:
            answered = self._ask(batch)
            again = [part for part, translation in answered if not self._accept(part, translation)]
            self._judge([part.reason for part, _ in answered])
        except BaseException as error:
            return self._fail(batch, error)
        # What broke an answer may have been the company of others: each goes alone.
        if self._limits.texts_apart and again:
            self._buy(again)
        else:
            for part in again:
                self._buy_again(part)

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

    def _accept(self, part: Part, translation: Translation) -> bool:
        """False if the part is to be asked again, in its next attempt."""
        if part.accept(translation.text, translation.reason, translation.characters, translation.cost):
            return True
        part.escalate()
        missing, broken = self._replay([part])
        assert not broken, "the last attempt is never broken"
        return not missing

    def _ask(self, batch: list[Part]) -> list[tuple[Part, Translation]]:
        """Ask for a batch, or for its halves if it is refused or past a cap; a text refused alone gets its reason."""
        try:
            answers = self._ask_patiently(batch)
        except (RefusedError, CapError) as error:
            if len(batch) > 1:
                middle = len(batch) // 2
                return self._ask(batch[:middle]) + self._ask(batch[middle:])
            if isinstance(error, CapError):
                raise
            with self._lock:
                self._refusals += 1
                systematic = self._refusals >= MOST_REFUSALS
            if systematic:
                raise ServiceError(
                    f"{self._translator.name} refused {MOST_REFUSALS} texts one after the other, at last with: {error} - "
                    "check the options; what was answered is kept."
                ) from error
            batch[0].refuse(f"refused: {error}")
            return []
        with self._lock:
            self._refusals = 0
        return list(zip(batch, answers, strict=True))

    def _ask_patiently(self, batch: list[Part]) -> list[Translation]:
        tries = self._limits.tries
        for number in range(1, tries + 1):
            try:
                return self._ask_once(batch)
            except TransientError as error:
                if number == tries:
                    raise ServiceError(
                        f"{self._translator.name} gave no answer in {tries} tries, at last: {error} - run the same command "
                        "again later; what was answered is kept."
                    ) from error
                wait = self._limits.backoff * 1.5 ** (number - 1)
                if error.wait is not None and error.wait > LONGEST_WAIT:
                    raise ServiceError(
                        f"{self._translator.name} asks to wait {error.wait:,.0f} s - run the same command again then; "
                        "what was answered is kept."
                    ) from error
                if error.wait is not None:  # the service knows better, unless it has to say so again and again
                    wait = error.wait if number <= 2 else max(wait, error.wait)
                wait *= random.uniform(1.0, 1.25)
                if not error.charged:  # too many requests, or maintenance: true for all of them
                    self._pace.pause(wait)
                self._stop.wait(wait)
        raise AssertionError("unreachable")

    def _ask_once(self, batch: list[Part]) -> list[Translation]:
        self._pace.wait()
        if self._stop.is_set():
            raise self._error or ServiceError("Stopped.")
        prices = [self._translator.price(part.segment.text) for part in batch]
        reserved = Charge(sum(characters for characters, _ in prices), sum(cost for _, cost in prices))
        self._budget.reserve(reserved)
        keys = [part.key for part in batch]
        try:
            if self._ledger is not None:
                purchases = [part.purchase for part in batch]
                self._ledger.begin(purchases, [price[0] for price in prices], [price[1] for price in prices])
        except BaseException:
            self._budget.release(reserved, charged=False)
            raise
        try:
            answers = self._translator.translate([part.segment for part in batch])
        except BaseException as error:
            # Only what the service refused in so many words is certainly free.
            charged = error.charged if isinstance(error, TransientError) else not isinstance(error, _NOT_CHARGED)
            self._budget.release(reserved, charged)
            if self._ledger is not None and not charged:
                self._ledger.release(keys)
            raise
        if self._ledger is not None:
            self._ledger.answer_all({key: _content(answer) for key, answer in zip(keys, answers, strict=True)})
        paid = Charge(sum(answer.characters for answer in answers), sum(answer.cost for answer in answers))
        self._budget.settle(reserved, paid)
        return answers


_NOT_CHARGED = (RefusedError, KollmError)


def _content(translation: Translation) -> Answer:
    content = {"text": translation.text}
    if translation.text is None:
        content["reason"] = translation.reason
    return Answer(content, translation.characters, translation.cost)


class _Pace:
    """Spaces requests evenly, and holds all of them back when the service asks for it."""

    def __init__(self, requests_per_second: float | None, stop: threading.Event) -> None:
        self._stop = stop
        self._interval = 1.0 / requests_per_second if requests_per_second else 0.0
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        with self._lock:
            now = time.monotonic()
            at = max(now, self._next)
            self._next = at + self._interval
        self._stop.wait(at - now)

    def pause(self, seconds: float) -> None:
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)
