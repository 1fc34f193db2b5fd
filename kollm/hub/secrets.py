"""Finds keys and tokens in files before they are published: known forms, and the values of this environment's own.

What is found is named by its place and kind; the secret itself is never repeated.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from kollm.core.errors import InputError

_FORMS: dict[str, str] = {
    "Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}",
    "OpenAI or Anthropic key": r"\bsk-(?:[a-z]+[0-9]*-)?[A-Za-z0-9_-]{20,}",
    "DeepL key": r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}:fx\b",
    "AWS access key": r"\bAKIA[0-9A-Z]{16}\b",
    "GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,})",
    "Google key": r"\bAIza[0-9A-Za-z_-]{35}",
    "Slack token": r"\bxox[abprs]-[0-9]+-[0-9A-Za-z-]{10,}",
    "private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\s*[A-Za-z0-9+/=]{40,}",
}
_ANY = re.compile("|".join(f"(?P<k{number}>{form})" for number, form in enumerate(_FORMS.values())))
_KINDS = tuple(_FORMS)
_CHEAP = re.compile(r"hf_|sk-|:fx|AKIA|gh[pousr]_|github_pat|AIza|xox|PRIVATE KEY")
"""What every form holds; texts without it are not searched further."""
_CHEAP_BYTES = re.compile(_CHEAP.pattern.encode())

_SECRET_NAMES = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD)$")
_SHORTEST_VALUE = 12
_LEAST_ENTROPY = 3.0
"""Bits a character below which a match is an example: `sk-xxxxxxxx` has 0, `AKIAIOSFODNN7EXAMPLE` 3.7, a real key 4 to 5.5."""


class Finding(NamedTuple):
    """A secret: in which file (and row), and what it looks like."""

    place: str
    kind: str


def find_secrets(name: str, content: Path | bytes, hidden: Mapping[str, str]) -> Iterator[Finding]:
    """Search one file.

    Args:
        name: its name in the publication, for the findings.
        content: the file, or its bytes. Of safetensors the header is read, of parquet every text column.
        hidden: texts that must not be published, by what they are (see `environment_secrets`).
    """
    for place, text in _texts(name, content, hidden):
        kinds = {_KINDS[int(str(match.lastgroup)[1:])] for match in _matches(text)}
        kinds |= {what for what, value in hidden.items() if value in text}
        yield from (Finding(place, kind) for kind in sorted(kinds))


def _matches(text: str) -> Iterator[re.Match[str]]:
    if _CHEAP.search(text):
        yield from (match for match in _ANY.finditer(text) if not _is_example(match.group()))


def _is_example(text: str) -> bool:
    """Whether a match is a placeholder: hardly any variety, or saying so itself."""
    if re.search(r"example|your|xxxx|1234567890", text, re.IGNORECASE):
        return True
    if text.startswith("-----"):
        return False
    counts = Counter(text)
    entropy = -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values())
    return entropy < _LEAST_ENTROPY or not any(character.isdigit() for character in text)


def environment_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The values of variables that hold keys and tokens, by what they are."""
    return {
        f"value of {name}": value
        for name, value in environment.items()
        if _SECRET_NAMES.search(name) and len(value) >= _SHORTEST_VALUE and not value.startswith("/")
    }


def _texts(name: str, content: Path | bytes, hidden: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Pieces of text with their place; of parquet only the batches in which something may be found."""
    if name.endswith(".parquet") and isinstance(content, Path):
        number = 0
        for batch in pq.ParquetFile(content).iter_batches(batch_size=2000):
            if _may_hold(batch, hidden):
                for offset, row in enumerate(batch.to_pylist()):
                    yield (
                        f"{name}, row {row.get('id') or number + offset}",
                        json.dumps(row, ensure_ascii=False, default=str),
                    )
            number += batch.num_rows
    elif name.endswith(".safetensors") and isinstance(content, Path):
        yield name, json.dumps(safetensors_header(content))
    else:
        data = content if isinstance(content, bytes) else content.read_bytes()
        yield name, data.decode("utf-8", "replace")


def _may_hold(batch: pa.RecordBatch, hidden: Mapping[str, str]) -> bool:
    """Whether a batch's text, searched as one piece and without making rows of it, has the mark of a secret."""
    known = [value.encode("utf-8") for value in hidden.values()]
    for column in batch.columns:
        for text in _text_buffers(column):
            if _CHEAP_BYTES.search(text) or any(text.find(value) >= 0 for value in known):
                return True
    return False


def _text_buffers(array: pa.Array) -> Iterator[bytes]:
    """The UTF-8 of every string column inside an array, however deep, each as one piece."""
    if pa.types.is_struct(array.type):
        for field in array.flatten():
            yield from _text_buffers(field)
    elif pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        yield from _text_buffers(array.flatten())
    elif pa.types.is_dictionary(array.type):
        yield from _text_buffers(array.dictionary)
    elif (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)) and array.buffers()[2] is not None:
        yield array.buffers()[2].to_pybytes()


def safetensors_header(path: Path) -> dict[str, object]:
    """The JSON at the head of a safetensors file.

    Raises:
        InputError: the file is none.
    """
    wrong = InputError(f"'{path}' is no safetensors file - save the weights with safetensors.")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= path.stat().st_size - 8:
            raise wrong
        try:
            header = json.loads(file.read(length))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise wrong from error
    if not isinstance(header, dict):
        raise wrong
    return header
