"""Parquet from outside: opened, checked for its columns and read in batches, with every fault one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from kollm.core.errors import InputError
from kollm.core.files import require_file
from kollm.core.reading import foreign_errors

AGAIN = "build or download it again"
MOST_GROUP_BYTES = 8 << 30
"""Of a row group, uncompressed: a page of zeros is a thousand times larger than its compressed form."""


def parquet_batches(
    file: Path | BinaryIO,
    name: object,
    rows: int,
    columns: Sequence[str] | None = None,
    groups: Sequence[int] | None = None,
) -> Iterator[pa.RecordBatch]:
    """The rows of a parquet file in batches.

    Args:
        file: a path, or an open file.
        name: of the file, for messages.
        rows: most of a batch.
        columns: to read; None for all.
        groups: row groups to read; None for all.

    Raises:
        InputError: it is no whole parquet file, or its groups would take all memory.
    """
    opened = open_parquet(file, name)
    what = f"The parquet file '{name}'"
    batches = opened.iter_batches(batch_size=rows, columns=columns, row_groups=groups)
    while True:
        with foreign_errors(what, AGAIN):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def open_parquet(file: Path | BinaryIO, name: object) -> pq.ParquetFile:
    """A parquet file whose footer was read.

    Raises:
        InputError: it is missing, no whole parquet file, or its groups would take all memory.
    """
    if isinstance(file, Path):
        require_file(file, "The file")
    with foreign_errors(f"The parquet file '{name}'", AGAIN):
        opened = pq.ParquetFile(file)
        groups = [opened.metadata.row_group(number).total_byte_size for number in range(opened.metadata.num_row_groups)]
    if max(groups, default=0) > MOST_GROUP_BYTES:
        raise InputError(
            f"The parquet file '{name}' has a row group of {max(groups) >> 30} GiB - write it in smaller ones."
        )
    return opened


def parquet_rows(file: Path, filters: Any = None) -> list[dict[str, Any]]:
    """The rows of a parquet file that pass pyarrow's filters.

    Raises:
        InputError: it is missing, or no whole parquet file.
    """
    open_parquet(file, file)
    with foreign_errors(f"The parquet file '{file}'", AGAIN):
        rows: list[dict[str, Any]] = pq.read_table(file, filters=filters).to_pylist()
    return rows
