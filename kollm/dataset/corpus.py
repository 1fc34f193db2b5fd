"""Plain text for more pre-training, as a dataset that `kollm train` takes:

    kollm data corpus TEXT.txt -o CORPUS

A text file's documents stand apart by blank lines. In the dataset a document is an answer without a question; with the
prompt `plain` that is the text itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from kollm.core.errors import InputError
from kollm.core.files import require_file
from kollm.core.records import Record
from kollm.dataset.folder import DatasetWriter, Part, read_records
from kollm.dataset.tables import to_table

CHARACTERS = 4000
"""Length at which a document is cut: Korean takes less than one token a character in a Korean vocabulary of 46,336."""
_BATCH = 1000


def read_texts(places: Iterable[str | Path]) -> Iterator[str]:
    """Documents of text files (`.txt`, `.md`), and the texts of datasets, one a row.

    Raises:
        InputError: no such file, or one that is no UTF-8.
    """
    for place in places:
        if Path(place).suffix in (".txt", ".md"):
            yield from _documents(Path(place))
        else:
            for record in read_records(str(place)):
                yield "\n".join(text for text in record.texts().values() if text)


def build_corpus(places: Iterable[str | Path], output: Path, characters: int = CHARACTERS) -> int:
    """Write the documents to a dataset folder, long ones in parts.

    Args:
        places: as `read_texts` takes them.
        output: the folder.
        characters: most characters of a row, so that no row is cut in training.

    Returns:
        Number of rows.

    Raises:
        InputError: no text.
    """
    parts = (part for text in read_texts(places) for part in _parts(text, characters))
    records = (
        Record(f"corpus-{index}", "corpus", "", "", part, lang="ko", licence="LicenseRef-own-text")
        for index, part in enumerate(parts)
    )
    rows = 0
    with DatasetWriter(output) as writer:
        while batch := list(islice(records, _BATCH)):
            writer.write(Part("corpus", "train"), to_table(batch))
            rows += len(batch)
        if not rows:
            raise InputError("There is no text in the files - name others.")
        writer.publish({"sources": ["corpus"]}, "Plain text for more pre-training.\n")
    return rows


def _documents(path: Path) -> Iterator[str]:
    lines: list[str] = []
    try:
        with require_file(path, "The text file").open(encoding="utf-8") as file:
            for line in file:
                if line.strip():
                    lines.append(line.rstrip())
                elif lines:
                    yield "\n".join(lines)
                    lines = []
    except UnicodeDecodeError as error:
        raise InputError(f"'{path}' is not UTF-8 text ({error.reason}) - convert it.") from error
    if lines:
        yield "\n".join(lines)


def _parts(text: str, characters: int) -> Iterator[str]:
    """Pieces of at most so many characters, cut after a line or a word where there is one in the second half."""
    while len(text) > characters:
        cut = text.rfind("\n", characters // 2, characters)
        cut = cut if cut > 0 else text.rfind(" ", characters // 2, characters)
        cut = cut if cut > 0 else characters
        yield text[:cut]
        text = text[cut:].lstrip()
    if text.strip():
        yield text
