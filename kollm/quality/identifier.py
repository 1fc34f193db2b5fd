"""langid's identifier of languages, whose model is unpacked once a machine rather than once a process, where it takes 2 s.

What langid unpacks is kept in the user's cache folder as plain numbers. A file there counts only where its hash is that of
langid 1.1.6's model, which stands below: whatever else it may hold is never used.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import platformdirs

from kollm.core.errors import MissingExtraError, StateError
from kollm.core.files import whole_file

_CONTENT = "a3b82bcd79ce24d33fcf946d0c4ce57b6ddfcdcced584e55dba70885b0d82822"
"""SHA-256 of the unpacked model of langid 1.1.6, as `_content` counts it."""
_NAMES = ("chances", "priors", "languages", "moves", "states", "counts", "features")

Numbers = Mapping[str, npt.NDArray[Any]]


@functools.cache
def load_identifier() -> Any:
    """langid's identifier with its own model: `classify(text)` gives the language and the score that `langid.classify` gives.

    Raises:
        MissingExtraError: langid is not installed.
    """
    try:
        from langid.langid import LanguageIdentifier, model
    except ImportError as error:
        raise MissingExtraError("langid", "translate") from error
    path = cache_path()
    numbers = _read(path)
    if numbers is None:
        numbers = _unpacked(LanguageIdentifier.from_modelstring(model))
        if _content(numbers) == _CONTENT:
            _write(numbers, path)
    return _identifier(LanguageIdentifier, numbers)


def cache_path() -> Path:
    """Where the unpacked model is kept."""
    return platformdirs.user_cache_path("kollm") / f"langid-{_CONTENT[:16]}.npz"


def _unpacked(identifier: Any) -> Numbers:
    """The numbers of a model; `features` holds those of each state, end to end."""
    states = sorted(state for state, features in identifier.tk_output.items() if features)
    outputs = [identifier.tk_output[state] for state in states]
    return {
        "chances": identifier.nb_ptc,
        "priors": identifier.nb_pc,
        "languages": np.array(identifier.nb_classes),
        "moves": np.array(identifier.tk_nextmove, dtype=np.uint16),
        "states": np.array(states, dtype=np.uint16),
        "counts": np.array([len(features) for features in outputs], dtype=np.uint16),
        "features": np.array([feature for features in outputs for feature in features], dtype=np.uint16),
    }


def _identifier(kind: Any, numbers: Numbers) -> Any:
    ends = np.cumsum(numbers["counts"]).tolist()
    features = numbers["features"].tolist()
    outputs = {
        state: features[end - count : end]
        for state, count, end in zip(numbers["states"].tolist(), numbers["counts"].tolist(), ends, strict=True)
    }
    # langid multiplies counts by single-precision chances, for which numpy makes doubles of all of them, text by text.
    chances = numbers["chances"].astype(np.float64)
    moves = array("H", numbers["moves"].astype(np.uint16).tobytes())
    return kind(chances, numbers["priors"], len(chances), numbers["languages"].tolist(), moves, outputs)


def _read(path: Path) -> Numbers | None:
    """The numbers that an earlier process wrote; None where there are none, or others."""
    try:
        with np.load(path, allow_pickle=False) as file:
            numbers = {name: file[name] for name in _NAMES}
    except (OSError, EOFError, ValueError, KeyError, BadZipFile):
        return None
    return numbers if _content(numbers) == _CONTENT else None


def _write(numbers: Numbers, path: Path) -> None:
    with contextlib.suppress(OSError, StateError):  # it only saves time
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, sync=False) as file:
            np.savez(file, allow_pickle=False, **numbers)


def _content(numbers: Numbers) -> str:
    """The hash of a model's numbers."""
    digest = hashlib.sha256()
    for name in _NAMES:
        column = numbers[name]
        digest.update(f"{name} {column.dtype.str} {column.shape}".encode("ascii"))
        digest.update(column.tobytes())
    return digest.hexdigest()
