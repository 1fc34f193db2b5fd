"""Mixtures: rows of several datasets, or of a dataset's configs, drawn by seed into one dataset folder.

    mix([MixturePart("chat", "ko-chat", {"weight": 2}), MixturePart("own", "my-rows", {"weight": 1})], output, seed=0)

What is drawn depends on the seed and on each row's id alone, so that it is the same for any order of rows and any number
of processes, and a larger limit holds the smaller one's rows. Each part is a config of the folder; a copy of a row is a
row of its own, `ID-r2`.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from kollm.core.counting import counted
from kollm.core.errors import InputError
from kollm.core.progress import Progress, say
from kollm.core.records import Record
from kollm.core.version import __version__
from kollm.dataset.card import CardPart, render_card
from kollm.dataset.folder import DatasetWriter, Part, dataset_fingerprint, read_manifest, read_records, training_parts
from kollm.dataset.leak_check import EVALUATION, find_leaks, load_references
from kollm.dataset.tables import to_table
from kollm.quality.dedup import Prints, find_duplicates, prints
from kollm.recipe.schema import AMOUNTS, GivenDataset, Source
from kollm.services.repository import locate
from kollm.sources import SOURCES, find_source

FORMAT = 1
"""Of the draw: another number makes another mixture of the same parts."""
_BATCH = 1_000
_AMOUNT = re.compile(r":(name|weight|limit|repeat)=([^:]*)$")


@dataclass(frozen=True, slots=True)
class MixturePart:
    """One part of a mixture.

    Attributes:
        name: config of the mixture.
        dataset: dataset folder, or `ORG/NAME[@REVISION]` of one that kollm made.
        amount: `weight`, `limit` or `repeat`; empty for all rows. Beside weighted parts, one without counts as weight 1.
        config: of the dataset; None for all.
    """

    name: str
    dataset: str
    amount: Mapping[str, float] = field(default_factory=dict)
    config: str | None = None


@dataclass(slots=True)
class _Drawn:
    """What is known of the rows that were drawn.

    Attributes:
        licences: of each part's rows.
        languages: of all rows.
        owners: the part's number of each different row.
        prints: what duplicates among them are told by.
        leaks: `row id: task id` of those that hold an evaluation task.
    """

    licences: dict[str, set[str]] = field(default_factory=dict)
    languages: set[str] = field(default_factory=set)
    owners: list[int] = field(default_factory=list)
    prints: list[Prints] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)


def parse_given(text: str) -> GivenDataset:
    """Read `DATASET[:name=NAME][:weight=W|:limit=N|:repeat=R]`.

    Raises:
        InputError: an amount that is no number, is said twice or beside another, or is not above zero.
    """
    said: dict[str, str] = {}
    rest = text
    while found := _AMOUNT.search(rest):
        if found[1] in said:
            raise InputError(f"--dataset {text}: {found[1]} is said twice - say it once.")
        said[found[1]] = found[2]
        rest = rest[: found.start()]
    try:
        amounts: dict[str, Any] = {name: float(said[name]) for name in AMOUNTS if name in said}
    except ValueError as error:
        raise InputError(f"--dataset {text}: {error} - write a number, such as {rest}:weight=2.") from error
    try:
        return GivenDataset(dataset=rest, name=said.get("name"), **amounts)
    except ValidationError as error:
        faults = [
            str(item["ctx"]["error"])
            if item["type"] == "value_error"
            else f"{'.'.join(map(str, item['loc']))} is {item['input']} - {item['msg'][0].lower()}{item['msg'][1:]}"
            for item in error.errors()
        ]
        raise InputError(f"--dataset {text}: {'; '.join(faults)}.") from error


def source_parts(dataset: Path, sources: Sequence[Source]) -> list[MixturePart]:
    """The parts of a dataset that was built of sources, each as its recipe weighs it; its `limit` was met in reading."""
    amounts = {find_source(source.name).config if source.name in SOURCES else source.name: source for source in sources}
    return [
        MixturePart(
            config,
            str(dataset),
            {key: value for key, value in amounts[config].amount.items() if key != "limit"},
            config,
        )
        for config, _ in training_parts(dataset)
    ]


def drawn_rows(parts: Sequence[MixturePart], rows: Sequence[int]) -> list[int]:
    """How many rows each part gives, copies counted, of so many that it has.

    Weighted parts give as many as their weights allow without a row coming twice: the part that has the fewest rows for
    its weight gives all of them.

    Raises:
        InputError: a part would give none.
    """
    weighted = any("weight" in part.amount for part in parts)
    weights = [part.amount.get("weight", 1.0 if weighted and not part.amount else 0.0) for part in parts]
    scale = min((count / weight for count, weight in zip(rows, weights, strict=True) if weight), default=0.0)
    taken = []
    for part, count, weight in zip(parts, rows, weights, strict=True):
        if weight:
            number = min(count, int(scale * weight + 1e-9))
        elif "limit" in part.amount:
            number = min(count, int(part.amount["limit"]))
        else:
            number = int(count * part.amount.get("repeat", 1.0) + 1e-9)
        if not number:
            what = ", ".join(f"{name} {value:g}" for name, value in part.amount.items()) or "weight 1"
            raise InputError(
                f"The part '{part.name}' gives no row of its {count:,} to the mixture ({what}) - raise that, or leave it out."
            )
        taken.append(number)
    return taken


def mix(parts: Sequence[MixturePart], output: Path, seed: int = 0) -> Path:
    """Draw a mixture into a dataset folder, and say its shares and what its parts have in common.

    Args:
        parts: what is mixed, in the order of the folder's configs.
        output: the folder; an earlier dataset there is replaced once the new one is whole.
        seed: of the draw.

    Raises:
        InputError: no part, two of one name, one without training rows, or one that gives none.
    """
    names = [part.name for part in parts]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(
            f"Two parts of the mixture are called '{twice[0]}' - name one of them: --dataset ...:name=NAME, or `name` in data.datasets."
        )
    if not parts:
        raise InputError("A mixture needs a dataset - name one or more.")
    ranks = [_ranks(part, seed) for part in parts]
    taken = drawn_rows(parts, [len(item) for item in ranks])
    copies = [_copies(item, number) for item, number in zip(ranks, taken, strict=True)]
    with DatasetWriter(output) as writer:
        drawn = _write(writer, parts, copies)
        manifest = _manifest(parts, [len(item) for item in ranks], taken, seed, drawn)
        folder = writer.publish(manifest, _card(parts, manifest, drawn))
    for line in (*share_lines(manifest["rows"]), *_told(manifest)):
        say(f"mixture: {line}")
    return folder


def share_lines(rows: Mapping[str, int], tokens: Mapping[str, int] | None = None) -> Iterator[str]:
    """A line a part: its rows and their share, and the tokens' where they are known."""
    whole, all_tokens = sum(rows.values()), sum((tokens or {}).values())
    for name, count in rows.items():
        line = f"{name}: {counted(count, 'row')} ({count / max(whole, 1):.1%})"
        if tokens is not None:
            line += f", {counted(tokens[name], 'token')} ({tokens[name] / max(all_tokens, 1):.1%})"
        yield line


def _records(part: MixturePart) -> Iterator[Record]:
    return read_records(part.dataset, part.config, "train")


def _ranks(part: MixturePart, seed: int) -> npt.NDArray[np.uint64]:
    """A number drawn for each row, by its id."""
    ranks = np.fromiter((_rank(record.id, seed) for record in _records(part)), dtype=np.uint64)
    if not len(ranks):
        raise InputError(f"The part '{part.name}' of the mixture ({part.dataset}) has no rows - leave it out.")
    return ranks


def _rank(id: str, seed: int) -> int:
    """A hash of its own: by the one that holds rows out, the rows that are drawn would be those that are held out."""
    return int.from_bytes(hashlib.sha256(f"mixture:{seed}:{id}".encode()).digest()[:8], "big")


def _copies(ranks: npt.NDArray[np.uint64], number: int) -> npt.NDArray[np.int64]:
    """How often each row comes: all of them as often as `number` allows, those of the lowest ranks once more."""
    whole, rest = divmod(number, len(ranks))
    copies = np.full(len(ranks), whole, dtype=np.int64)
    copies[np.argsort(ranks, kind="stable")[:rest]] += 1
    return copies


def _write(writer: DatasetWriter, parts: Sequence[MixturePart], copies: Sequence[npt.NDArray[np.int64]]) -> _Drawn:
    """Write the drawn rows."""
    seen: Counter[str] = Counter()
    drawn = _Drawn({part.name: set() for part in parts})
    tasks = load_references([EVALUATION])
    for number, (part, times) in enumerate(zip(parts, copies, strict=True)):
        left = iter(times.tolist())
        rows = _records(part)
        with Progress(f"mixture: {part.name}", None) as progress:
            while batch := list(islice(rows, _BATCH)):
                counted = [(record, count) for record in batch if (count := next(left))]
                progress.advance(len(batch))
                if not counted:
                    continue
                once = [record for record, _ in counted]
                drawn.licences[part.name].update(record.licence for record in once)
                drawn.languages.update(record.lang for record in once)
                drawn.owners += [number] * len(once)
                drawn.prints.append(prints([record.whole_text() for record in once], [record.tools for record in once]))
                drawn.leaks += [f"{leak.row}: {leak.task}" for leak in find_leaks(once, tasks)]
                copied = (record for record, count in counted for _ in range(count))
                writer.write(Part(part.name, "train"), to_table(list(_numbered(copied, seen))))
    return drawn


def _numbered(records: Iterable[Record], seen: Counter[str]) -> Iterator[Record]:
    """The records with ids of their own; one whose id was there before is its copy, `ID-r2`."""
    for record in records:
        seen[record.id] += 1
        number = seen[record.id]
        yield record if number == 1 else replace(record, id=f"{record.id}-r{number}")


def _duplicates(parts: Sequence[MixturePart], drawn: _Drawn) -> dict[str, int]:
    """Rows that repeat a row of an earlier part, or an earlier row of their own, by `PART = PART, KIND`."""
    owner = np.array(drawn.owners)
    counts: Counter[str] = Counter()
    for kind, repeats in find_duplicates(drawn.prints)._asdict().items():
        for row, first in zip(repeats.row, repeats.first, strict=True):
            earlier, later = parts[owner[first]].name, parts[owner[row]].name
            counts[f"{earlier} = {later}, {kind}"] += 1
    return dict(sorted(counts.items()))


def _manifest(
    parts: Sequence[MixturePart], rows: Sequence[int], taken: Sequence[int], seed: int, drawn: _Drawn
) -> dict[str, Any]:
    """What the parts' manifests say together, and the draw."""
    manifests = [read_manifest(locate(part.dataset, "dataset").folder) for part in parts]
    sources = [source for item in manifests for source in item.get("sources", [])]
    translators = [item.get("translator", {}) for item in manifests]
    engines = sorted({item.get("name", "none") for item in translators} - {"none"})
    return {
        "kollm": __version__,
        "sources": [source for number, source in enumerate(sources) if source not in sources[:number]],
        "translator": {
            "name": ", ".join(engines) or "none",
            "terms": " ".join(sorted({item.get("terms", "") for item in translators} - {""})),
        },
        "settings": {"against": [EVALUATION], "keep_english": False},
        "filters": ", ".join(sorted({str(item.get("filters", "none")) for item in manifests})),
        "mode": "row",
        "mixture": {
            "format": FORMAT,
            "seed": seed,
            "parts": [
                _part(part, available, number) for part, available, number in zip(parts, rows, taken, strict=True)
            ],
            "duplicates": _duplicates(parts, drawn),
        },
        "rows": {part.name: number for part, number in zip(parts, taken, strict=True)},
        "dropped": {},
        "mended": {},
        "flags": {},
        "leaks": drawn.leaks,
        "characters": sum(item.get("characters", 0) for item in manifests),
    }


def _part(part: MixturePart, rows: int, drawn: int) -> dict[str, Any]:
    """What the manifest says of a part; a path of this machine says nothing to a reader elsewhere."""
    return {
        "name": part.name,
        "from": "local folder" if Path(part.dataset).is_dir() else locate(part.dataset, "dataset").name,
        "dataset": dataset_fingerprint(part.dataset),
        **({"config": part.config} if part.config else {}),
        **part.amount,
        "rows": rows,
        "drawn": drawn,
    }


def _told(manifest: Mapping[str, Any]) -> Iterator[str]:
    """What the parts have in common with each other, and with the evaluation tasks."""
    duplicates = manifest["mixture"]["duplicates"]
    for names, count in duplicates.items():
        both, _, kind = names.rpartition(", ")
        earlier, _, later = both.partition(" = ")
        whose = "an earlier row of their own" if earlier == later else f"a row of {earlier}"
        yield f"{counted(count, f'row of {later} repeats', f'rows of {later} repeat')} {whose} ({kind} duplicates; they are kept)"
    if leaks := manifest["leaks"]:
        yield f"Warning: {counted(len(leaks), 'row holds', 'rows hold')} an evaluation task, e.g. {leaks[0]} (kollm data leaks lists them)"


def _card(parts: Sequence[MixturePart], manifest: Mapping[str, Any], drawn: _Drawn) -> str:
    """The card of a mixture: its parts, and what each was drawn from."""
    shown = [
        CardPart(
            item["name"],
            "train",
            item["drawn"],
            item["name"],
            f"{item['from']} `{item['dataset']}`, {item['drawn']:,} of {counted(item['rows'], 'row')}",
            tuple(sorted(drawn.licences[item["name"]])),
            _terms(part),
        )
        for part, item in zip(parts, manifest["mixture"]["parts"], strict=True)
    ]
    title = "A mixture of " + ", ".join(part.name for part in parts)
    return render_card(title, shown, manifest, sorted(drawn.languages, reverse=True))


def _terms(part: MixturePart) -> str:
    """What the providers of a part's sources ask beyond their licences."""
    sources = read_manifest(locate(part.dataset, "dataset").folder).get("sources", [])
    names = {str(source["name"]) for source in sources if isinstance(source, dict)} & set(SOURCES)
    configs = {find_source(name).config: name for name in names}
    chosen = [name for config, name in configs.items() if part.config in (None, config)]
    return " ".join(dict.fromkeys(find_source(name).terms for name in sorted(chosen)))
