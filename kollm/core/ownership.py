"""What kollm wrote, and may therefore replace or remove. Everything else is somebody's, and stays.

There is one rule. A file in a folder of kollm's is ours while the folder's marker lists it with its checksum, and it has
that checksum still; a file that stands alone is ours while the seal that kollm put into it fits the rest of it.
What is not ours stops a command before its work begins, by name.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from kollm.core.errors import InputError, StateError, disk_sentence
from kollm.core.file_lock import lock_file
from kollm.core.files import encodable, ensure_folder, file_sha256, json_text, read_json, write_atomic, write_json
from kollm.core.hashing import content_id
from kollm.core.lock import is_lock, output_lock
from kollm.core.progress import say

MARKERS = ("manifest.json", "training.json", "toy.json", "vocabulary.json")
"""Written last into a dataset, an adapter or merged model, a toy base, an extended base."""
BY_SIZE = "bytes:"
"""In place of a checksum, for what is too large to hash whenever it is saved: the file's size."""
_CLAIM = ".kollm"
"""A file inside a folder that is being made; locked while its maker lives."""
_SEALS = {".html": ("<!-- ", " -->"), ".md": ("<!-- ", " -->"), ".yaml": ("# ", "")}
_SEAL = re.compile(r"(?:<!--|#) kollm (sha256:[0-9a-f]{64})(?: -->)?\n?\Z")


# --- folders ----------------------------------------------------------------------------------------------------------


def list_files(folder: Path, by_size: bool = False) -> dict[str, str]:
    """Each file under a folder with its checksum, or its size, for the folder's marker to hold."""
    return {
        path.relative_to(folder).as_posix(): f"{BY_SIZE}{path.stat().st_size}" if by_size else file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / _CLAIM and not is_lock(path.name)
    }


def own_files(folder: Path) -> dict[str, str] | None:
    """What a folder's sealed marker lists, the marker included; None for a folder without one."""
    marker = next((name for name in MARKERS if is_sealed(folder / name)), None)
    if marker is None:
        return None
    about = read_json(folder / marker)
    card = {"README.md": about["card"]} if "card" in about else {}
    return {**dict(listed_files(about.get("files"))), **card, marker: file_sha256(folder / marker)}


def foreign_files(folder: Path, listed: Mapping[str, str]) -> list[str]:
    """What kollm did not write in a folder, or somebody has changed since: the names, sorted; a link is never ours."""
    parents = {parent.as_posix() for name in listed for parent in Path(name).parents}
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name == _CLAIM or is_lock(path.name):
            continue
        with contextlib.suppress(FileNotFoundError):  # another process has removed it meanwhile
            if path.is_dir() and not path.is_symlink():
                if name not in parents and not any(path.iterdir()):
                    found.append(name + "/")
            elif name not in listed or not _is_as_listed(path, listed[name]):
                found.append(name)
    return found


def require_own(folder: Path, listed: Mapping[str, str] | None, what: str) -> None:
    """Refuse to replace a folder that holds anything that kollm did not write.

    Args:
        folder: absent, empty, or to be replaced.
        listed: name -> checksum as its marker has them; None for a folder without a marker of kollm's.
        what: what is to stand there, e.g. `the dataset`.

    Raises:
        InputError: it is a file, or holds something else; the message names the first of them.
    """
    if folder.is_file():
        raise InputError(f"'{folder}' is a file - name a folder for {what}.")
    if not folder.is_dir():
        return
    foreign = foreign_files(folder, listed or {})
    if not foreign:
        return
    names = ", ".join(foreign[:3]) + (f" and {len(foreign) - 3} more" if len(foreign) > 3 else "")
    if listed is None:
        raise InputError(f"'{folder}' is in use, it holds {names} - name an empty or a new folder for {what}.")
    raise InputError(
        f"'{folder}' holds what kollm did not write, or what was changed since ({names}), and would be replaced - move "
        f"that elsewhere, or name another folder for {what}."
    )


def remove_own(folder: Path, listed: Mapping[str, str]) -> list[str]:
    """Remove the listed files that are unchanged, and the folders that are empty then.

    Returns:
        What stays, because kollm did not write it: the names.
    """
    for name, checksum in listed.items():
        path = folder / name
        if path.is_file() and not path.is_symlink() and _is_as_listed(path, checksum):
            path.unlink()
    (folder / _CLAIM).unlink(missing_ok=True)
    _remove_empty(folder)
    return foreign_files(folder, {}) if folder.is_dir() else []


def update_listed(folder: Path, name: str, value: Mapping[str, Any]) -> None:
    """Write a JSON file that a folder's marker lists, and its new checksum into the marker, if it was ours."""
    listed = own_files(folder) or {}
    ours = name in listed and _is_as_listed(folder / name, listed[name])
    write_json(folder / name, value)
    marker = next(reversed(listed), "")
    if ours and name != marker:
        about = read_json(folder / marker)
        about["files"][name] = file_sha256(folder / name)
        write_sealed(folder / marker, about)


def _is_as_listed(path: Path, checksum: str) -> bool:
    if path.is_symlink():
        return False
    if checksum.startswith(BY_SIZE):
        return f"{BY_SIZE}{path.stat().st_size}" == checksum
    return file_sha256(path) == checksum


def _remove_empty(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            with contextlib.suppress(OSError):
                path.rmdir()
    with contextlib.suppress(OSError):
        folder.rmdir()


class Replacement:
    """A folder that is made beside its place, and moved there whole, by one process at a time. Use as a context manager.

    Left without `publish`, nothing remains; what a killed one left is removed by the next. At every moment the earlier
    folder or the new one is there or, between two renames, found again by `restore`.

    Args:
        folder: its place.

    Raises:
        InputError: the place cannot be written.
        StateError: another process makes it, or, on leaving, the disk was full.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        with contextlib.ExitStack() as stack:
            stack.enter_context(output_lock(self.folder))
            self._begin()
            self._lock = stack.pop_all()

    def _begin(self) -> None:
        ensure_folder(self.folder.parent)
        restore(self.folder)
        _remove_leftovers(self.folder)
        self.work = _beside(self.folder, "partial")
        self.work.mkdir()
        self._claim = (self.work / _CLAIM).open("wb")
        lock_file(self._claim, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def publish(self, replaced: Mapping[str, str]) -> Path:
        """Move the folder into its place.

        Args:
            replaced: what the marker of the earlier folder there lists; of it, nothing else is removed.
        """
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()
        aside = _beside(self.folder, "replaced") if self.folder.exists() else None
        if aside is not None:
            self.folder.rename(aside)
        self.work.rename(self.folder)
        (self.folder / _CLAIM).unlink()
        if aside is not None and (kept := remove_own(aside, replaced)):
            say(f"Kept, since kollm did not write it: {', '.join(kept[:3])} - it is in '{aside}' now.")
        return self.folder

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._claim.close()
            shutil.rmtree(self.work, ignore_errors=True)
        if (full := disk_sentence(value, self.folder)) is not None:
            raise StateError(full) from value


def restore(folder: Path) -> None:
    """Put a folder back that was set aside when a kill came before the new one was in its place."""
    if folder.exists() or not folder.parent.is_dir():
        return
    aside = [path for path in folder.parent.glob(f".{_escaped(folder.name)}.*.replaced") if path.is_dir()]
    if not aside:
        return
    with (
        contextlib.suppress(FileNotFoundError, StateError),
        output_lock(folder),
    ):  # else its holder is between two renames
        if not folder.exists():
            max(aside, key=lambda path: path.stat().st_mtime).rename(folder)
            say(f"'{folder}' is restored: a kill had left it aside.")


def _beside(folder: Path, suffix: str) -> Path:
    for number in range(1000):
        path = folder.parent / f".{folder.name}.{os.getpid()}-{number}.{suffix}"
        if not path.exists():
            return path
    raise InputError(f"'{folder.parent}' is full of leftovers (.{folder.name}.*) - look through them and remove them.")


def _remove_leftovers(folder: Path) -> None:
    """Remove what makers of this folder left behind that were killed: their claim is there, and nobody holds it."""
    for path in folder.parent.glob(f".{_escaped(folder.name)}.*.partial"):
        claim = path / _CLAIM
        if not claim.is_file():
            continue
        with claim.open("rb") as file:
            if _locks(file):
                shutil.rmtree(path, ignore_errors=True)


def _locks(file: IO[bytes]) -> bool:
    try:
        return lock_file(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False


def _escaped(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)


# --- files that stand alone -------------------------------------------------------------------------------------------


def require_new(path: Path, what: str) -> Path:
    """Refuse to overwrite: what is there may be somebody's, or have been paid for.

    Raises:
        InputError: something is there.
    """
    if path.exists() or path.is_symlink():
        raise InputError(f"'{path}' is there already - name a new file for {what}, or move that one elsewhere.")
    return path


def require_sealed(path: Path) -> Path:
    """Refuse to overwrite a file unless `write_sealed` wrote it and nobody has changed it since.

    Raises:
        InputError: somebody did, or it is another's.
    """
    if path.exists() and not is_sealed(path):
        raise InputError(
            f"'{path}' was not written by kollm, or was changed since - move it elsewhere, or name another output."
        )
    return path


def is_sealed(path: Path) -> bool:
    """Whether a file holds kollm's seal, and the seal fits the rest of it."""
    try:
        text = path.read_bytes().decode("utf-8")
        if path.suffix == ".json":
            value = json.loads(text)
            return isinstance(value, dict) and value.pop("sha256", None) == content_id(value)
    except (OSError, ValueError, RecursionError):
        return False
    found = _SEAL.search(text)
    return found is not None and found[1] == _sha256(text[: found.start()])


def write_sealed(path: Path, content: str | Mapping[str, Any]) -> None:
    """Write a file that can be recognised as kollm's own later: HTML, markdown, YAML, or JSON from a mapping.

    The seal is the last line, a comment; in JSON it is the key `sha256`.

    Raises:
        InputError: another file is there.
    """
    require_sealed(path)
    if not isinstance(content, str):
        plain = json.loads(json_text(content, path))
        plain.pop("sha256", None)  # of what it was made from
        write_json(path, {**plain, "sha256": content_id(plain)})
        return
    before, after = _SEALS[path.suffix.lower()]
    text = encodable(content if content.endswith("\n") else content + "\n")
    write_atomic(path, f"{text}{before}kollm {_sha256(text)}{after}\n")


def _sha256(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode("utf-8")).hexdigest()


def listed_files(values: Any) -> Iterator[tuple[str, str]]:
    """The pairs of a marker's `files`, as far as they are names inside the folder with a checksum."""
    for name, checksum in values.items() if isinstance(values, dict) else ():
        inside = not Path(name).is_absolute() and ".." not in Path(name).parts
        if inside and isinstance(checksum, str) and checksum.startswith(("sha256:", BY_SIZE)):
            yield name, checksum
