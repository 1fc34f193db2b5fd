"""What a build is asked to do: its sources, its settings, its translators; and what it counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from kollm.core.errors import InputError, did_you_mean
from kollm.core.records import Record
from kollm.dataset.finish import Translation
from kollm.dataset.folder import REJECTED, Part
from kollm.recipe.engines import engine_facts
from kollm.recipe.schema import BuildSettings
from kollm.sources import SAMPLE, Source, Turns, find_source, has_own_ids, open_source, read_source, sample_file
from kollm.sources.own import OWN, OwnRows, read_own
from kollm.translate import Translator
from kollm.translate.engines import make_translator, model_options

REJECTED_PART = Part(REJECTED, "train")
MEMORY = "memory"


class SourceInput(NamedTuple):
    """One source of a build.

    Attributes:
        name: a key of SOURCES.
        input: a path, a Hub id, `sample`, or None for the source's pinned place on the Hub.
        revision: another commit on the Hub than the pinned one.
        memory: for the memory translator, the Korean rows in the source's own form; with the input `sample`,
            those that come with it.
        limit: rows to read of this source, where that is fewer than the build's own limit.
        own: rows of a user's own, opened; None for a source that kollm knows.
    """

    name: str
    input: str | Path | None = None
    revision: str | None = None
    memory: str | Path | None = None
    limit: int | None = None
    own: OwnRows | None = None

    @property
    def source(self) -> Source:
        """What the rows are."""
        return find_source(self.name) if self.own is None else self.own.source()

    def opened(self) -> SourceInput:
        """The same, with rows of a user's own opened and named.

        Raises:
            InputError: there is no input, or it cannot be read.
        """
        if self.name != OWN or self.own is not None:
            return self
        if self.input is None:
            raise InputError("The source 'own' is rows of yours - say where they are with --input.")
        own = read_own(self.input, revision=self.revision)
        return self._replace(name=own.options.name, own=own)

    def rows(self, limit: int | None) -> int | None:
        """Rows to read: its own limit or the build's, whichever is less; None for all."""
        return min((number for number in (self.limit, limit) if number is not None), default=None)


def make_settings(base: BuildSettings | None = None, **changes: Any) -> BuildSettings:
    """The settings of a build, some of them changed.

    Raises:
        InputError: an unknown setting, or a value that does not fit.
    """
    values = (base or BuildSettings()).model_dump() | changes
    try:
        return BuildSettings.model_validate(values | {"corrections": str(values["corrections"])})
    except ValidationError as error:
        faults = (
            f"there is no setting '{item['loc'][0]}'{did_you_mean(str(item['loc'][0]), BuildSettings.model_fields)}"
            if item["type"] == "extra_forbidden"
            else f"{item['loc'][0]} is {item['input']!r} - {item['msg'][0].lower()}{item['msg'][1:]}"
            for item in error.errors()
        )
        raise InputError(f"The settings of the build do not fit: {'; '.join(faults)}.") from error


@dataclass(slots=True)
class Tally:
    """What has been counted so far: by source, by part, and in all. `records` are those that the rows `read` gave."""

    read: Counter[str] = field(default_factory=Counter)
    records: Counter[str] = field(default_factory=Counter)
    revisions: dict[str, str] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    licences: dict[Part, set[str]] = field(default_factory=dict)
    mended: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    leaks: list[str] = field(default_factory=list)
    characters: int = 0


class Engines:
    """The translator of each source: one for all, or for `memory` the source's own Korean rows."""

    def __init__(
        self,
        translator: str | Translator,
        model: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = translator if isinstance(translator, str) else translator.name
        self._engine: Translator | None = None
        self._from_rows = translator == MEMORY
        if not isinstance(translator, str):
            self._engine = translator
        elif engine_facts(translator) is not None and translator != MEMORY:
            self._engine = make_translator(translator, **model_options(translator, model), **(options or {}))

    def of(self, item: SourceInput) -> Translator | None:
        """The translator of one source; None for one that stays as it is, or has rows as its memory.

        Raises:
            InputError: the memory's rows are not named.
        """
        if self.translation(item) == "memory":
            self._memory(item)
        return None if item.source.lang == "ko" else self._engine

    def translation(self, item: SourceInput) -> Translation:
        """Where the Korean of one source comes from."""
        if self.name == "none" or item.source.lang == "ko":
            return "none"
        if self._engine is None:
            return "memory"
        return "bought" if self._engine.kept else "here"

    def memory_rows(self, item: SourceInput, turns: Turns) -> Iterator[Record]:
        """The Korean rows of a source's memory."""
        if item.own is not None:
            return (row for row in self._own_memory(item).records(turns=turns) if isinstance(row, Record))
        return (row for row in read_source(item.name, self._memory(item), turns=turns) if isinstance(row, Record))

    def by_place(self, item: SourceInput) -> bool:
        """Whether a memory's rows are found by their places: one side has no ids of its own."""
        if item.own is not None:
            return not (item.own.has_ids() and self._own_memory(item).has_ids())
        own = has_own_ids(item.name, item.input, item.revision) and has_own_ids(item.name, self._memory(item))
        return not own

    def about(self, item: SourceInput) -> dict[str, Any]:
        """What decides the Korean of a source."""
        if self.translation(item) == "memory":
            if item.own is not None:
                return {"memory": self._own_memory(item).revision}
            opened = open_source(item.source, self._memory(item))
            return {"memory": opened.place.revision}
        engine = self.of(item)
        if engine is None:
            return {}
        return {"name": engine.name, "url": engine.base_url, "model": engine.model, "options": dict(engine.options)}

    def _own_memory(self, item: SourceInput) -> OwnRows:
        """The Korean rows of rows of a user's own, read as these are, under their name, by which ids are made."""
        assert item.own is not None
        return read_own(self._memory(item), replace(item.own.options, lang="ko"))

    def _memory(self, item: SourceInput) -> str | Path:
        memory = item.memory
        if memory == SAMPLE or (memory is None and item.input == SAMPLE):
            memory = sample_file(item.name, "ko")
        if memory is None:
            raise InputError(
                f"The memory translator needs the Korean rows of '{item.name}' - name their file with --memory, or choose another --translator (none leaves rows as they are)."
            )
        return memory
