from __future__ import annotations

import pytest

from kollm.core.records import Record
from kollm.dataset import leak_stage
from kollm.dataset.executors.local import LocalExecutor
from kollm.dataset.folder import read_records
from kollm.dataset.leak_check import find_leaks, load_references
from kollm.dataset.leak_stage import find_leaks_by
from kollm.dataset.pipeline import SourceInput, build_dataset
from kollm.sources import SAMPLE, read_source


@pytest.fixture(scope="module")
def tasks():
    return load_references([SAMPLE])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A dataset of the sample's evaluation tasks, as rows of one's own, and of Dolly's rows."""
    place = tmp_path_factory.mktemp("leaks")
    rows = [row for row in read_source("human_eval", SAMPLE) if isinstance(row, Record)]
    path = place / "rows.jsonl"
    path.write_text("".join(f'{{"instruction": {_json(row.instruction)}, "output": "x"}}\n' for row in rows))
    inputs = [SourceInput("own", path), SourceInput("dolly", SAMPLE)]
    options = {"filters": "none", "leaks": "keep", "near": 1.01, "privacy": "off"}
    return build_dataset(inputs, translator="none", output=place / "out", **options).folder


def _json(text):
    import json

    return json.dumps(text)


@pytest.mark.parametrize("whole", [True, False])
def test_pieces_give_what_the_whole_gives(folder, tasks, monkeypatch, whole):
    monkeypatch.setattr(leak_stage, "PIECE_ROWS", 20)
    monkeypatch.setattr(leak_stage, "_BATCH_ROWS", 10)
    expected = list(find_leaks(read_records(folder, split="train"), tasks))
    assert expected
    rows = folder if whole else read_records(folder, split="train")
    assert find_leaks_by(LocalExecutor(2), rows, tasks) == expected
