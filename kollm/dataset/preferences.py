"""Preferences in a dataset folder: the config `preferences` with its own schema, and its reader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from kollm.core.errors import InputError
from kollm.core.parquet import open_parquet, parquet_batches
from kollm.core.preferences import Preference
from kollm.dataset.folder import PREFERENCES, read_manifest
from kollm.dataset.tables import TURNS
from kollm.services.repository import locate

_TEXTS = [
    ("instruction", pa.string()),
    ("input", pa.string()),
    ("chosen", pa.string()),
    ("rejected", pa.string()),
    ("history", TURNS),
    ("system", pa.string()),
]
PREFERENCE_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        *_TEXTS,
        ("lang", pa.string()),
        ("licence", pa.string()),
        (
            "provenance",
            pa.struct(
                [
                    ("task", pa.string()),
                    ("chosen_system", pa.string()),
                    ("rejected_system", pa.string()),
                    ("chosen_score", pa.float64()),
                    ("rejected_score", pa.float64()),
                    ("margin", pa.float64()),
                    ("agreement", pa.float64()),
                    ("verdicts", pa.int64()),
                    ("judge", pa.string()),
                    ("rubric", pa.string()),
                    ("rubric_sha256", pa.string()),
                    ("axis", pa.string()),
                    ("origin", pa.string()),
                    ("revision", pa.string()),
                    ("engine", pa.string()),
                    ("characters", pa.int64()),
                ]
            ),
        ),
        ("original", pa.struct(_TEXTS)),
        ("tools", pa.string()),
    ]
)
"""Columns of the config `preferences`: the fields of Preference."""
_ADDED_LATER = frozenset({"tools"})


def preference_table(preferences: Sequence[Preference]) -> pa.Table:
    """Preferences as a table of PREFERENCE_SCHEMA."""
    return pa.Table.from_pylist([preference.to_row() for preference in preferences], PREFERENCE_SCHEMA)


def has_preferences(folder: Path) -> bool:
    """Whether a folder is a dataset folder that holds preferences."""
    return any(name.startswith(f"{PREFERENCES}/") for name in read_manifest(folder)["files"])


def preference_files(folder_or_hub_id: str | Path, split: str | None = None, revision: str | None = None) -> list[Path]:
    """The files of a dataset that hold the preferences of a split; arguments and errors as for `read_preferences`."""
    folder = locate(folder_or_hub_id, "dataset", revision).folder
    files = read_manifest(folder)["files"]
    wanted = f"{PREFERENCES}/{split}-" if split else f"{PREFERENCES}/"
    names = [name for name in files if name.startswith(wanted)]
    if not names:
        there = ", ".join(sorted({name.rsplit("-", 1)[0] for name in files})) or "nothing"
        raise InputError(
            f"'{folder_or_hub_id}' holds no preferences of the split '{split or 'any'}', it has {there} - make some with: "
            "kollm data pairs."
        )
    return [folder / name for name in names]


def read_preferences(
    folder_or_hub_id: str | Path, split: str | None = None, revision: str | None = None
) -> Iterator[Preference]:
    """Yield the preferences of a dataset folder, or of a dataset that kollm published on the Hub.

    Args:
        folder_or_hub_id: a folder, `ORG/NAME`, or `ORG/NAME@REVISION`.
        split: `train` or `test`; None for both.
        revision: commit on the Hub.

    Raises:
        InputError: there is no such dataset, it holds no preferences of that split, or a pair that cannot be used.
    """
    for path in preference_files(folder_or_hub_id, split, revision):
        schema = open_parquet(path, path).schema_arrow
        _check_columns(schema, path)
        columns = [name for name in PREFERENCE_SCHEMA.names if name in schema.names]
        for batch in parquet_batches(path, path, 1000, columns):
            for row in batch.to_pylist():
                yield (
                    Preference.from_row({**row, "tools": row.get("tools") or ""}, path).normalised().require_sound(path)
                )


def _check_columns(schema: pa.Schema, path: Path) -> None:
    missing = [name for name in PREFERENCE_SCHEMA.names if name not in {*schema.names, *_ADDED_LATER}]
    if missing:
        raise InputError(
            f"'{path}' lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)} - make the pairs again with: kollm "
            "data pairs."
        )
