"""What `--restart` removes of a work folder: what the stages wrote, unchanged since, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kollm.core.errors import StateError
from kollm.core.files import file_sha256
from kollm.core.ownership import own_files, remove_own, require_own, require_sealed
from kollm.train.checkpoints import training_files


def require_clearable(folder: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Refuse to clear stages whose files somebody has changed or added to.

    Args:
        folder: the work folder.
        entries: the stages' entries in run.json.

    Raises:
        InputError, StateError: somebody has; the message names the file.
    """
    for entry in entries:
        for path in _written(folder, entry):
            if path.is_dir():
                require_own(path, _files(path), f"the {path.name}")
            elif path.suffix != ".jsonl":
                require_sealed(path)
            elif entry["status"] == "done" and file_sha256(path) != entry["result"].get("fingerprint"):
                raise StateError(
                    f"'{path}' was changed since the run wrote it, and --restart would remove it - move it elsewhere first."
                )


def clear(folder: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Remove what the stages wrote; what else lies there stays."""
    for entry in entries:
        for path in _written(folder, entry):
            if path.is_dir():
                remove_own(path, _files(path))
            else:
                path.unlink()
                for name in _of_one_at_work(path):
                    name.unlink()


def _written(folder: Path, entry: Mapping[str, Any]) -> list[Path]:
    return [folder / name for name in entry.get("writes", ()) if (folder / name).exists()]


def _files(path: Path) -> dict[str, str]:
    return {**training_files(path), **(own_files(path) or {})}


def _of_one_at_work(path: Path) -> list[Path]:
    """The parts and the batch of a stage that was cut off."""
    ours = re.compile(re.escape(path.name) + r"(\..+\.part-\d+|\.batch\.json)")
    return [other for other in path.parent.iterdir() if ours.fullmatch(other.name)]
