"""A file of recorded judgments: its rows, and what its path says."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from kollm.core.errors import InputError
from kollm.core.files import require_file
from kollm.core.generations import Generation
from kollm.core.verdicts import Verdict
from kollm.judge.pairwise import PairVerdict

LONGEST_FILE = 2_000_000_000
"""Bytes; a larger one is refused."""


class Found(NamedTuple):
    """One judgment: a verdict on an answer or on a pair, and the answer where the file holds it."""

    verdict: Verdict | PairVerdict
    answer: Generation | None = None


@dataclass(frozen=True)
class Source:
    """One file of judgments.

    Attributes:
        path: the file.
        system: what was judged, where the user says so; empty to take it from the file.
        judge: who judged, likewise.
        columns: what a column is called in this file, by kollm's name of it.
        axes: axis -> column and scale, for tables of any form.
    """

    path: Path
    system: str = ""
    judge: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    axes: Mapping[str, tuple[str, int, int]] = field(default_factory=dict)

    @property
    def stem(self) -> str:
        return self.path.name.split(".json")[0].removesuffix(".csv").removesuffix(".eval")

    def name_after(self, folder: str) -> str:
        """The path after a folder of this name, without its ending; the file's own name where there is no such folder."""
        parts = self.path.resolve().parts
        if folder in parts:
            place = len(parts) - 1 - parts[::-1].index(folder)
            return "/".join([*parts[place + 1 : -1], self.stem])
        return self.stem

    def rows(self, key: str = "value") -> Iterator[tuple[int, dict[str, Any]]]:
        """Each row with its number from 0: of JSON Lines, of a JSON list, of an object with a list, or of a .csv.

        Args:
            key: under which an item stands that is a text and no object.

        Raises:
            InputError: the file is missing or holds no rows.
        """
        for place, item in enumerate(_items(self.path)):
            if isinstance(item, str):
                item = {key: item}
            if not isinstance(item, dict):
                raise InputError(
                    f"{self.path}, row {place + 1}: a {type(item).__name__}, not an object - mend the file."
                )
            yield place, item


def text_of(value: Any) -> str:
    """A value as text; None is empty."""
    return value if isinstance(value, str) else "" if value is None else str(value)


def decoded(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte-order mark, or in CP949.

    Raises:
        InputError: it is missing, too large, or in neither.
    """
    require_file(path, "The file")
    if path.stat().st_size > LONGEST_FILE:
        raise InputError(
            f"{path} has {path.stat().st_size:,} bytes - divide it into files of at most {LONGEST_FILE:,}."
        )
    data = path.read_bytes()
    for encoding in ("utf-8-sig", "cp949"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise InputError(f"{path}: neither UTF-8 nor CP949 - convert it to UTF-8.")


def parsed(text: str, where: str) -> Any:
    """JSON of somebody else.

    Raises:
        InputError: it is none, or nested too deep, or holds a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise InputError(f"{where}: not valid JSON ({reason}) - mend the file.") from error


def _items(path: Path) -> Iterator[Any]:
    if path.suffix.lower() == ".eval":
        yield from _samples_of_archive(path)
        return
    text = decoded(path)
    if path.suffix.lower() == ".csv":
        try:
            yield from csv.DictReader(io.StringIO(text, newline=""))
        except csv.Error as error:
            raise InputError(f"{path}: not a .csv file ({error}) - save it as CSV UTF-8.") from error
        return
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        return
    if path.suffix.lower() == ".json" or not _is_object(lines[0]):
        whole = parsed(text, str(path))
        yield from whole if isinstance(whole, list) else [whole]
        return
    for number, line in enumerate(lines, start=1):
        yield parsed(line, f"{path}, line {number}")


def _is_object(line: str) -> bool:
    """Whether a line is a whole JSON object, so that the file is one of JSON Lines."""
    try:
        return isinstance(json.loads(line), dict | str)
    except (ValueError, RecursionError):
        return False


def _samples_of_archive(path: Path) -> Iterator[Any]:
    """An `.eval` archive of inspect_ai as one object: its header, with the samples in it."""
    require_file(path, "The file")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if sum(info.file_size for info in archive.infolist()) > LONGEST_FILE:
                raise InputError(f"{path} unpacks to more than {LONGEST_FILE:,} bytes - divide it.")
            header = parsed(archive.read("header.json").decode("utf-8"), f"{path}, header.json")
            samples = [
                parsed(archive.read(name).decode("utf-8"), f"{path}, {name}")
                for name in sorted(names)
                if name.startswith("samples/") and name.endswith(".json")
            ]
    except (zipfile.BadZipFile, KeyError, OSError, UnicodeDecodeError, NotImplementedError) as error:
        raise InputError(f"{path}: not an archive of inspect_ai ({error}) - give the .json log.") from error
    yield {**header, "samples": samples} if isinstance(header, dict) else header
