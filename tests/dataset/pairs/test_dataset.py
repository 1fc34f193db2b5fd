"""What `--dataset` names where preferences are trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kollm.core.errors import InputError
from kollm.core.preferences import PairProvenance, Preference
from kollm.dataset.folder import PREFERENCES, DatasetWriter, Part, read_manifest
from kollm.dataset.pairs.dataset import given_pairs
from kollm.dataset.pairs.make import make_pairs
from kollm.dataset.pairs.settings import PairSettings
from kollm.dataset.preferences import preference_table, read_preferences
from kollm.sources.own import OwnOptions


def test_datasets_of_pairs_are_put_together_whole(tmp_path: Path) -> None:
    tools = '[{"type": "function", "function": {"name": "f"}}]'
    said = PairProvenance(task="t", judge="j", chosen_score=5.0, rejected_score=2.0, margin=3.0, origin="verdicts")
    turns = (("앞 질문", "앞 대답"),)
    one = Preference("k-1", "k", "물음", "글", "답", "모름", history=turns, system="도우미", tools=tools, provenance=said, licence="mit")  # fmt: skip
    two = Preference("k-1", "k", "다른 물음", "", "답", "모름")
    test = Preference("k-2", "k", "시험", "", "답", "모름")
    for name, pairs in {"a": [one], "b": [two, one]}.items():
        with DatasetWriter(tmp_path / name) as writer:
            writer.write(Part(PREFERENCES, "train"), preference_table(pairs))
            writer.write(Part(PREFERENCES, "test"), preference_table([test]))
            writer.publish({"sources": [{"name": name, "from": "x", "revision": "", "rows": 2}]}, "card")
    report = make_pairs(
        [tmp_path / "a", tmp_path / "b"], tmp_path / "c", PairSettings(own=OwnOptions(licence="cc0-1.0"), against=())
    )
    assert report.left_out == {"duplicate": 1}
    assert list(read_preferences(tmp_path / "c")) == [one, replace(two, id="k-1-f2", licence="cc0-1.0")]
    assert [source["name"] for source in read_manifest(tmp_path / "c")["sources"]] == ["a", "b"]
    assert make_pairs([tmp_path / "a"], tmp_path / "d", PairSettings(limit=1, against=())).rows == {"train": 1}


def test_pairs_of_ones_own_become_a_dataset_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"prompt": "안녕?", "chosen": "안녕하세요", "rejected": "뭐"}\n', encoding="utf-8")
    folder = given_pairs(pairs, tmp_path / "work")
    assert [pair.chosen for pair in read_preferences(folder)] == ["안녕하세요"]
    assert given_pairs(pairs, tmp_path / "work") == folder == given_pairs(folder, tmp_path / "work")
    assert "1 pair, as read before" in capsys.readouterr().err
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"instruction": "안녕?", "output": "네"}\n', encoding="utf-8")
    with pytest.raises(
        InputError, match="are Alpaca, not pairs - give rows with a prompt, a chosen and a rejected answer"
    ):
        given_pairs(rows, tmp_path / "work")
