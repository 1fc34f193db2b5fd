"""Hand-checked translation, Ko-Platypus' way: five kinds of error are looked for, hits go to a review file, and what a
person corrected there is put back on every later build.

The file is JSON Lines, worst rows first. A person fills `corrected` with the fields that are to change, or sets
`decision` to `keep` (the hit was none) or `drop`. A decision belongs to the English text it was made for: where that
changed, it is not replayed but named as stale; a new machine translation of the same English does not undo it.

The pages of `kollm app` write the same lines, one file a person, with who decided and when; a folder of such files is
replayed as one: of several decisions on a row the latest counts.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from kollm.core.counting import counted
from kollm.core.errors import InputError
from kollm.core.files import file_sha256, json_line, read_jsonl, write_atomic
from kollm.core.hashing import content_id
from kollm.core.records import Record
from kollm.core.text import normalise_values
from kollm.quality.estimates import estimates
from kollm.quality.view import View
from kollm.translate.masking import lost_numbers, translatable
from kollm.translate.structure import STRUCTURES, plain

CORRECTED = "+review"
"""Added to `provenance.engine` of a corrected record."""

_CODE_KINDS = {"fenced code", "code lines", "inline code"}
_FORMULA_KINDS = {
    "display formula",
    "formula in brackets",
    "formula or code environment",
    "inline formula",
    "LaTeX command",
    "LaTeX command with a name",
}
_SYMBOLS = re.compile(r"[=≠≈≡≤≥±×÷∑∏∫√∞∈∉⊂⊆∪∩∀∃→⇒⇔π∂∇^]")
_WORDS = re.compile(r"[A-Za-z][\w',-]*+(?:[ \t]++[A-Za-z][\w',-]*+)*+")
"""A whole run of English words, however short: what has been read as part of one is not read again."""
_ENGLISH_WORDS = 6
_QUOTED = re.compile(
    r"""\([^()]{0,300}\) | "[^"]{0,300}" | '[^']{0,300}' | “[^”]{0,300}” | [「『《][^」』》]{0,300}[」』》]""",
    re.VERBOSE,
)
_HANGUL = re.compile(r"[가-힣]")
_LATIN_WORD = re.compile(r"[A-Za-z]{2,}")
_SHORTEST = 0.25
"""Characters of a Korean translation for one of English, below which it was cut off. Of the 222 longer fields of
KULLM's 252 translated tasks the median has 0.49 and the shortest 0.29."""
_LONG_ENOUGH = 80
_MOST_LOOKED_UP = 100
"""Pieces of one field that are looked up in the whole other text, which is as long as the field itself."""


class Hit(BaseModel):
    """One suspected error: its kind, the field it is in, and what gave it away."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    field: str
    detail: str


def code_only(english: str, korean: str) -> str | None:
    """Code without a word of text that came back changed."""
    if translatable(english) or not _pieces(english, _CODE_KINDS) or english.split() == korean.split():
        return None
    return "the field is code alone and was changed"


def code_with_text(english: str, korean: str) -> str | None:
    """Code among text that did not come back as it was."""
    lost = _lost_pieces(english, korean, _CODE_KINDS)
    return f"lost: {_short(lost[0])}" if lost and translatable(english) else None


def decimals(english: str, korean: str) -> str | None:
    """Decimal numbers that are missing."""
    lost = [number for number in lost_numbers(english, korean) if "." in number]
    return f"lost: {', '.join(lost[:3])}" if lost else None


def math_symbols(english: str, korean: str) -> str | None:
    """Formulas, LaTeX commands or mathematical signs that are missing."""
    lost = _lost_pieces(english, korean, _FORMULA_KINDS)
    signs = Counter(_SYMBOLS.findall(plain(english))) - Counter(_SYMBOLS.findall(korean))
    lost += list(signs)
    return f"lost: {', '.join(_short(piece) for piece in lost[:3])}" if lost else None


def untranslated_or_cut(english: str, korean: str) -> str | None:
    """Text that is still English, or a translation that ends too early."""
    if not translatable(english):
        return None
    text = plain(korean)
    if len(_LATIN_WORD.findall(text)) >= 3 and not _HANGUL.search(text):
        return "not translated"
    runs = (match for match in _WORDS.finditer(_QUOTED.sub(" ", text)) if len(match[0].split()) >= _ENGLISH_WORDS)
    for match in itertools.islice(runs, _MOST_LOOKED_UP):
        if match.group() in english:
            return f"left in English: {_short(match.group())}"
    if len(plain(english)) >= _LONG_ENOUGH and len(text.strip()) < _SHORTEST * len(plain(english)):
        return f"cut off: {counted(len(korean), 'character')} for {len(english)}"
    if korean.count("```") % 2 and not english.count("```") % 2:
        return "cut off: a code block is not closed"
    return None


DETECTORS: dict[str, Callable[[str, str], str | None]] = {
    "code_only": code_only,
    "code_with_text": code_with_text,
    "decimals": decimals,
    "math_symbols": math_symbols,
    "untranslated_or_cut": untranslated_or_cut,
}
"""Ko-Platypus' five types of error -> (English, Korean) to what gave it away, or None."""


class Correction(BaseModel):
    """A line of the review file; `who` and `when` (seconds since 1970) are set where it is one of a person's decisions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    english_sha256: str
    decision: str = ""
    corrected: dict[str, str] = {}
    errors: tuple[Hit, ...] = ()
    english: dict[str, str] = {}
    korean: dict[str, str] = {}
    who: str = ""
    when: float = 0.0

    @property
    def decided(self) -> bool:
        """Whether a person has dealt with it."""
        return bool(self.decision or self.corrected)


class Replayed(NamedTuple):
    """A record after its correction; `what` was done: `corrected`, `dropped`, `stale`, or nothing."""

    record: Record
    what: str = ""


def replay(record: Record, correction: Correction) -> Replayed:
    """Put a person's correction of a row into the freshly translated record."""
    if not correction.decided:
        return Replayed(record)
    if correction.english_sha256 != english_sha256(record):
        return Replayed(record, "stale")
    if correction.decision == "drop":
        return Replayed(record, "dropped")
    if not correction.corrected:
        return Replayed(record)
    provenance = replace(record.provenance, engine=record.provenance.engine + CORRECTED)
    return Replayed(replace(record.with_texts(correction.corrected), provenance=provenance), "corrected")


def find_hits(record: Record) -> list[Hit]:
    """The suspected errors of a translated record, all fields; none for one that was not translated."""
    if not record.translated:
        return []
    english, korean = record.english().texts(), record.texts()
    hits = [
        Hit(kind=kind, field=name, detail=detail)
        for name, text in english.items()
        for kind, detect in DETECTORS.items()
        if text.strip() and (detail := detect(text, korean.get(name, ""))) is not None
    ]
    found = estimates(View(record))
    return hits + [Hit(kind=item.kind, field=item.field, detail=f"estimated: {item.score:.2f}") for item in found]


def write_review(path: Path, records: Iterable[Record]) -> int:
    """Write the rows with hits to a review file, worst first; what was decided in an earlier one there is kept.

    Returns:
        Number of rows that wait for a decision.

    Raises:
        InputError: the file is there and is no review file.
    """
    earlier = read_review(path) if path.is_file() else {}
    found = [_correction(record, hits, earlier) for record in records if (hits := find_hits(record))]
    named = {item.id for item in found}
    found += [item for item in earlier.values() if item.decided and item.id not in named]
    found.sort(key=lambda item: (item.decided, -len(item.errors), item.id))
    write_atomic(path, "".join(json_line(item.model_dump(exclude={"who", "when"})) for item in found))
    return sum(not item.decided for item in found)


def read_review(path: Path) -> dict[str, Correction]:
    """The lines of a review file by id, or of a folder of people's decisions, or of one person's.

    Raises:
        InputError: a line is none, names an unknown decision or field, or an id occurs twice.
    """
    if path.is_dir():
        return _latest(item for file in decision_files(path) for item in read_decisions(file)[0])
    if _is_decisions(path):
        return _latest(read_decisions(path)[0])
    corrections: dict[str, Correction] = {}
    for number, row in enumerate(read_jsonl(path), start=1):
        try:
            item = Correction.model_validate(normalise_values(row))
        except ValidationError as error:
            raise InputError(
                f"{path}, row {number}: no line of a review file - `kollm data review` writes one."
            ) from error
        if item.decision not in ("", "keep", "drop"):
            raise InputError(f"{path}, row {number}: decision '{item.decision}' - write keep, drop or nothing.")
        if unknown := sorted(item.corrected.keys() - item.english.keys()):
            raise InputError(
                f"{path}, row {number}: corrected has '{unknown[0]}' - its fields are {', '.join(item.english)}."
            )
        if item.id in corrections:
            raise InputError(f"{path}, row {number}: the id '{item.id}' occurs twice - remove one of the lines.")
        corrections[item.id] = item
    return corrections


def decision_files(folder: Path) -> list[Path]:
    """The files of people's decisions in a folder, sorted.

    Raises:
        InputError: there is none.
    """
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise InputError(
            f"The folder '{folder}' holds no decisions (*.jsonl) - name the folder that `kollm app` shows."
        )
    return files


def read_decisions(path: Path, start: int = 0) -> tuple[list[Correction], int]:
    """One person's decisions from byte `start` on, and the byte up to which whole lines were read.

    A line that a kill cut off was never acknowledged: it is left out.

    Raises:
        InputError: a whole line is no decision.
    """
    with path.open("rb") as file:
        file.seek(start)
        text = file.read()
    whole = text.rfind(b"\n") + 1
    found = []
    for line in text[:whole].splitlines():
        try:
            found.append(Correction.model_validate_json(line))
        except ValidationError as error:
            if error.errors()[0]["type"] == "json_invalid":
                continue
            raise InputError(
                f"{path}: a line is no decision ({error.errors()[0]['msg']}) - mend or remove it."
            ) from error
    return found, start + whole


def review_sha256(path: Path) -> str:
    """What a review file, or a folder of decisions, holds: the hash of its bytes."""
    if not path.is_dir():
        return file_sha256(path)
    return content_id({file.name: file_sha256(file) for file in decision_files(path)})


def _is_decisions(path: Path) -> bool:
    """Whether the file is one person's decisions: its lines say who decided."""
    for row in read_jsonl(path):
        return bool(row.get("who"))
    return False


def _latest(items: Iterable[Correction]) -> dict[str, Correction]:
    latest: dict[str, Correction] = {}
    by_person: dict[tuple[str, str], Correction] = {(item.id, item.who): item for item in items}
    for item in sorted(by_person.values(), key=lambda item: (item.when, item.who)):
        if item.decided:  # an undone decision is none
            latest[item.id] = item
    return latest


def english_sha256(record: Record) -> str:
    """What a decision belongs to: the hash of the English fields."""
    return content_id(record.english().texts())


def _correction(record: Record, hits: list[Hit], earlier: Mapping[str, Correction]) -> Correction:
    sha256 = english_sha256(record)
    before = earlier.get(record.id)
    same = before is not None and before.english_sha256 == sha256
    return Correction(
        id=record.id,
        english_sha256=sha256,
        decision=before.decision if before and same else "",
        corrected=before.corrected if before and same else {},
        errors=tuple(hits),
        english=record.english().texts(),
        korean=record.texts(),
    )


def _lost_pieces(english: str, korean: str, kinds: set[str]) -> list[str]:
    """Pieces of structure of these kinds that the Korean has less often than the English.

    Most are found among the Korean's own pieces; the first _MOST_LOOKED_UP of the others are looked for in its text.
    """
    wanted = Counter(_pieces(english, kinds))
    have = Counter(_pieces(korean, kinds)) if wanted else Counter[str]()
    missing = [piece for piece, count in wanted.items() if have[piece] < count]
    return [
        piece
        for number, piece in enumerate(missing)
        if number >= _MOST_LOOKED_UP or korean.count(piece) < wanted[piece]
    ]


def _pieces(text: str, kinds: set[str]) -> list[str]:
    """Structure of these kinds in the text, outermost alone."""
    taken = bytearray(len(text))
    spans: list[tuple[int, int]] = []
    for structure in STRUCTURES:
        if structure.name in kinds and (not structure.needles or any(needle in text for needle in structure.needles)):
            for start, end in structure.find(text):
                if end > start and not any(taken[start:end]):
                    taken[start:end] = b"\1" * (end - start)
                    spans.append((start, end))
    return [text[start:end].strip() for start, end in sorted(spans)]


def _short(text: str, length: int = 40) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"
