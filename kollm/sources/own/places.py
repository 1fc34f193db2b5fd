"""Where rows of a user's own stand: a file, a folder, a `save_to_disk` folder, a dataset on the Hub, standard input."""

from __future__ import annotations

import io
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from fnmatch import fnmatch
from functools import partial
from pathlib import Path, PurePath
from typing import Any, BinaryIO, NamedTuple, cast

import yaml

from kollm.core.errors import InputError
from kollm.core.files import file_sha256
from kollm.core.hashing import content_id
from kollm.services.repository import Reference, hub_errors, parse_reference
from kollm.sources.own.reading import PACKED, READERS, OwnFile

STANDARD_INPUT = "-"
_BUFFER = 1 << 20
_SPLIT = re.compile(r"(?:^|[/_.-])(train|validation|valid|val|dev|test|eval)(?=[/_.-]|$)", re.IGNORECASE)
_TRAINING, _CHECKING = ("train",), ("test", "eval", "validation", "valid", "val", "dev")


class Place(NamedTuple):
    """The files of one input, what pins their content, and what should be said of the choice."""

    files: list[OwnFile]
    revision: str
    notes: list[str]


def find_files(
    input: str | Path,
    *,
    revision: str | None = None,
    config: str | None = None,
    split: str | None = None,
    asked: bool = False,
) -> Place:
    """The files that an input means.

    Args:
        input: a file, a folder, `ORG/NAME` or `ORG/NAME@REVISION` on the Hub, or `-` for standard input.
        revision: a commit on the Hub.
        config: a config of a dataset on the Hub.
        split: `train`, `test`, ...; by default training rows, or with `asked` rows to be answered.
        asked: whether the rows are questions, rather than rows to train on.

    Raises:
        InputError: there is nothing that kollm reads.
        ServiceError: the Hub cannot be reached.
    """
    if str(input) == STANDARD_INPUT:
        return _standard_input()
    path = Path(input)
    if path.is_file():
        return Place([_local(path)], file_sha256(path), [])
    if path.is_dir():
        return _folder(path, config, split, asked)
    name = str(input)
    if (
        path.suffix.lower() in {*READERS, *PACKED}
        or name.partition("@")[0].count("/") != 1
        or name.startswith((".", "/", "~"))
    ):
        raise InputError(
            f"There is no file or folder '{input}', and it is no name on the Hub - check the path, or write ORG/NAME."
        )
    return _hub(name, revision, config, split, asked)


def _local(path: Path) -> OwnFile:
    return OwnFile(str(path), partial(cast(Any, open), path, "rb"))


def _standard_input() -> Place:
    """What comes in, kept in a file of its own: rows are read twice, for their encoding and their form first."""
    spool = tempfile.NamedTemporaryFile(prefix="kollm-stdin-", delete=True)  # noqa: SIM115 - it lives as long as the process
    shutil.copyfileobj(sys.stdin.buffer, spool)
    spool.flush()
    path = Path(spool.name)
    with path.open("rb") as file:
        suffix = _suffix_of(file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n"))
    opened = _Spooled(spool, f"standard input{suffix}").file()
    return Place([opened], file_sha256(path), [])


def _suffix_of(start: bytes) -> str:
    """The form of content whose file has no name."""
    if start.startswith((b"[", b"{")):
        return ".json"
    if start.startswith(b"PAR1"):
        return ".parquet"
    return ".csv" if b"," in start.partition(b"\n")[0] else ".txt"


class _Spooled(NamedTuple):
    """Standard input in a temporary file, which lives as long as this does."""

    spool: Any
    name: str

    def open(self) -> BinaryIO:
        return cast(BinaryIO, Path(self.spool.name).open("rb"))

    def file(self) -> OwnFile:
        return OwnFile(self.name, self.open)


def _folder(path: Path, config: str | None, split: str | None, asked: bool) -> Place:
    found = sorted(
        item for item in path.rglob("*") if item.is_file() and _is_read(item.name) and not _is_hidden(item, path)
    )
    saved = (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file()
    if saved:
        found = [item for item in found if item.suffix == ".arrow"]
    else:
        found = [item for item in found if item.name not in ("dataset_infos.json", "state.json", "dataset_info.json")]
    for item in found:
        _require_inside(item, path)
    names = {item.relative_to(path).as_posix(): item for item in found}
    chosen, notes = _of_config(str(path), list(names), _folder_configs(path), config, split, asked)
    if not chosen:
        raise InputError(
            f"The folder '{path}' holds no file that kollm reads ({', '.join(READERS)}) - name one that does."
        )
    pinned = content_id({name: file_sha256(names[name]) for name in chosen})
    return Place([_local(names[name]) for name in chosen], pinned, notes)


def _require_inside(item: Path, folder: Path) -> None:
    """Refuse a link that leads out of a folder: somebody's folder may name files of one's own, whose text would go with it.

    The Hub's cache is made of such links, from a snapshot to the blobs beside the snapshots.

    Raises:
        InputError: it does.
    """
    target = item.resolve()
    roots = [parent.parent.resolve() / "blobs" for parent in item.absolute().parents if parent.name == "snapshots"]
    if not any(target.is_relative_to(root) for root in (folder.resolve(), *roots)):
        raise InputError(
            f"'{item}' is a link out of its folder, to '{target}' - name that file itself if it is to be read, or remove the link."
        )


def _folder_configs(path: Path) -> list[dict[str, Any]]:
    """The configs in the card of a folder that is laid out for the Hub; none where it has no card that can be read."""
    card = path / "README.md"
    if not card.is_file():
        return []
    try:
        from huggingface_hub import DatasetCard

        data = DatasetCard.load(card, ignore_metadata_errors=True).data
    except (ValueError, yaml.YAMLError, OSError):
        return []
    return _usable_configs(data.get("configs"))


def _is_hidden(item: Path, root: Path) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in item.relative_to(root).parts)


def _is_read(name: str) -> bool:
    return OwnFile(name, cast(Any, None)).suffix in READERS and not name.lower().endswith((".md.txt", "license.txt"))


def _of_split(names: Sequence[str], split: str | None, asked: bool, where: str) -> tuple[list[str], list[str]]:
    """The files of the wanted split, by their names; files whose names tell no split are of every split."""
    splits: dict[str, list[str]] = {}
    for name in names:
        found = _SPLIT.search(PurePath(name).as_posix())
        splits.setdefault(found[1].lower() if found else "", []).append(name)
    if split is not None:
        if split not in splits:
            there = ", ".join(sorted(filter(None, splits))) or "no split"
            raise InputError(f"'{where}' has no files of the split '{split}' - it has {there}.")
        return splits[split], []
    if len(splits) <= 1:
        return list(names), []
    order = (*_CHECKING, *_TRAINING) if asked else _TRAINING
    for wanted in order:
        if wanted in splits:
            left = sorted(name or "others" for name in splits if name not in (wanted,))
            return splits[wanted], [f"split {wanted}; not read: {', '.join(left)} (--split)"]
    return list(names), []


def _hub(name: str, revision: str | None, config: str | None, split: str | None, asked: bool) -> Place:
    reference = parse_reference(name)
    wanted = reference.revision or revision
    with hub_errors("dataset", Reference(reference.repository, wanted)):
        from huggingface_hub import HfApi

        info = HfApi(library_name="kollm").dataset_info(reference.repository, revision=wanted)
    commit = str(info.sha)
    names = sorted(item.rfilename for item in info.siblings or () if _is_read(item.rfilename))
    names = [item for item in names if not item.startswith(".") and PurePath(item).name != "dataset_infos.json"]
    chosen, notes = _of_config(reference.repository, names, _configs(info), config, split, asked)
    if not chosen:
        raise InputError(
            f"The dataset '{reference.repository}' has no file that kollm reads ({', '.join(READERS)}) - name another."
        )
    root = f"datasets/{reference.repository}@{commit}"
    files = [OwnFile(item, partial(_open_hub, f"{root}/{item}", reference.repository)) for item in chosen]
    return Place(files, commit, notes)


def _open_hub(path: str, repository: str) -> BinaryIO:
    reference = Reference(repository)
    with hub_errors("dataset", reference):
        from huggingface_hub import HfFileSystem

        opened = HfFileSystem().open(path, "rb")
    return cast(BinaryIO, io.BufferedReader(_OnHub(opened, reference), _BUFFER))


class _OnHub(io.RawIOBase):
    """A file on the Hub, which is asked for only when it is read: what the Hub objects to is said in one sentence then."""

    def __init__(self, file: Any, reference: Reference) -> None:
        self._file, self._reference = file, reference

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return int(self._file.tell())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def readinto(self, buffer: Any) -> int:
        with hub_errors("dataset", self._reference):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _configs(info: Any) -> list[dict[str, Any]]:
    data = getattr(info, "card_data", None)
    return _usable_configs(data.get("configs") if data is not None else None)


def _usable_configs(configs: Any) -> list[dict[str, Any]]:
    listed = configs if isinstance(configs, list) else []
    return [item for item in listed if isinstance(item, dict) and item.get("config_name") and item.get("data_files")]


def _of_config(
    repository: str,
    names: Sequence[str],
    configs: Sequence[dict[str, Any]],
    config: str | None,
    split: str | None,
    asked: bool,
) -> tuple[list[str], list[str]]:
    if not configs:
        if config is not None:
            raise InputError(f"'{repository}' names no configs - leave out --hub-config {config}.")
        return _of_split(names, split, asked, repository)
    known = {str(item["config_name"]): item for item in configs}
    if config is None:
        defaults = [name for name, item in known.items() if item.get("default")] or [
            name for name in known if name == "default"
        ]
        config = defaults[0] if defaults else next(iter(known)) if len(known) == 1 else None
    if config is None or config not in known:
        what = f"no config '{config}'" if config else "several configs"
        raise InputError(f"'{repository}' has {what} - name one with --hub-config: {', '.join(known)}.")
    note = [f"config {config}"] if len(known) > 1 else []
    files = known[config]["data_files"]
    if isinstance(files, str) or all(isinstance(item, str) for item in files):
        patterns = [files] if isinstance(files, str) else list(files)
        chosen, more = _of_split(_matching(names, patterns), split, asked, repository)
        return chosen, [*note, *more]
    by_split = {str(item.get("split", "train")): item.get("path", "") for item in files if isinstance(item, dict)}
    order = [split] if split else [*_CHECKING, *_TRAINING] if asked else [*_TRAINING]
    picked = next((item for item in order if item in by_split), None)
    if picked is None:
        if split is not None or len(by_split) > 1:
            raise InputError(
                f"The config '{config}' of '{repository}' has the splits {', '.join(by_split)} - name one with --split."
            )
        picked = next(iter(by_split))
    left = [item for item in by_split if item != picked]
    paths = by_split[picked]
    more = [f"split {picked}; not read: {', '.join(left)} (--split)"] if left else []
    return _matching(names, [paths] if isinstance(paths, str) else list(paths)), [*note, *more]


def _matching(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    return [name for name in names if any(fnmatch(name, pattern.replace("**", "*")) for pattern in patterns)]
