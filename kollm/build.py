"""The dataset pipeline: read, drop duplicates, translate, filter, write the dataset folder; a stream in batches.

Every row that a source yields ends in exactly one place: a config of the folder, or the config `rejected` with its
reason. Evaluation sources get the split `test`; neither duplicates nor filters take rows from them.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from kollm import __version__
from kollm.dataset import MANIFEST, REJECTED, DatasetWriter, Part
from kollm.dataset_card import CardPart, render_card
from kollm.dedup import record_text
from kollm.errors import InputError
from kollm.files import file_sha256
from kollm.filters import FILTERS, Rule, first_reason
from kollm.ledger import Ledger
from kollm.progress import Progress, say
from kollm.records import Record
from kollm.sources import SAMPLE, Rejected, Source, Turns, find_source, read_source, sample_file
from kollm.tables import to_table
from kollm.translate import MemoryTranslator, Outcome, Translator, translate_records

BATCH_ROWS = 1_000


class SourceInput(NamedTuple):
    """One source of a build.

    Attributes:
        name: a key of SOURCES.
        input: a path, a Hub id, `sample`, or None for the source's pinned place on the Hub.
        revision: another commit on the Hub than the pinned one.
        memory: for the memory translator, the Korean rows in the source's own form; with the input `sample`,
            those that come with it.
    """

    name: str
    input: str | Path | None = None
    revision: str | None = None
    memory: str | Path | None = None


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build made.

    Attributes:
        folder: the dataset folder.
        rows: rows kept, by config.
        dropped: rows rejected, by reason.
        characters: characters billed.
        cost: what the translator's service asks for them, in US dollars.
        manifest_sha256: hash of the manifest, which holds the hash of every file.
    """

    folder: Path
    rows: dict[str, int]
    dropped: dict[str, int]
    characters: int
    cost: float
    manifest_sha256: str


@dataclass(slots=True)
class _Tally:
    """What has been counted so far; `licences` and `kept` by part, `read` by source."""

    read: Counter[str] = field(default_factory=Counter)
    revisions: dict[str, str] = field(default_factory=dict)
    kept: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    licences: dict[Part, set[str]] = field(default_factory=dict)
    characters: int = 0
    cost: float = 0.0


def build_dataset(
    sources: Sequence[str | SourceInput],
    *,
    translator: str | Translator = "memory",
    output: str | Path,
    filters: str = "default",
    turns: Turns = "conversation",
    mode: str = "row",
    limit: int | None = None,
    seed: int = 0,
    max_characters: int | None = None,
    max_cost: float | None = None,
    translator_model: str | None = None,
    ledger: Ledger | None = None,
) -> BuildReport:
    """Build a dataset folder from English sources.

    Args:
        sources: names, or SourceInputs where more than the name is to be said.
        translator: `memory`, `none` to leave the text as it is, or a Translator.
        output: the folder; an earlier dataset there is replaced once the new one is whole.
        filters: a key of FILTERS.
        turns: what becomes of conversations.
        mode: `row` translates a row as one document, `field` its fields apart.
        limit: rows to read of each source: the first, or of a huge source a sample over its files.
        seed: of that sample.
        ledger: where answers of paid services are kept.

    Raises:
        InputError: a source, file or option that cannot be used, or no row at all.
    """
    inputs = [SourceInput(item) if isinstance(item, str) else item for item in sources]
    if not inputs:
        raise InputError("No source was named - name one or more, e.g. dolly.")
    rules = find_filters(filters)
    tally = _Tally()
    exact: set[str] = set()
    with DatasetWriter(Path(output)) as writer:
        for item in inputs:
            source = find_source(item.name)
            engine = _engine(translator, item, turns)
            rows = read_source(item.name, item.input, revision=item.revision, turns=turns, limit=limit, seed=seed)
            with Progress(item.name, None) as progress:
                for batch in batched(rows, BATCH_ROWS):
                    _build_batch(batch, source, engine, mode, rules, exact, ledger, writer, tally)
                    progress.advance(len(batch))
        if not writer.rows:
            raise InputError(
                f"{', '.join(item.name for item in inputs)}: no rows at all in the input - check the file."
            )
        manifest = _manifest(inputs, translator, filters, turns, mode, tally)
        folder = writer.publish(manifest, _card(manifest, writer.rows, tally))
    if not tally.kept:
        say(f"Warning: all {sum(tally.dropped.values())} rows were rejected; see the config '{REJECTED}'.")
    return BuildReport(
        folder, dict(tally.kept), dict(tally.dropped), tally.characters, tally.cost, file_sha256(folder / MANIFEST)
    )


def find_filters(name: str) -> tuple[Rule, ...]:
    """The rules of a filter set.

    Raises:
        InputError: there is no set of that name.
    """
    if name not in FILTERS:
        raise InputError(f"There is no filter set '{name}' - use one of {', '.join(FILTERS)}.")
    return FILTERS[name]


def batched(items: Iterable[Record | Rejected], size: int) -> Iterator[list[Record | Rejected]]:
    """Lists of at most `size` items, in order."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _engine(translator: str | Translator, item: SourceInput, turns: Turns) -> Translator | None:
    """The translator of one source, None for one that is Korean; the memory engine reads the source's own Korean rows."""
    if find_source(item.name).lang == "ko":
        return None
    if not isinstance(translator, str):
        return translator
    if translator == "none":
        return None
    if translator != "memory":
        raise InputError(f"There is no embedded translator '{translator}' - use memory or none, or pass a Translator.")
    memory = item.memory
    if memory == SAMPLE or (memory is None and item.input == SAMPLE):
        memory = sample_file(item.name, "ko")
    if memory is None:
        raise InputError(
            f"The memory translator needs the Korean rows of '{item.name}' - name their file with --memory."
        )
    rows = read_source(item.name, memory, turns=turns)
    return MemoryTranslator({row.id: row for row in rows if isinstance(row, Record)})


def _build_batch(
    batch: Sequence[Record | Rejected],
    source: Source,
    engine: Translator | None,
    mode: str,
    rules: tuple[Rule, ...],
    exact: set[str],
    ledger: Ledger | None,
    writer: DatasetWriter,
    tally: _Tally,
) -> None:
    tally.read[source.name] += len(batch)
    fresh: list[Record] = []
    rejected: list[Rejected] = []
    for item in batch:
        if isinstance(item, Rejected):
            rejected.append(item)
        elif source.split == "train" and record_text(item) in exact:
            rejected.append(Rejected(item, "duplicate_exact"))
        else:
            exact.add(record_text(item))
            fresh.append(item)
    kept = []
    for outcome in _translate(fresh, engine, mode, ledger):
        tally.characters += outcome.record.provenance.characters
        reason = outcome.reason
        if reason is None and source.split == "train":
            reason = first_reason(outcome.record, rules)
        if reason is None:
            kept.append(outcome.record)
        else:
            rejected.append(Rejected(outcome.record, reason))
    _write(writer, tally, Part(source.config, source.split), kept)
    _write(writer, tally, Part(REJECTED, "train"), [r.record for r in rejected], [r.reason for r in rejected])
    if kept:
        tally.kept[source.config] += len(kept)
    tally.dropped.update(item.reason for item in rejected)
    for item in batch:
        record = item.record if isinstance(item, Rejected) else item
        tally.revisions[source.name] = record.provenance.revision


def _translate(
    records: Sequence[Record], engine: Translator | None, mode: str, ledger: Ledger | None
) -> Sequence[Outcome]:
    if engine is None:
        return [Outcome(record, None, "keep") for record in records]
    return translate_records(records, engine, mode=mode, ledger=ledger)


def _write(
    writer: DatasetWriter, tally: _Tally, part: Part, records: list[Record], reasons: list[str] | None = None
) -> None:
    writer.write(part, to_table(records, reasons))
    tally.licences.setdefault(part, set()).update(record.licence for record in records)


def _manifest(
    inputs: Sequence[SourceInput], translator: str | Translator, filters: str, turns: str, mode: str, tally: _Tally
) -> dict[str, Any]:
    """Settings and counts; nothing in it depends on when or where the build ran."""
    name = translator if isinstance(translator, str) else translator.name
    return {
        "kollm": __version__,
        "sources": [
            {"name": item.name, "revision": tally.revisions.get(item.name, ""), "rows": tally.read[item.name]}
            for item in inputs
        ],
        "translator": {"name": name, "terms": TERMS.get(name, "")},
        "filters": filters,
        "turns": turns,
        "mode": mode,
        "rows": dict(sorted(tally.kept.items())),
        "dropped": dict(sorted(tally.dropped.items())),
        "mended": {},
        "characters": tally.characters,
    }


TERMS = {
    "deepl": "by DeepL, whose terms of service apply; read them before training a translation system on these rows.",
    "openai": "by a model behind an OpenAI-compatible service, whose terms of use apply.",
}


def _card(manifest: dict[str, Any], rows: dict[Part, int], tally: _Tally) -> str:
    revisions = {find_source(item["name"]).config: item["revision"] for item in manifest["sources"]}
    titles = {find_source(item["name"]).config: find_source(item["name"]) for item in manifest["sources"]}
    parts = []
    for part in sorted(rows, key=lambda part: (part.config == REJECTED, part)):
        source = titles.get(part.config)
        parts.append(
            CardPart(
                part.config,
                part.split,
                rows[part],
                source.title if source else "rows left out, with their reason",
                f"`{revisions[part.config]}`" if source else "",
                tuple(sorted(tally.licences[part])),
                source.terms if source and source.licence in tally.licences[part] else "",
            )
        )
    names = " + ".join(item["name"] for item in manifest["sources"])
    return render_card(f"Korean {names}", parts, manifest)
