"""Finds keys and tokens in files before they are published: known forms, and the values of this environment's own.

Values are searched as they are, column by column, and as a reader would see them: with escapes of JSON and of addresses
undone, in UTF-8, UTF-16 or an older encoding. Files are read in pieces. What is found is named by its place and kind;
the secret itself is never repeated. detect-secrets, on the same rows, raised a false alarm and took 7.2 s for 0.01 s.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kollm.core.errors import InputError
from kollm.hub.key_forms import find_keys, quick_pattern
from kollm.services.weights import safetensors_header

PIECE = 1 << 20
"""Bytes or characters that are searched at once."""
OVERLAP = 1 << 14
"""How much of a piece is searched again with the next: longer than any form."""
BATCH_BYTES = 8 << 20
"""Size of what is read of a parquet file at once, about."""
_HIDING = r"\x00|\\u00[2-7]|\\x[2-7]|\\/|%[2-7][0-9A-Fa-f]"
"""What may hide a key: bytes of UTF-16, escaped slashes, and letters that are written by their number."""
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
_SECRET_NAMES = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|AUTH)(?:_ID)?$", re.IGNORECASE)
_PASSWORD_IN_ADDRESS = re.compile(r"\w+://[^/\s:@]*:([^/\s@]{8,})@")
_SHORTEST_VALUE = 12


class Finding(NamedTuple):
    """A secret: in which file (and row), and what it looks like."""

    place: str
    kind: str


def find_secrets(files: Mapping[str, Path | bytes], hidden: Mapping[str, str]) -> Iterator[Finding]:
    """Search files, and their names.

    Args:
        files: name in the publication, for the findings -> the file, or its bytes. Of safetensors the header is read, of
            parquet every value and what stands beside.
        hidden: texts that must not be published, by what they are (see `environment_secrets`).

    Raises:
        InputError: a parquet or safetensors file that is none.
    """
    search = Search(hidden)
    in_rows = {name: list(_in_parquet(name, content, search)) for name, content in files.items() if _is_parquet(name)}
    beside = _beside_rows(files, search)
    for name in files:
        rows = in_rows.get(name, [])
        for place, kinds in rows:
            yield from (Finding(place, kind) for kind in sorted(kinds))
        # Bounds of columns repeat values that were found in their rows.
        rest = beside[name].difference(*(kinds for _, kinds in rows))
        yield from (Finding(f"{name}, metadata" if _is_parquet(name) else name, kind) for kind in sorted(rest))


def _beside_rows(files: Mapping[str, Path | bytes], search: Search) -> dict[str, set[str]]:
    """What files hold beside rows, and their names: small ones are searched together, since RE2 reads a pattern anew each time."""
    found: dict[str, set[str]] = {name: set() for name in files}
    lot: list[tuple[str, str | bytes]] = []
    size = 0

    def look() -> None:
        for (name, _), kinds in zip(lot, search.kinds_of([piece for _, piece in lot]), strict=True):
            found[name] |= kinds
        lot.clear()

    for name, content in files.items():
        lot.append((name, name))
        for piece in _pieces_beside_rows(name, content):
            lot.append((name, piece))
            size += len(piece)
            if size >= PIECE:
                look()
                size = 0
    look()
    return found


def _pieces_beside_rows(name: str, content: Path | bytes) -> Iterator[bytes]:
    if _is_parquet(name):
        yield from _footer(content)
    elif name.endswith(".safetensors") and isinstance(content, Path):
        yield from _pieces(io.BytesIO(json.dumps(safetensors_header(content), ensure_ascii=False).encode()))
    elif isinstance(content, bytes):
        yield from _pieces(io.BytesIO(content))
    else:
        with content.open("rb") as file:
            yield from _pieces(file)


def _is_parquet(name: str) -> bool:
    return name.endswith(".parquet")


@dataclass(frozen=True)
class Search:
    """Looks for keys, and for texts that must stay hidden.

    Attributes:
        hidden: such texts, by what they are.
    """

    hidden: Mapping[str, str]
    _quick: str = field(init=False)

    def __post_init__(self) -> None:
        written = sorted({text for value in self.hidden.values() for text in (value, json.dumps(value)[1:-1])})
        object.__setattr__(self, "_quick", "|".join((quick_pattern(), *map(re.escape, written))))

    def may_hold(self, values: pa.Array) -> pa.Array:
        """Which texts or bytes of an array are worth a closer look."""
        return pc.match_substring_regex(values, f"{self._quick}|{_HIDING}")

    def kinds(self, value: str | bytes) -> set[str]:
        """What one value holds, however long it is."""
        return self.kinds_of([value])[0]

    def kinds_of(self, values: Sequence[str | bytes]) -> list[set[str]]:
        """What each of some values holds; RE2 sees all of them at once, since it reads a pattern anew each time."""
        found: list[set[str]] = [set() for _ in values]
        if not values:
            return found
        pieces = [
            (number, piece)
            for number, value in enumerate(values)
            for piece in _cut(value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass"))
        ]
        worth = self.may_hold(pa.array([piece for _, piece in pieces], pa.large_binary())).to_pylist()
        views = [
            (number, text)
            for (number, piece), look in zip(pieces, worth, strict=True)
            if look
            for text in _views(piece)
        ]
        if not views:
            return found
        data = pa.array([text.encode("utf-8", "surrogatepass") for _, text in views], pa.large_binary())
        for (number, text), hit in zip(views, pc.match_substring_regex(data, self._quick).to_pylist(), strict=True):
            if hit:
                found[number].update(find_keys(text))
                found[number].update(what for what, secret in self.hidden.items() if secret in text)
        return found


def _cut(data: bytes) -> Iterator[bytes]:
    """A value in pieces that overlap; an empty one is one piece."""
    for start in range(0, max(len(data), 1), PIECE):
        yield data[start : start + PIECE + OVERLAP]


def _views(data: bytes) -> Iterator[str]:
    """A piece as readers may see it: as it is, in UTF-16, and with its escapes undone."""
    text = data.decode("utf-8", "replace")
    yield text
    if b"\0" in data:
        text = data.replace(b"\0", b"").decode("latin-1")
        yield text
    for _ in range(3):  # JSON in a text of JSON in a text of JSON
        plain = _ESCAPE.sub(_unescaped, text) if "\\" in text else text
        plain = unquote(plain) if "%" in plain else plain
        if plain == text:
            return
        text = plain
        yield text


def _unescaped(escape: re.Match[str]) -> str:
    number = escape.group(1) or escape.group(2)
    if number:
        return chr(int(number, 16))
    return _ESCAPED.get(escape.group(3), escape.group(3))


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    """A file's bytes in pieces, each with the end of the one before; an empty one is one piece."""
    piece = file.read(PIECE)
    yield piece
    while read := file.read(PIECE):
        piece = piece[-OVERLAP:] + read
        yield piece


# --- parquet ----------------------------------------------------------------------------------------------------------


def _in_parquet(name: str, content: Path | bytes, search: Search) -> Iterator[tuple[str, set[str]]]:
    """What the rows of a parquet file hold, with the place of each."""
    try:
        with pq.ParquetFile(pa.BufferReader(content) if isinstance(content, bytes) else content) as file:
            about = file.metadata
            size = sum(about.row_group(number).total_byte_size for number in range(about.num_row_groups))
            rows = max(1, min(BATCH_BYTES * max(about.num_rows, 1) // max(size, 1), 1 << 16))
            before = 0
            for batch in file.iter_batches(batch_size=rows):
                ids = batch.column("id") if "id" in batch.schema.names else None
                by_row: dict[int, set[str]] = {}
                every = pa.array(range(batch.num_rows), pa.int64())
                texts = [text for column in batch.columns for text in _texts(column, every)]
                suspects = list(_suspects(texts, search))
                for (row, _), kinds in zip(suspects, search.kinds_of([value for _, value in suspects]), strict=True):
                    if kinds:
                        by_row.setdefault(row, set()).update(kinds)
                for row, kinds in sorted(by_row.items()):
                    own = None if ids is None else ids[row].as_py()
                    yield f"{name}, row {before + row if own is None else own}", kinds
                before += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"'{name}' cannot be read as parquet ({reason}) - build the dataset again.") from error


def _suspects(texts: Sequence[tuple[pa.Array, pa.Array]], search: Search) -> Iterator[tuple[int, str | bytes]]:
    """The texts and bytes that are worth a closer look, with the row of each.

    All of one type are looked at in one array: RE2 reads the pattern anew for each, which takes longer than a small file's
    texts do.
    """
    for kind in (pa.large_string(), pa.large_binary()):
        if of_kind := [(values, rows) for values, rows in texts if values.type == kind]:
            values, rows = (pa.concat_arrays(arrays) for arrays in zip(*of_kind, strict=True))
            for place in pc.indices_nonzero(pc.fill_null(search.may_hold(values), False)).to_pylist():
                yield rows[place].as_py(), values[place].as_py()


def _texts(values: pa.Array, rows: pa.Array) -> Iterator[tuple[pa.Array, pa.Array]]:
    """The texts and bytes inside an array, however deep, each array with the rows of its values."""
    kind = values.type
    if isinstance(values, pa.ExtensionArray):
        yield from _texts(values.storage, rows)
    elif pa.types.is_dictionary(kind):
        yield from _texts(values.dictionary_decode(), rows)
    elif pa.types.is_struct(kind):
        for part in values.flatten():
            yield from _texts(part, rows)
    elif pa.types.is_map(kind):
        for part in (values.keys, values.items):
            lists = pa.ListArray.from_arrays(values.offsets, part)
            yield from _texts(lists, rows)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        parents = pc.list_parent_indices(values).cast(pa.int64())
        yield from _texts(pc.list_flatten(values), rows.take(parents))
    elif _is_text(kind):
        yield values.cast(pa.large_string() if pa.types.is_unicode(kind) else pa.large_binary()), rows


def _is_text(kind: pa.DataType) -> bool:
    tests = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view", "fixed_size_binary")
    return any(getattr(pa.types, f"is_{test}")(kind) for test in tests)


def _footer(content: Path | bytes) -> Iterator[bytes]:
    """What stands beside the rows of a parquet file: names of columns, metadata, bounds of the columns."""
    with pa.BufferReader(content) if isinstance(content, bytes) else pa.OSFile(str(content)) as file:
        size = file.size()
        file.seek(max(size - 8, 0))
        length = int.from_bytes(file.read(4), "little")
        file.seek(max(size - 8 - length, 0))
        yield from _pieces(file)
        file.seek(0)
        yield from _metadata(pq.read_schema(file))


def _metadata(schema: pa.Schema) -> Iterator[bytes]:
    """Keys and values of the metadata of a schema and all its fields, which stand in the footer encoded."""

    def of_field(part: pa.Field) -> Iterator[bytes]:
        for pair in (part.metadata or {}).items():
            yield from pair
        for number in range(part.type.num_fields):
            yield from of_field(part.type.field(number))

    for pair in (schema.metadata or {}).items():
        yield from pair
    for part in schema:
        yield from of_field(part)


# --- what must stay hidden --------------------------------------------------------------------------------------------


def environment_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The values of variables that hold keys and tokens, and passwords in addresses, by what they are."""
    found = {
        f"value of {name}": value
        for name, value in environment.items()
        if _SECRET_NAMES.search(name) and len(value) >= _SHORTEST_VALUE and not value.startswith("/")
    }
    for name, value in environment.items():
        password = _PASSWORD_IN_ADDRESS.match(value)
        if password:
            found[f"password in {name}"] = password.group(1)
    return found
