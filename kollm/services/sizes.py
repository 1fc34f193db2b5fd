"""A model's configuration against its weights, before a library builds what it says: a few bytes can ask for any size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kollm.core.counting import counted
from kollm.core.errors import InputError
from kollm.core.files import read_object
from kollm.services.weights import ADAPTER_CONFIG, ADAPTER_WEIGHTS, safetensors_header

MOST_BYTES = 1 << 20
"""Size of a configuration's file; those of the largest models have some hundred thousand."""
MOST_LAYERS = 2_000
_LAYERS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers")


def check_config_size(folder: Path, name: str) -> int:
    """Refuse a configuration that is larger than any, or of more layers than any model has.

    Returns:
        How many layers it asks for.

    Raises:
        InputError: it is such a one.
    """
    check_bytes(folder)
    said = max((value for key, value in _numbers(read_object(folder / "config.json")) if key in _LAYERS), default=0)
    if said > MOST_LAYERS:
        raise InputError(
            f"The config.json of '{name}' asks for {said:,} layers, which no model has - use another model."
        )
    return said


def check_model_size(folder: Path, name: str) -> None:
    """Refuse a configuration that asks for more layers than there are tensors in the weights.

    Raises:
        InputError: it does, or it is larger than any.
    """
    said = check_config_size(folder, name)
    tensors = sum(1 for path in folder.glob("*.safetensors") for _ in tensor_shapes(path))
    if said > tensors:
        raise InputError(
            f"The config.json of '{name}' asks for {said:,} layers, and its weights hold {tensors:,} tensors - use another "
            "model, or mend it."
        )


def check_adapter_size(folder: Path, name: str) -> None:
    """Refuse an adapter that asks for a larger rank, or for more layers, than its weights hold.

    Raises:
        InputError: it does, or its configuration is larger than any.
    """
    check_bytes(folder)
    config = read_object(folder / ADAPTER_CONFIG)
    pattern = config.get("rank_pattern")
    ranks = [config.get("r"), *(pattern.values() if isinstance(pattern, Mapping) else ())]
    said = max((rank for rank in ranks if isinstance(rank, int)), default=0)
    shapes = list(tensor_shapes(folder / ADAPTER_WEIGHTS))
    largest = max((size for shape in shapes for size in shape), default=0)
    if said > largest:
        raise InputError(
            f"The adapter '{name}' says that its rank is {said:,}, and no side of its weights is longer than {largest:,} - "
            "train it again."
        )
    copies = config.get("layer_replication")
    if isinstance(copies, list) and len(copies) > len(shapes):
        raise InputError(
            f"The adapter '{name}' copies layers {counted(len(copies), 'time')}, and its weights hold {len(shapes):,} tensors - train "
            "it again."
        )


def tensor_shapes(path: Path) -> Iterator[list[int]]:
    """The shapes of the tensors in a safetensors file, by its head alone.

    Raises:
        InputError: the file is none.
    """
    for tensor, about in safetensors_header(path).items():
        shape = about.get("shape") if isinstance(about, dict) else None
        if tensor != "__metadata__" and isinstance(shape, list) and all(isinstance(size, int) for size in shape):
            yield shape


def check_bytes(folder: Path) -> None:
    """Refuse configurations whose file is larger than any.

    Raises:
        InputError: one is.
    """
    for name in ("config.json", "generation_config.json", ADAPTER_CONFIG):
        path = folder / name
        if path.is_file() and path.stat().st_size > MOST_BYTES:
            raise InputError(f"'{path}' is larger than {MOST_BYTES >> 20} MiB, which none is - use another model.")


def _numbers(value: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, int]]:
    if isinstance(value, Mapping) and depth < 8:
        for name, inner in value.items():
            yield from _numbers(inner, str(name), depth + 1)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield key, value
