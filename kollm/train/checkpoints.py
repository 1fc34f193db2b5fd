"""The checkpoints of a training: whole or not, the newest, and their removal, which leaves what kollm did not write."""

from __future__ import annotations

import contextlib
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kollm.core.errors import StateError
from kollm.core.files import disk_errors, read_object, write_json
from kollm.core.ownership import (
    BY_SIZE,
    foreign_files,
    is_sealed,
    list_files,
    listed_files,
    own_files,
    remove_own,
    require_own,
)
from kollm.core.progress import say

MARKER = "training.json"
RECIPE = "recipe.yaml"
TRACKER = "trackio"
TENSORBOARD, WANDB, MLFLOW = "tensorboard", "wandb", "mlruns"
CHECKPOINTS = "checkpoints"
FINAL = "final"
"""Where the trained adapter is saved before it is moved to its place."""
IDENTITY = "identity.json"
"""What the training is of; a resumed one must agree with it."""
BEFORE = "heldout_before.json"
REFERENCE = "reference.safetensors"
"""What the model said of the pairs before its first step."""
EVALUATIONS = "evaluations.jsonl"
SAMPLES = "samples.jsonl"
"""What the adapter answered while it was trained; metrics.json has it at the end."""
OUT_OF_MEMORY = "out_of_memory.json"
COMPLETE = "complete.json"
"""Written last into a checkpoint, with the files that it consists of: one without it was cut off by a kill and is not
resumed from."""
OUTBOX = "outbox"
"""Checkpoints that wait to be published, see outbox.py."""
SENT = "sent.json"
RUNS = "runs.json"
"""The trackers' ids of their runs."""
_SET_ASIDE = (SENT, MARKER, RECIPE, "metrics.json")
_WHILE_TRAINING = (IDENTITY, BEFORE, REFERENCE, EVALUATIONS, SAMPLES, RUNS, OUT_OF_MEMORY)
_UNWRITTEN = re.compile(r"inline_container|PytorchStreamWriter|iostream|file write failed")
"""What torch says where a file of its own cannot be written."""
_SAVED = re.compile(
    r"(adapter_|model|pytorch_model|optimizer|scheduler|scaler|rng_state|trainer_state|training_args|tokenizer|config\."
    r"|generation_config|special_tokens|added_tokens|vocab|merges|chat_template|__\d+_\d+\.distcp|\.metadata|latest"
    r"|zero_|bf16_zero|mp_rank|random_states|README\.md)"
)
"""Names of what transformers, accelerate and DeepSpeed save: all that is known of what a kill cut off."""


@contextmanager
def saving(folder: Path) -> Iterator[None]:
    """Say in one sentence that weights cannot be written, whose libraries hide what the disk objects to in errors of theirs.

    Raises:
        StateError: they cannot.
    """
    try:
        with disk_errors(folder):
            yield
    except Exception as error:
        named = type(error).__name__ == "SafetensorError" and "I/O error" in str(error)
        if not named and not (isinstance(error, RuntimeError) and _UNWRITTEN.search(str(error))):
            raise
        reason = " ".join(str(error).split())[:120]
        raise StateError(
            f"'{folder}' cannot be written ({reason}) - make room on that disk and run the same command again; the "
            "checkpoints before are kept."
        ) from error


def check_output(output: Path) -> None:
    """Refuse a folder that holds what no training of kollm's put there.

    Raises:
        InputError: it does.
    """
    if not is_sealed(output / MARKER) and not (output / CHECKPOINTS / IDENTITY).is_file():
        require_own(output, None, "the adapter")


def training_files(output: Path) -> dict[str, str]:
    """What a training, ended or cut off, wrote into its folder: name -> checksum or size."""
    paths = [path for path in (output / TRACKER).rglob("*") if path.name.startswith("kollm")]
    paths += (output / TENSORBOARD).glob("**/events.out.tfevents.*")
    paths += (path for name in (WANDB, MLFLOW) for path in (output / name).rglob("*"))
    paths += [path for path in (output / OUTBOX).rglob("*") if _SAVED.match(path.name) or path.name in _SET_ASIDE]
    if (output / CHECKPOINTS / IDENTITY).is_file():
        paths += [output / RECIPE]
        paths += [path for path in output.glob("*") if _SAVED.match(path.name) or path.name == "metrics.json"]
    return {**_sizes(output, paths), **_checkpoint_files(output), **(own_files(output) or {})}


def _checkpoint_files(output: Path) -> dict[str, str]:
    """What of it is in the folder of checkpoints. Trackers' files, which come and go meanwhile, are not looked at."""
    if not (output / CHECKPOINTS / IDENTITY).is_file():
        return {}
    markers = list((output / CHECKPOINTS).glob(f"checkpoint-*/{COMPLETE}"))
    paths = [*(output / CHECKPOINTS / name for name in _WHILE_TRAINING), *markers]
    paths += [path for path in (output / CHECKPOINTS).glob("*/**/*") if _SAVED.match(path.name)]
    listed: dict[str, str] = {}
    for marker in markers:
        prefix = marker.parent.relative_to(output).as_posix()
        listed |= {f"{prefix}/{name}": size for name, size in listed_files(read_object(marker).get("files"))}
    return {**_sizes(output, paths), **listed}


def _sizes(output: Path, paths: Iterable[Path]) -> dict[str, str]:
    """The sizes of those that are files, and still there: SQLite removes a file of its own when a tracker closes it."""
    sizes = {}
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            about = path.lstat()
            if stat.S_ISREG(about.st_mode):
                sizes[path.relative_to(output).as_posix()] = f"{BY_SIZE}{about.st_size}"
    return sizes


def last_checkpoint(output: Path) -> Path | None:
    """The newest whole checkpoint under an output folder."""
    whole = [path.parent for path in (output / CHECKPOINTS).glob(f"checkpoint-*/{COMPLETE}")]
    return max(whole, key=_step, default=None)


def complete(folder: Path) -> None:
    """Mark a checkpoint as whole."""
    write_json(folder / COMPLETE, {"step": _step(folder), "files": list_files(folder, by_size=True)})


def keep_newest(output: Path, limit: int | None) -> None:
    """Remove the oldest checkpoints beyond `limit`; None or zero keeps all."""
    found = sorted((path for path in (output / CHECKPOINTS).glob("checkpoint-*") if path.is_dir()), key=_step)
    for path in found[: -limit if limit else 0]:
        _remove(output, f"{CHECKPOINTS}/{path.name}")


def remove_checkpoints(output: Path) -> None:
    """Remove the checkpoints of a training that has ended."""
    _remove(output, CHECKPOINTS)


def _remove(output: Path, name: str) -> None:
    inside = f"{name}/"
    listed = {path: size for path, size in _checkpoint_files(output).items() if path.startswith(inside)}
    remove_own(output, listed)
    if (output / name).is_dir() and (kept := foreign_files(output / name, {})):
        say(f"Kept in '{output / name}', since kollm did not write it: {', '.join(kept[:3])}.")


def _step(folder: Path) -> int:
    number = folder.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else -1
