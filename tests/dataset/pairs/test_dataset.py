"""What `--dataset` names where preferences are trained on."""

from __future__ import annotations

from pathlib import Path

import pytest

from kollm.core.errors import InputError
from kollm.dataset.pairs.dataset import given_pairs
from kollm.dataset.preferences import read_preferences


def test_pairs_of_ones_own_become_a_dataset_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"prompt": "안녕?", "chosen": "안녕하세요", "rejected": "뭐"}\n', encoding="utf-8")
    folder = given_pairs(pairs, tmp_path / "work")
    assert [pair.chosen for pair in read_preferences(folder)] == ["안녕하세요"]
    assert given_pairs(pairs, tmp_path / "work") == folder == given_pairs(folder, tmp_path / "work")
    assert "1 pairs, as they were read before" in capsys.readouterr().err
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"instruction": "안녕?", "output": "네"}\n', encoding="utf-8")
    with pytest.raises(
        InputError, match="are Alpaca, not pairs - give rows with a prompt, a chosen and a rejected answer"
    ):
        given_pairs(rows, tmp_path / "work")
