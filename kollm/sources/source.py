"""What a source is: where its rows come from, under which licence, and how one of its rows becomes Records."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from kollm.core.columns import Turn
from kollm.core.records import Provenance, Record
from kollm.core.text import are_normal, is_blank, normalise_values
from kollm.sources.placeholders import is_no_input, is_no_output, runs_on

Turns = Literal["conversation", "pairs", "first"]
"""What becomes of a conversation: one Record with `history`, one Record a pair, or its first pair alone."""

Row = Mapping[str, Any]

MAX_ID = 200
"""Characters of an id; longer ones are texts that stand in the wrong column."""
MAX_FIELD = 50_000
"""Characters that one field may hold. Longer ones are dumps of files rather than instructions, and DeepL, whose
requests end at 128 KiB of escaped JSON, could not take them in one piece."""


class Rejected(NamedTuple):
    """A row that was left out, as far as it could be read, and why."""

    record: Record
    reason: str


class Adapted(NamedTuple):
    """What one source row became; `notes` names what was mended on the way, to be counted."""

    records: tuple[Record, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands, and how it is to be read.

    Attributes:
        source: name of the source.
        licence: SPDX identifier that the row gets.
        lang: language of the source's text.
        revision: Hub commit hash, or `sha256:` of the local file.
        index: position of the row in its file, from 0.
        turns: what becomes of a conversation.
        own_ids: whether the rows' own ids tell them apart; if not, their places do.
    """

    source: str
    licence: str
    lang: str = "en"
    revision: str = ""
    index: int = 0
    turns: Turns = "conversation"
    own_ids: bool = True

    def at(self, index: int) -> Place:
        """The place of another row of the file; by hand, since dataclasses.replace takes five times as long."""
        return Place(self.source, self.licence, self.lang, self.revision, index, self.turns, self.own_ids)

    def own_id(self, row: Row) -> str | None:
        """The row's own `id` as text; None where it has none that can stand in a table."""
        value = row.get("id") if self.own_ids else None
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # as parquet holds whole numbers where some rows have none
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            return None
        name = str(value).strip()
        return name if name and len(name) <= MAX_ID and name.isprintable() else None

    def record(
        self,
        own_id: str | None,
        instruction: str,
        input: str,
        output: str,
        history: tuple[Turn, ...] = (),
        category: str = "",
    ) -> Record:
        """A Record of this place; its id is the source's name and the row's own id, or else its index."""
        return Record(
            id=f"{self.source}-{self.index if own_id is None else own_id}",
            source=self.source,
            instruction=instruction,
            input=input,
            output=output,
            history=history,
            lang=self.lang,
            licence=self.licence,
            provenance=Provenance(revision=self.revision, index=self.index, category=category),
        )

    def reject(self, row: object, reason: str) -> Adapted:
        """The row left out for `reason`; all that it held stands in `output` as JSON, so that nothing is lost."""
        own_id = self.own_id(row) if isinstance(row, Mapping) else None
        record = self.record(own_id, "", "", as_json(row))
        return Adapted(rejected=(Rejected(record, reason),))


@dataclass(frozen=True, slots=True)
class Source:
    """A data set that kollm knows how to read.

    Attributes:
        name: how it is called on the command line, in ids and, with `_` as `-`, as a config of the dataset folder.
        title: its name for a reader.
        licence: SPDX identifier of its rows.
        adapt: makes Records of one row.
        hub_id: dataset on the Hub; empty for a set that is not there.
        revision: the commit that is read unless another is named.
        hub_files: glob of the files to read there; empty for all parquet files.
        split: `test` for an evaluation set, whose rows are never filtered and never trained on.
        lang: language of its text.
        terms: what the provider of the text asks beyond the licence; stands in the card.
        read: reads local files of a form of the set's own; None for lists of rows.
        personal: its text may carry personal data of people who never meant to publish it.
        huge: too large to be read whole: rows are a seeded sample over its files, and their number must be named.
    """

    name: str
    title: str
    licence: str
    adapt: Callable[[Row, Place], Adapted]
    hub_id: str
    revision: str
    hub_files: str = ""
    split: Literal["train", "test"] = "train"
    lang: str = "en"
    terms: str = ""
    read: Callable[[Path], Iterator[Row]] | None = None
    huge: bool = False
    personal: bool = False

    @property
    def config(self) -> str:
        """Its name as a config of the dataset folder."""
        return self.name.replace("_", "-")


def adapt_row(source: Source, row: Row, place: Place) -> Adapted:
    """Make Records of a row after its texts were normalised; where that changed one, `original` keeps what was read."""
    texts = [*row, *row.values()]
    if {*map(type, texts)} <= {str} and are_normal(texts):
        return source.adapt(row, place)  # as most
    changed: set[str] = set()
    clean = normalise_values(row, changed)
    adapted = source.adapt(clean, place)
    if not changed:
        return adapted
    read = {record.id: record.as_original() for record in source.adapt(row, place).records}
    records = tuple(
        replace(record, original=read[record.id])
        if record.id in read and record.original is None and read[record.id].texts() != record.texts()
        else record
        for record in adapted.records
    )
    return Adapted(records, adapted.rejected, (*adapted.notes, *sorted(changed)))


class Columns(NamedTuple):
    """What a set calls the columns of a single turn."""

    instruction: str
    input: str
    output: str


ALPACA_COLUMNS = Columns("instruction", "input", "output")


def adapt_single(
    row: Row,
    place: Place,
    columns: Columns = ALPACA_COLUMNS,
    *,
    own_id: str | None = None,
    category: str = "",
) -> Adapted:
    """One single-turn Record from the columns of these names, or the row rejected with its reason.

    A missing or null `input` is empty; `instruction` and `output` must be there and hold something to read. Without
    `own_id` the Record is called by the row's own `id`, or else its place.
    """
    own_id = place.own_id(row) if own_id is None else own_id
    for name in (columns.instruction, columns.output):
        if name not in row:
            return place.reject(row, f"no_column_{name}")
    texts = [as_text(row.get(name)) for name in columns]
    for name, text in zip(columns, texts, strict=True):
        if text is None:
            return place.reject(row, f"not_text_{name}")
    record = place.record(own_id, texts[0] or "", texts[1] or "", texts[2] or "", category=category)
    return check(record)


def check(record: Record, notes: tuple[str, ...] = ()) -> Adapted:
    """The Record, or its rejection where a field is empty, too long, or holds what UTF-8 cannot.

    An input that only says that there is none is emptied; an output that says so is a reason.
    """
    if is_no_input(record.input):
        record = record.with_texts({"input": ""})
        notes = (*notes, "placeholder_input_emptied")
    reason = _fault(record)
    if reason is not None:
        return Adapted(rejected=(Rejected(record, reason),), notes=notes)
    return Adapted((record,), notes=notes)


def _fault(record: Record) -> str | None:
    texts = record.texts().values()
    if max(map(len, texts)) > MAX_FIELD:
        return "field_too_long"
    if len(record.tools) > MAX_FIELD:
        return "tools_too_long"
    others = record.id, record.provenance.category, record.tools
    everything = "\n".join((*texts, *others))
    if not (everything.isascii() or _is_unicode(everything)):
        return "lone_surrogate"
    if is_blank(record.instruction):
        return "empty_instruction"
    if is_blank(record.output):
        return "empty_output"
    if is_no_output(record.output):
        return "placeholder_output"
    return "run_on_output" if runs_on(record.output) else None


def as_text(value: object) -> str | None:
    """Text as it is, nothing as empty text, a number written out; None for a list or an object."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return as_json(value) if isinstance(value, (bool, int, float)) else None


def as_json(value: object) -> str:
    """Any value as JSON that a person can read."""
    return json.dumps(value, ensure_ascii=False, default=str)


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
