"""What the server works on: the stores of the opened folders, each opened when it is first asked for."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field

from starlette.exceptions import HTTPException

from kollm.answer.file import read_generations
from kollm.app.comparison import Comparison
from kollm.app.decisions import Decisions
from kollm.app.library import Library, Place
from kollm.app.room import ChatRoom
from kollm.app.rows import RowStore
from kollm.app.suspicion import SuspicionIndex
from kollm.judge.rubric import Rubric
from kollm.judge.verdicts import read_verdicts


@dataclass
class Desk:
    """The stores by name, and what a visitor must carry.

    Attributes:
        token: what the link must carry.
        hosts: names under which the server may be called; another is refused, since a page of someone else's could
            have a name of its own point here.
    """

    library: Library
    hosts: frozenset[str]
    rubric: Rubric
    room: ChatRoom | None = None
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    _rows: dict[str, RowStore] = field(default_factory=dict)
    _suspicion: dict[str, SuspicionIndex] = field(default_factory=dict)
    _decisions: dict[str, Decisions] = field(default_factory=dict)
    _comparisons: dict[str, Comparison] = field(default_factory=dict)

    def rows(self, name: str) -> RowStore:
        place = self._dataset(name)
        if name not in self._rows:
            self._rows[name] = RowStore(place.path)
        return self._rows[name]

    def decisions(self, name: str) -> Decisions:
        place = self._dataset(name)
        if name not in self._decisions:
            self._decisions[name] = Decisions(place.notes / "decisions")
        return self._decisions[name]

    def suspicion(self, name: str) -> SuspicionIndex:
        """The scores; the first call starts the process that makes them."""
        place = self._dataset(name)
        if name not in self._suspicion:
            index = SuspicionIndex(place.path, place.notes)
            index.start()
            self._suspicion[name] = index
        return self._suspicion[name]

    def comparison(self, name: str) -> Comparison:
        if name not in self.library.answers:
            raise HTTPException(404)
        place = self.library.answers[name]
        if name not in self._comparisons:
            judged = place.path.parent / "verdicts.jsonl"
            verdicts = read_verdicts(judged) if judged.is_file() else ()
            self._comparisons[name] = Comparison(read_generations(place.path), place.notes, verdicts)
        return self._comparisons[name]

    def sealed(self, *names: str) -> str:
        """What tells a pair or an answer on a page without naming its systems."""
        return hmac.new(self.token.encode("utf-8"), "\0".join(names).encode("utf-8"), "sha256").hexdigest()

    def close(self) -> None:
        for index in self._suspicion.values():
            index.stop()

    def _dataset(self, name: str) -> Place:
        if name not in self.library.datasets:
            raise HTTPException(404)
        return self.library.datasets[name]
