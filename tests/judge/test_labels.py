"""Labels of people: what a file of them holds is normalised as what they label is."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

from kollm.judge.labels import read_labels


def test_ids_and_systems_of_lines_are_normalised_as_those_of_tables(tmp_path: Path) -> None:
    row = {"id": unicodedata.normalize("NFD", "과제-1"), "system": "\ufeff어댑터", "scores": {"overall": 4}}
    lines = tmp_path / "labels.jsonl"
    lines.write_text(json.dumps(row) + "\n", encoding="utf-8")
    table = tmp_path / "labels.csv"
    table.write_text(f"id,system,overall\n{row['id']},어댑터,4\n", encoding="utf-8")
    assert read_labels(lines).scores == read_labels(table).scores == {"overall": {("과제-1", "어댑터", 0): 4.0}}
