"""langid's model is unpacked once a machine, and never taken from a file that holds anything else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kollm.quality import identifier
from kollm.quality.identifier import load_identifier

TEXTS = (
    "",
    " ",
    "The ship leaves at nine.",
    "배가 아홉 시에 떠납니다.",
    "Das Schiff fährt ab.",
    "ABC 가",
    "船が出ます",
    "\x00\n",
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(identifier, "cache_path", lambda: tmp_path / "kollm" / "model.npz")
    yield tmp_path / "kollm" / "model.npz"
    load_identifier.cache_clear()


def load() -> Any:
    load_identifier.cache_clear()
    return load_identifier()


@pytest.fixture(scope="module")
def langid() -> Any:
    from langid.langid import LanguageIdentifier, model

    return LanguageIdentifier.from_modelstring(model)


@pytest.fixture
def unpacked(langid: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows each time that the model is unpacked."""
    from langid.langid import LanguageIdentifier

    times: list[int] = []
    monkeypatch.setattr(LanguageIdentifier, "from_modelstring", lambda model: times.append(1) or langid)
    return times


def test_it_says_what_langid_says(cache: Path, langid: Any, unpacked: list[int]) -> None:
    fresh, kept = load(), load()
    assert len(unpacked) == 1 and cache.is_file()
    for text in TEXTS:
        assert fresh.classify(text) == kept.classify(text) == langid.classify(text)


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def falsify(path: Path) -> None:
    with np.load(path) as file:
        numbers = dict(file)
    numbers["languages"][:] = "ko"
    np.savez(path, **numbers)


def smuggle(path: Path) -> None:
    np.savez(path, **dict.fromkeys(identifier._NAMES, np.array([print], dtype=object)))


@pytest.mark.parametrize("harm", [damage, falsify, smuggle, lambda path: path.write_bytes(b"")])
def test_a_file_of_another_content_is_not_used_but_replaced(harm: Any, cache: Path, unpacked: list[int]) -> None:
    load()
    whole = cache.read_bytes()
    harm(cache)
    assert load().classify(TEXTS[2])[0] == "en"
    assert len(unpacked) == 2 and cache.read_bytes() == whole


def test_a_model_of_another_langid_is_not_kept(cache: Path, langid: Any, unpacked: list[int], monkeypatch: Any) -> None:
    monkeypatch.setattr(langid, "nb_pc", langid.nb_pc + np.float32(1))
    load()
    assert not cache.exists()


def test_a_folder_that_cannot_be_written_costs_time_alone(cache: Path, unpacked: list[int]) -> None:
    cache.parent.write_text("a file in the folder's place")
    assert load().classify(TEXTS[2])[0] == "en"
