"""The speakers of the chat page, what people said to them, and what they keep of it as data."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kollm.answer.talk import Exchange, Speaker, Talk
from kollm.app import log
from kollm.core.errors import InputError, KollmError

ROWS, PAIRS = "rows.jsonl", "pairs.jsonl"
"""Files of the chat's notes: whole conversations as `messages`, and preference pairs."""


@dataclass
class ChatRoom:
    """The speakers, and what each person said to each of them.

    Args:
        speakers: one or two.
        notes: the folder for rows and pairs.
    """

    speakers: list[Speaker]
    notes: Path
    _talks: dict[str, list[Talk]] = field(default_factory=dict)
    _busy: list[threading.Lock] = field(init=False)

    def __post_init__(self) -> None:
        self._busy = [threading.Lock() for _ in self.speakers]

    def talks(self, who: str) -> list[Talk]:
        """The person's conversations, one a speaker."""
        return self._talks.setdefault(who, [Talk() for _ in self.speakers])

    def answer(self, who: str, number: int, message: str) -> Iterator[str]:
        """What a speaker says to a message, piece by piece; kept as an exchange when it is whole or was stopped.

        A model answers one person at a time: another waits.
        """
        talk = self.talks(who)[number]
        said: list[str] = []
        with self._busy[number]:
            try:
                for piece in self.speakers[number].answer(talk.record(message)):
                    said.append(piece)
                    yield piece
            except KollmError as error:
                yield f"\n[{error}]"
                return
            finally:
                if said:
                    talk.exchanges.append(Exchange(message, "".join(said).strip()))

    def save_row(self, who: str, number: int) -> None:
        """Keep a conversation as a row.

        Raises:
            InputError: nothing was said, or the notes cannot be written.
        """
        talk = self.talks(who)[number]
        if not talk.exchanges:
            raise InputError("Nothing was said yet - there is no row to keep.")
        log.append(self.notes / ROWS, {**talk.row(), "model": self.speakers[number].name, "who": who})

    def save_pair(self, who: str, number: int, better: str) -> None:
        """Keep the last answer as the worse one of a pair, and `better` as the one to prefer.

        Raises:
            InputError: there is no such answer, the better one is empty or the same, or the notes cannot be written.
        """
        talk = self.talks(who)[number]
        if not talk.exchanges:
            raise InputError("Nothing was said yet - there is no answer to correct.")
        last = talk.exchanges[-1]
        if not better.strip() or better.strip() == last.answer:
            raise InputError("The better answer is empty or the same - write how it should be.")
        prompt = Talk(talk.system, talk.exchanges[:-1]).row()["messages"] + [{"role": "user", "content": last.user}]
        pair = {
            "prompt": prompt,
            "chosen": [{"role": "assistant", "content": better.strip()}],
            "rejected": [{"role": "assistant", "content": last.answer}],
            "model": self.speakers[number].name,
            "who": who,
        }
        log.append(self.notes / PAIRS, pair)
