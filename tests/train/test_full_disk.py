"""A disk that takes no more is one sentence, whichever library meets it; a limit on the size of files stands for it."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from kollm.core.errors import StateError
from kollm.train.checkpoints import saving
from tests.train.test_trainer_settings import made

WEIGHTS = {"weight": torch.zeros(50_000)}


@pytest.fixture
def small_disk() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    "write",
    [
        lambda path: torch.save(WEIGHTS, path),
        lambda path: save_file(WEIGHTS, path),
        lambda path: Path(path).write_bytes(bytes(50_000)),
    ],
    ids=["torch", "safetensors", "python"],
)
def test_each_library_that_writes_weights(write: Callable[[str], Any], small_disk: None, tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"cannot be (written|used) \(.+\) - "), saving(tmp_path):
        write(str(tmp_path / "weights"))


def test_a_checkpoint_that_has_no_room(small_disk: None, tmp_path: Path) -> None:
    with pytest.raises(StateError, match=rf"'{tmp_path}.* cannot be (written|used)"):
        made(tmp_path, {"save_strategy": "steps", "save_steps": 1}).train()


def test_other_errors_go_on_their_way(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shape"), saving(tmp_path):
        raise RuntimeError("a shape does not fit")
