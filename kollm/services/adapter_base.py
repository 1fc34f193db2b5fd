"""Which model an adapter belongs to, and where that model is now: on the Hub, or in a folder that may have been moved.

An adapter's folder says it in two places. PEFT's `adapter_config.json` has a Hub name or a folder's whole path, which
PEFT reads from any directory. kollm's `training.json` has the way from the adapter to that folder, which holds after
both were moved together, and a hash of what was in it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kollm.core.errors import InputError, StateError
from kollm.core.ownership import update_listed
from kollm.core.progress import say
from kollm.core.results import read_training_file
from kollm.services.local_model import LocalModel, adapter_config, find_model
from kollm.services.repository import pull
from kollm.services.weights import ADAPTER_CONFIG

TRAINING = "training.json"


def written_base(base: LocalModel, trained: Path) -> dict[str, Any]:
    """What `training.json` says of the base.

    Args:
        base: the model that was trained on.
        trained: the folder of what was made of it.
    """
    if base.repository is not None:
        return {"location": base.repository, "base_commit": base.commit, "base_content": None}
    way = os.path.relpath(base.folder.resolve(), trained.resolve())
    return {
        "location": way if way.startswith(".") else f"./{way}",  # never what could be a name on the Hub
        "base_commit": None,
        "base_content": base.content(),
    }


def find_adapter_base(adapter: LocalModel, named: str | None = None) -> LocalModel:
    """The model under an adapter.

    An adapter of kollm's whose base was found elsewhere than its `adapter_config.json` says is mended, so that PEFT
    finds the base too.

    Args:
        adapter: an adapter's files.
        named: folder or Hub id of the base, if the adapter's own word is not to be taken.

    Raises:
        InputError: the adapter names no base, or one that is not there, or another one lies in its place.
        ServiceError: the base is on the Hub, which cannot be reached.
    """
    if named is not None:
        return find_model(named)
    config = adapter_config(adapter.folder)
    written = config.get("base_model_name_or_path")
    if not written or not isinstance(written, str):
        raise InputError(
            f"The adapter '{adapter.name}' does not say which model it belongs to - name one: --base MODEL."
        )
    training = _training(adapter.folder)
    folder = base_folder(adapter.folder, written, training) if adapter.repository is None else None
    if folder is None:
        if written.count("/") != 1 or written.startswith((".", "/", "~")):  # never a folder that a repository names
            raise InputError(
                f"The adapter '{adapter.name}' names '{written}' as its base, which is no name on the Hub - name the base: "
                "--base MODEL."
            )
        revision = config.get("revision")
        pulled = pull(f"{written}@{revision}" if revision else written, "model", weights=False)
        return LocalModel(pulled.folder, str(pulled), pulled.repository, pulled.commit)
    if training and str(folder) != written:
        _move(adapter.folder, config, folder)
    return LocalModel(folder, str(folder))


def mend_moved(adapter: Path) -> None:
    """Have PEFT find the base of an adapter of kollm's again after a work folder was moved; nothing where that is no use."""
    if not (adapter / ADAPTER_CONFIG).is_file() or not (adapter / TRAINING).is_file():
        return
    with contextlib.suppress(InputError):
        written, training = str(adapter_config(adapter).get("base_model_name_or_path")), _training(adapter)
        if _was_folder(written, training) and not Path(written).is_dir():
            find_adapter_base(LocalModel(adapter, str(adapter)))


def base_folder(trained: Path, written: str, training: Mapping[str, Any] | None) -> Path | None:
    """Where a base that is a folder is now; None for a base on the Hub.

    Args:
        trained: folder of an adapter, or of a model that was merged from one.
        written: the base as it was written down: a Hub name, a folder's path, or the way to it from `trained`.
        training: what `training.json` says; None where there is none.

    Raises:
        InputError: it was a folder, and no folder with that content is there.
    """
    if not _was_folder(written, training):
        return None
    content = (training or {}).get("base_content")
    there = [
        folder for folder in _candidates(trained.resolve(), written, training) if (folder / "config.json").is_file()
    ]
    for folder in there:
        if content is None or LocalModel(folder, str(folder)).content() == content:
            return folder
    if there:
        raise InputError(
            f"The model in '{there[0]}' is not the base that '{trained}' was trained on - name that one: --base MODEL."
        )
    raise InputError(
        f"The base of '{trained}' was the folder '{written}', which is gone - name one: --base MODEL, a folder or a name on "
        "the Hub."
    )


def _was_folder(written: str, training: Mapping[str, Any] | None) -> bool:
    if Path(written).is_absolute() or written.startswith((".", "~")) or written.count("/") != 1:
        return True
    if training is None or "base_content" in training or "@" in str(training.get("location")):
        return False
    # Older adapters wrote a folder as it was typed; it was none if it is what the recipe calls its base.
    return str(((training.get("recipe") or {}).get("base") or {}).get("model", written)) != written


def _candidates(trained: Path, written: str, training: Mapping[str, Any] | None) -> Iterator[Path]:
    """Places to look at, what lies near first: at the old path another run's base may lie by now."""
    location = str((training or {}).get("location", ""))
    for place in (location, written):
        if place.startswith("."):
            yield (trained / place).resolve()
    yield trained.parent / Path(written).name
    if Path(written).is_absolute():
        yield Path(written)
    if Path(location).is_absolute():
        yield Path(location)


def _training(folder: Path) -> dict[str, Any] | None:
    path = folder / TRAINING
    return read_training_file(path) if path.is_file() else None


def _move(adapter: Path, config: Mapping[str, Any], base: Path) -> None:
    try:
        update_listed(adapter, ADAPTER_CONFIG, {**config, "base_model_name_or_path": str(base)})
    except (OSError, StateError):
        return  # a folder that one may only read; kollm finds the base all the same
    say(f"{adapter}: its base is now at {base}; its {ADAPTER_CONFIG} says so from here on")
