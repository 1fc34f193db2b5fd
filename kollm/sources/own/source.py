"""Rows of a user's own as a source: read, told by their form, and made Records of.

    own = read_own("my.jsonl", OwnOptions())
    rows = list(own)            # Records, and Rejected with the reason
    own.summary()               # 500 rows, read as OpenAI messages; 3 columns not used: ...

Nothing is invented: a row has the licence that the user names, or none, and its language is the one it is written in.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kollm.core.counting import counted
from kollm.core.errors import InputError
from kollm.core.progress import say
from kollm.core.records import Record
from kollm.core.text import language_of
from kollm.recipe.tools import without_tools
from kollm.sources.own.exports import refuse_exports, unwrapped
from kollm.sources.own.forms import Form, find_form, parse_mapping
from kollm.sources.own.places import Place as Files
from kollm.sources.own.places import find_files
from kollm.sources.own.reading import Located, read_rows
from kollm.sources.own.row import canonical_row, own_id
from kollm.sources.own.unreadable import UnreadableError
from kollm.sources.source import Adapted, Place, Rejected, Row, Source, Turns, adapt_row, as_json, check

OWN = "own"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_PEEK = 200
"""Rows by whose keys the form is found."""


@dataclass(frozen=True, slots=True)
class OwnOptions:
    """What a user says of rows of their own.

    Attributes:
        mapping: `FIELD=COLUMN` options.
        name: the source's name, in ids and cards.
        licence: of the rows; empty where none is named.
        config: of a dataset on the Hub.
        split: `train`, `test`, ...
        lang: language of the rows; empty to look.
        asked: whether the rows are questions to be answered.
    """

    mapping: tuple[str, ...] = ()
    name: str = OWN
    licence: str = ""
    config: str | None = None
    split: str | None = None
    lang: str = ""
    asked: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InputError(
                f"--source-name '{self.name}' is no name - use up to 40 small letters, digits, '-' and '_'."
            )


@dataclass(slots=True)
class OwnRows:
    """An input that is open: its form, and its rows each time it is read.

    Attributes:
        where: the input's name.
        options: what the user says.
        files: where the rows are.
        form: how they are read.
        lang: language of the rows.
        notes: how the files were read, for the user.
        counts: rows read, and rows left out by reason, of the last reading.
        columns: columns that were seen.
    """

    where: str
    options: OwnOptions
    files: Files
    form: Form
    lang: str
    notes: list[str]
    counts: Counter[str] = field(default_factory=Counter)
    columns: set[str] = field(default_factory=set)

    @property
    def revision(self) -> str:
        return self.files.revision

    def source(self) -> Source:
        """The rows as a source of a build."""
        return Source(
            name=self.options.name,
            title=self.options.name,
            licence=self.options.licence,
            adapt=adapt,
            hub_id="",
            revision="",
            split="test" if self.options.asked else "train",
            lang=self.lang,
            personal=True,
        )

    def rows(self, limit: int | None = None) -> Iterator[Row]:
        """The rows in one form, for `adapt`.

        Raises:
            InputError: a file is malformed, or changes its form.
        """
        for row, reason in self.raw(limit):
            try:
                yield {"reject": reason, "row": row} if reason else canonical_row(row, self.form, self.options.asked)
            except UnreadableError as error:
                yield {"reject": str(error), "row": row, "id": own_id(row, self.form)}

    def raw(self, limit: int | None = None) -> Iterator[tuple[Any, str]]:
        """The rows as they are, without the wrapping of an export, each with the reason why it is none, or an empty one.

        Raises:
            InputError: a file is malformed, or changes its form.
        """
        self.counts.clear()
        found = self._located()
        for located in found if limit is None else itertools.islice(found, limit):
            self.counts["read"] += 1
            row = unwrapped(located.row)
            if located.error or not isinstance(row, Mapping):
                yield located.row, located.error or "not_an_object"
                continue
            self.columns.update(map(str, row))
            if not self.form.fits(row):
                self._check_form(row, located.where)
            yield row, ""

    def has_ids(self) -> bool:
        """Whether the rows have ids of their own, told by the first of them."""
        return any(not reason and own_id(row, self.form) is not None for row, reason in self.raw(_PEEK))

    def records(self, limit: int | None = None, turns: Turns = "conversation") -> Iterator[Record | Rejected]:
        """The rows as Records, and those that cannot be used."""
        source = self.source()
        place = Place(source.name, source.licence, source.lang, self.revision, turns=turns)
        for index, row in enumerate(self.rows(limit)):
            adapted = adapt_row(source, row, place.at(index))
            yield from adapted.records
            for rejected in adapted.rejected:
                self.counts[f"left out: {rejected.reason}"] += 1
                yield rejected

    def summary(self) -> str:
        """What was read, in one line."""
        left = {
            name.removeprefix("left out: "): count for name, count in self.counts.items() if name.startswith("left out")
        }
        unused = self.form.unused(self.columns)
        parts = [f"{self.where}: {counted(self.counts['read'], 'row')}, read as {self.form.title}"]
        if self.notes:
            parts.append(", ".join(dict.fromkeys(self.notes)))
        if unused:
            shown = ", ".join(unused[:8]) + (", ..." if len(unused) > 8 else "")
            parts.append(f"{counted(len(unused), 'column')} not used: {shown}")
        if left:
            total = sum(left.values())
            parts.append(
                f"{counted(total, 'row')} left out: " + ", ".join(f"{name} {count:,}" for name, count in left.items())
            )
        return "; ".join(parts)

    def _located(self) -> Iterator[Located]:
        for file in self.files.files:
            name = f"{file.name}, " if len(self.files.files) > 1 else ""
            for located in read_rows(file, lambda said: None):
                yield located._replace(where=f"{name}{located.where}")

    def _check_form(self, row: Mapping[str, Any], where: str) -> None:
        """Refuse a row that is whole in another form; one that is only incomplete is left out."""
        try:
            other = find_form([row], {}, self.where, asked=self.options.asked)
        except InputError:
            return
        if other.kind != self.form.kind:
            raise _changed(self.where, where, self.form, other)


def read_own(input: str | Path, options: OwnOptions | None = None, revision: str | None = None) -> OwnRows:
    """Open rows of a user's own and find their form.

    Args:
        input: a file, a folder, a `save_to_disk` folder, `ORG/NAME[@REVISION]`, or `-`.
        options: what the user says of them.
        revision: a commit on the Hub.

    Raises:
        InputError: nothing is there, it cannot be read, it is empty, or no form fits or two do.
        ServiceError: the Hub cannot be reached.
    """
    options = options or OwnOptions()
    files = find_files(input, revision=revision, config=options.config, split=options.split, asked=options.asked)
    where = "standard input" if str(input) == "-" else str(input)
    notes: list[str] = list(files.notes)
    first: list[Located] = []
    for file in files.files:
        if len(first) >= _PEEK:
            break
        for located in itertools.islice(read_rows(file, notes.append), _PEEK - len(first)):
            row = unwrapped(located.row)
            if isinstance(row, Mapping):
                first.append(located._replace(row=row))
    if not first:
        raise InputError(f"'{where}' holds no rows - check the file.")
    rows = [located.row for located in first]
    mapping = parse_mapping(options.mapping)
    if not mapping:
        refuse_exports(rows, where)
        _refuse_change(first, where, options.asked)
    form = find_form(rows, mapping, where, asked=options.asked)
    return OwnRows(where, options, files, form, options.lang or _language(rows, form), notes)


def own_records(input: str | Path, options: OwnOptions | None = None, limit: int | None = None) -> list[Record]:
    """The rows that can be used, said in one line.

    Raises:
        InputError: as `read_own`, or no row can be used.
    """
    own = read_own(input, options)
    records = [row for row in own.records(limit) if isinstance(row, Record)]
    say(own.summary())
    if not records:
        raise InputError(f"None of the rows of '{own.where}' can be used - see the reasons above.")
    return unique(records)


def unique(records: Sequence[Record]) -> list[Record]:
    """The records, each with an id of its own: a later one of the same id gets a number."""
    seen: Counter[str] = Counter()
    there = {record.id for record in records}
    result = []
    for record in records:
        seen[record.id] += 1
        if seen[record.id] > 1:
            number = seen[record.id]
            while (name := f"{record.id}-{number}") in there:
                number += 1
            there.add(name)
            record = replace(record, id=name)
        result.append(record)
    return result


def adapt(row: Row, place: Place) -> Adapted:
    """One Record of a row in the one form that `OwnRows.rows` gives."""
    if "reject" in row:
        record = place.record(row.get("id"), "", "", as_json(row["row"]))
        return Adapted(rejected=(Rejected(record, row["reason"] if "reason" in row else row["reject"]),))
    history = tuple((user, bot) for user, bot in row["history"])
    instruction, input, output = row["instruction"], row["input"], row["output"]
    if place.turns == "first" and history:
        (instruction, output), input, history = history[0], "", ()
    record = place.record(row["id"], instruction, input, output, history)
    record = replace(record, system=row["system"], tools=row["tools"])
    if place.turns == "pairs" and history:
        turns = [*history, (instruction, output)]
        parts = [
            check(
                replace(
                    record,
                    id=f"{record.id}-t{number}",
                    instruction=user,
                    output=bot,
                    history=(),
                    input=input if number == len(turns) else "",
                )
            )
            for number, (user, bot) in enumerate(turns, start=1)
        ]
        return Adapted(
            tuple(record for part in parts for record in part.records),
            tuple(rejected for part in parts for rejected in part.rejected),
            tuple(row["notes"]),
        )
    if row["asked"]:
        checked = check(replace(record, output=record.output or "-"), tuple(row["notes"]))
        return checked._replace(records=tuple(replace(item, output=record.output) for item in checked.records))
    if row["text"]:  # an answer without a question
        checked = check(replace(record, instruction="-"), tuple(row["notes"]))
        return checked._replace(records=tuple(replace(item, instruction="") for item in checked.records))
    return check(record, tuple(row["notes"]))


def _refuse_change(first: Sequence[Located], where: str, asked: bool) -> None:
    """Refuse rows of which some have one form and others another."""
    before: Form | None = None
    for located in first:
        try:
            form = find_form([located.row], {}, where, asked=asked)
        except InputError:
            continue
        if before is not None and form.kind != before.kind and "text" not in (form.kind, before.kind):
            raise _changed(where, located.where, before, form)
        before = before or form


def _changed(where: str, place: str, before: Form, after: Form) -> InputError:
    return InputError(
        f"{where}, {place}: the rows before are {before.title}, and this one is {after.title} - put them into two files."
    )


def _language(rows: Sequence[Mapping[str, Any]], form: Form) -> str:
    """`ko` where a tenth of the letters are Hangul, else `en`."""
    return language_of(" ".join(_words(row, form)[:2000] for row in rows))


def _words(row: Mapping[str, Any], form: Form) -> str:
    """What is said in a row: without the keys of its objects, and without what goes to tools and comes from them."""
    try:
        read = canonical_row(row, form, asked=True)
    except UnreadableError:
        return as_json([row.get(column) for name, column in form.columns.items() if name not in ("id", "tools")])
    turns = [text for turn in read["history"] for text in turn]
    return without_tools("\n".join([read["system"], *turns, read["instruction"], read["input"], read["output"]]))
