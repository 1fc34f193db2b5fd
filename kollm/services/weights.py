"""A model's files on disk: which of them are loaded, what identifies them, and that none of them is pickled."""

from __future__ import annotations

import functools
import json
import shlex
from pathlib import Path, PurePosixPath
from typing import Any

from kollm.core.errors import InputError
from kollm.core.files import file_sha256, read_object
from kollm.core.hashing import content_id

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
INDEX = ".safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".h5", ".npy", ".npz", ".msgpack")
"""Endings of files whose loading can run code, or that hold weights in a form that kollm does not load."""
MOST_HEADER = 100 << 20
"""Size of the head of a safetensors file, as that format itself has it."""
_LOADED_SUFFIXES = (".safetensors", ".model", ".spm", ".jinja", ".tiktoken")
_LOADED_NAMES = (
    "config.json",
    "generation_config.json",
    ADAPTER_CONFIG,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)
_PLACES = ("base_model_name_or_path", "revision")
"""Keys of an adapter's configuration that say where its base is; the base itself is identified by its own files."""


def content_hash(folder: Path) -> str:
    """One hash over all files of a folder that are loaded: weights, configuration, tokenizer.

    It is the same for a copy of the folder, and another one for weights that were trained again.

    Raises:
        InputError: a weights index names a file that is not in the folder.
    """
    parts: list[Any] = []
    for name in sorted({*_top_files(folder), *_indexed(folder)}):
        if name == ADAPTER_CONFIG:
            config = read_object(folder / name)
            parts.append([name, {key: value for key, value in config.items() if key not in _PLACES}])
        else:
            about = (folder / name).stat()
            parts.append([name, _file_hash(folder / name, about.st_size, about.st_mtime_ns)])
    return content_id(parts)


@functools.lru_cache(maxsize=256)
def _file_hash(path: Path, _size: int, _changed: int) -> str:
    """A file's hash; that of large weights is made once in a process, unless they changed."""
    return file_sha256(path)


def check_weights(folder: Path, name: str, auto: str | None = None) -> None:
    """Refuse weights that are not safetensors.

    Args:
        folder: of a model or adapter.
        name: what the model is called in the message.
        auto: the class of transformers' that loads the whole model; None for an adapter.

    Raises:
        InputError: there are none, or pickled ones; the message has the command that converts them.
    """
    if (folder / ADAPTER_WEIGHTS).is_file() if auto is None else _has_safetensors(folder):
        _indexed(folder)
        return
    what = "adapter" if auto is None else "model"
    pickled = sorted(
        path.name for path in folder.iterdir() if path.suffix in PICKLES and path.name != "training_args.bin"
    )
    if pickled:
        raise InputError(
            f"The {what} '{name}' has pickled weights ({pickled[0]}), which can run code when they are loaded, so kollm loads "
            f"safetensors alone - convert them once: {_conversion(folder, pickled[0], auto)}"
        )
    raise InputError(
        f"The {what} '{name}' has no weights as safetensors, and kollm loads no pickled ones - check its name, or convert "
        "them in a copy of your own."
    )


def _conversion(folder: Path, pickled: str, auto: str | None) -> str:
    """A command that converts pickled weights beside them; torch and transformers unpickle nothing but tensors here."""
    if auto is None:
        there, new = str(folder / pickled), str(folder / ADAPTER_WEIGHTS)
        code = f"import torch, safetensors.torch as s; s.save_file(torch.load({there!r}, weights_only=True), {new!r})"
    else:
        where = str(folder)
        code = f"from transformers import {auto} as M; M.from_pretrained({where!r}).save_pretrained({where!r})"
    return f"python -c {shlex.quote(code)}"


def _has_safetensors(folder: Path) -> bool:
    return any(path.name != ADAPTER_WEIGHTS for path in folder.glob("*.safetensors"))


def _top_files(folder: Path) -> list[str]:
    return [
        path.name
        for path in folder.iterdir()
        if path.is_file()
        and (path.suffix in _LOADED_SUFFIXES or path.name in _LOADED_NAMES or path.name.endswith(INDEX))
    ]


def _indexed(folder: Path) -> set[str]:
    """The files that a model's weights indices name.

    Raises:
        InputError: one of them is not inside the folder.
    """
    names: set[str] = set()
    for index in sorted(folder.glob(f"*{INDEX}")):
        content = read_object(index)
        mapping = content.get("weight_map") if isinstance(content, dict) else None
        if not isinstance(mapping, dict):
            raise InputError(f"'{index}' is no index of weights - download or save the model again.")
        for name in {str(value) for value in mapping.values()}:
            path = PurePosixPath(name.replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts or not (folder / path).is_file():
                raise InputError(f"'{index}' names '{name}', which is no file of the model - save the model again.")
            names.add(path.as_posix())
    return names


def safetensors_header(path: Path) -> dict[str, Any]:
    """The JSON at the head of a safetensors file: of each tensor its type, shape and place.

    Raises:
        InputError: the file is none.
    """
    wrong = InputError(f"'{path}' is no safetensors file - save the weights with safetensors, or download them again.")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MOST_HEADER, path.stat().st_size - 8):
            raise wrong
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError) as error:
            raise wrong from error
    if not isinstance(header, dict):
        raise wrong
    return header
