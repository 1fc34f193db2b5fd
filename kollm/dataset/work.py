"""The work folder of a build: beside the dataset that it makes, found again after a kill, gone when the dataset is whole."""

from __future__ import annotations

import functools
import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from kollm.core.counting import counted
from kollm.core.errors import InputError, KollmError
from kollm.core.files import ensure_folder, read_json, whole_file, write_json
from kollm.core.hashing import content_id
from kollm.core.lock import is_lock, output_lock
from kollm.core.progress import say
from kollm.core.resources import PACKAGE

ABOUT = "build.json"
"""What the build was asked to do; another order there begins from the start."""
DONE = "done"
"""Folder of the markers: `done/STAGE/TASK`, written by the executor when the task's files are whole."""
_CODE = ("core", "dataset", "quality", "recipe", "sources", "translate")


def work_place(output: Path) -> Path:
    """Where the shards of a dataset are while it is built."""
    output = output.absolute()
    return output.parent / f".{output.name}.shards"


@contextmanager
def work_folder(output: Path, about: Mapping[str, Any]) -> Iterator[Path]:
    """The work folder of a build, held by this process.

    What an earlier build of the same order left there is gone on with. The folder goes away when the build is done, and
    where its input turns out to be unusable; after anything else it stays.

    Args:
        output: the dataset folder.
        about: what decides the result: inputs, settings, translator, code.

    Raises:
        InputError: the place cannot be written, or somebody else's files are there.
        StateError: another process builds the same.
    """
    folder = work_place(output)
    with output_lock(output):
        ensure_folder(folder)
        _begin(folder, content_id(dict(about)))
        try:
            yield folder
        except InputError:
            _remove(folder)
            raise
        except (KollmError, KeyboardInterrupt):
            if any((folder / DONE).glob("*/[0-9]*")):
                say("The shards that are finished are kept: the same command goes on from there.")
            raise
        _remove(folder)


def _remove(folder: Path) -> None:
    """Remove the folder, or say what stays: the result does not depend on it.

    A network disk keeps a deleted file that a process still has open, and the folder with it; a job that was given up
    may still write there.
    """
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        say(f"'{folder}' could not be removed whole - remove it once no process uses it.")


def _begin(folder: Path, order: str) -> None:
    """Take up what an earlier build of the same order left, or make room."""
    there = [path for path in folder.iterdir() if not is_lock(path.name)]
    if there and not (folder / ABOUT).is_file():
        raise InputError(
            f"'{folder}' is in use, it holds {there[0].name} - move that elsewhere, or name another output."
        )
    if there and read_json(folder / ABOUT).get("order") == order:
        done = sum(1 for _ in (folder / DONE).glob("*/[0-9]*"))
        if done:
            say(f"Going on where a build was cut off: {counted(done, 'task is', 'tasks are')} done already.")
        return
    for path in sorted(there, key=lambda path: path.name == ABOUT):  # the mark that it is ours goes last
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    write_json(folder / ABOUT, {"order": order})


@contextmanager
def whole_arrow(
    path: Path, schema: pa.Schema, compression: str | None = "lz4", sync: bool = False
) -> Iterator[pa.RecordBatchFileWriter]:
    """Write an Arrow file, whole or not at all; without compression it can be read in place."""
    options = pa.ipc.IpcWriteOptions(
        compression=compression, use_threads=False
    )  # for a column they cost more than they save
    with whole_file(path, sync) as file, pa.ipc.new_file(file, schema, options=options) as writer:
        yield writer


def arrow_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The batches of an Arrow file."""
    with pa.memory_map(str(path)) as file:
        reader = pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(use_threads=False))
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)


def arrow_table(path: Path) -> pa.Table:
    """An Arrow file that was written without compression, in place: what is not looked at is not read."""
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


@functools.cache
def code_fingerprint() -> str:
    """Hash of the code that decides what a build makes: other code begins from the start, and no worker may have it."""
    files = sorted(
        path for name in _CODE for path in (PACKAGE / name).rglob("*") if path.suffix in (".py", ".yaml", ".txt")
    )
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()
