"""Raw rows from a JSON, JSON Lines or parquet file, or from a dataset on the Hub, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kollm.errors import InputError
from kollm.files import read_json, read_jsonl, require_file

SUFFIXES = (".json", ".jsonl", ".parquet")


def local_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file.

    Raises:
        InputError: the file is missing, of another kind, or malformed; the message names the line.
    """
    require_file(path, "The file")
    if path.suffix == ".jsonl":
        return read_jsonl(path)
    if path.suffix == ".json":
        return _json_rows(path)
    raise InputError(f"'{path}' ends in '{path.suffix}' - kollm reads {', '.join(SUFFIXES)}.")


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    yield from read_json(path)


def hub_rows(source: Any, input: Any, revision: Any) -> Any:
    raise InputError("not yet")
