"""A dataset folder: whole or absent, the same bytes for the same rows, readable in every way that is promised."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kollm.core.errors import InputError
from kollm.core.licences import common_licence
from kollm.core.records import Original, Provenance, Record
from kollm.dataset import folder as dataset_module
from kollm.dataset.card import CardPart, render_card
from kollm.dataset.folder import DatasetWriter, Part, dataset_fingerprint, read_manifest, read_records
from kollm.dataset.tables import SCHEMA, to_records, to_table

TRAIN = Part("dolly", "train")
MANIFEST = {
    "kollm": "0",
    "translator": {"name": "memory", "terms": ""},
    "filters": "default",
    "mode": "row",
    "characters": 0,
    "leaks": [],
    "dropped": {},
    "mended": {},
    "settings": {"keep_english": False, "against": ["human_eval"]},
}


def record(number: int) -> Record:
    return Record(f"dolly-{number}", "dolly", f"질문 {number}", "", "답", provenance=Provenance(index=number))


def write(folder: Path, rows: int = 3) -> Path:
    with DatasetWriter(folder) as writer:
        writer.write(TRAIN, to_table([record(number) for number in range(rows)]))
        return writer.publish(MANIFEST, "card")


TEXT = st.text(max_size=10)
TURNS = st.lists(st.tuples(TEXT, TEXT), max_size=2).map(tuple)
RECORDS = st.builds(
    Record, TEXT, TEXT, TEXT, TEXT, TEXT, TURNS, TEXT, TEXT, TEXT,
    st.none() | st.builds(Original, TEXT, TEXT, TEXT, TURNS, TEXT),
    st.builds(Provenance, TEXT, st.integers(0, 2**40), TEXT, TEXT, TEXT, st.integers(0, 9), st.integers(0, 9), TEXT),
)  # fmt: skip


@settings(max_examples=50)
@given(st.lists(RECORDS, max_size=4))
def test_a_table_holds_records_as_they_are(records: list[Record]) -> None:
    try:
        "".join(str(item.to_row()) for item in records).encode("utf-8")
    except UnicodeEncodeError:
        return
    assert to_records(to_table(records)) == records
    assert to_table(records).to_pylist() == [item.to_row() for item in records]


def test_a_lone_surrogate_is_written_as_its_escape() -> None:
    (back,) = to_records(to_table([Record("x", "s", "a\ud800b", "", "c")]))
    assert back.instruction == "a\\ud800b"


def test_nothing_is_there_until_it_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with DatasetWriter(folder) as writer:
        writer.write(TRAIN, to_table([record(1)]))
        assert not folder.exists()
    assert list(tmp_path.iterdir()) == []
    write(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "dolly", "manifest.json"]


def test_what_a_killed_build_left_is_removed_by_the_next(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from kollm.dataset.folder import DatasetWriter\n"
        "with DatasetWriter(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "data")], check=False)
    assert len(list(tmp_path.glob(".data.*.partial"))) == 1
    with DatasetWriter(tmp_path / "data") as alive:
        write(tmp_path / "data")
        assert [path.name for path in tmp_path.glob(".*")] == [alive.work.name]


def test_shards_and_groups_do_not_depend_on_the_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_module, "SHARD_ROWS", 20)
    monkeypatch.setattr(dataset_module, "GROUP_ROWS", 10)
    records = [record(number) for number in range(47)]
    for name, size in (("one", 47), ("two", 7)):
        with DatasetWriter(tmp_path / name) as writer:
            for start in range(0, 47, size):
                writer.write(TRAIN, to_table(records[start : start + size]))
            writer.publish(MANIFEST, "card")
    assert read_manifest(tmp_path / "one") == read_manifest(tmp_path / "two")
    shards = sorted((tmp_path / "one" / "dolly").iterdir())
    assert [pq.read_metadata(path).num_rows for path in shards] == [20, 20, 7]
    assert list(read_records(tmp_path / "one")) == records


def test_an_empty_part_has_no_file(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "data") as writer:
        writer.write(TRAIN, SCHEMA.empty_table())
        writer.write(Part("sharegpt", "train"), to_table([record(1)]))
        writer.publish(MANIFEST, "card")
    assert list(read_manifest(tmp_path / "data")["files"]) == ["sharegpt/train-00000.parquet"]


def test_reading_by_config_and_split(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with DatasetWriter(folder) as writer:
        writer.write(TRAIN, to_table([record(1)]))
        writer.write(Part("human-eval", "test"), to_table([record(2)]))
        writer.write(Part("rejected", "train"), to_table([record(3)], ["why: so"]))
        writer.publish(MANIFEST, "card")
    assert [r.id for r in read_records(folder)] == ["dolly-1", "dolly-2"]
    assert [r.id for r in read_records(folder, split="train")] == ["dolly-1"]
    assert [r.id for r in read_records(folder, "all", "test")] == ["dolly-2"]
    assert [r.id for r in read_records(folder, "rejected")] == ["dolly-3"]
    with pytest.raises(InputError, match="has no rows of config 'alpaca'"):
        list(read_records(folder, "alpaca"))


def test_places_that_are_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no manifest\.json"):
        read_manifest(tmp_path)
    with pytest.raises(InputError, match="There is no folder"):
        list(read_records(tmp_path / "missing"))
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="is a file"):
        DatasetWriter(tmp_path / "file")


def test_a_file_without_a_column_or_cut_off_is_one_sentence(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "d") as writer:
        writer.write(Part("dolly", "train"), to_table([record(1)]))
        writer.publish({}, "card")
    [file] = (tmp_path / "d").rglob("*.parquet")
    pq.write_table(pq.read_table(file).drop_columns(["output", "lang"]), file)
    with pytest.raises(InputError, match=r"lacks the columns output, lang - build the dataset again"):
        list(read_records(tmp_path / "d"))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=r"cannot be read \(.*\) - build or download"):
        list(read_records(tmp_path / "d"))


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    first, same, other = write(tmp_path / "a"), write(tmp_path / "b"), write(tmp_path / "c", rows=4)
    assert dataset_fingerprint(first) == dataset_fingerprint(same) != dataset_fingerprint(other)


@pytest.mark.parametrize(
    ("licences", "common"),
    [
        (["Apache-2.0"], "apache-2.0"),
        (["Apache-2.0", "CC-BY-NC-4.0"], "cc-by-nc-4.0"),
        (["CC-BY-SA-3.0", "CC-BY-4.0"], "cc-by-sa-3.0"),
        (["CC-BY-SA-3.0", "CC-BY-NC-4.0"], "other"),
        (["CC-BY-NC-4.0", "LicenseRef-OpenAI-terms"], "other"),
        (["LicenseRef-OpenAI-terms"], "other"),
        (["CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "MIT"], "cc-by-nc-sa-4.0"),
        ([], "other"),
    ],
)
def test_the_card_is_never_freer_than_a_part(licences: list[str], common: str) -> None:
    assert common_licence(licences) == common


def test_the_card_lists_its_parts() -> None:
    parts = [
        CardPart("dolly", "train", 1200, "Dolly", "ORG/dolly", ("CC-BY-SA-3.0",), "Mind Wikipedia."),
        CardPart("gpt4-llm", "train", 3, "GPT-4-LLM", "ORG/gpt", ("CC-BY-NC-4.0",), ""),
        CardPart("human-eval", "test", 252, "Tasks", "ORG/tasks", ("Apache-2.0",), ""),
        CardPart("rejected", "train", 5, "left out", "", ("CC-BY-NC-4.0",), ""),
    ]
    card = render_card("Korean rows", parts, {**MANIFEST, "dropped": {"duplicate_exact": 5}})
    _, front, body = card.split("---\n", 2)
    values = yaml.safe_load(front)
    assert values["license"] == "other"
    assert [config["config_name"] for config in values["configs"]] == ["all", "dolly", "gpt4-llm", "human-eval", "rejected"]  # fmt: skip
    assert values["configs"][0] == {
        "config_name": "all",
        "default": True,
        "data_files": [
            {"split": "train", "path": ["dolly/train-*.parquet", "gpt4-llm/train-*.parquet"]},
            {"split": "test", "path": ["human-eval/test-*.parquet"]},
        ],
    }
    assert "Mind Wikipedia." in body
    assert "1,200" in body
    assert "| duplicate_exact | 5 |" in body
    assert "No kept training row holds one of the 252" in body
    other = render_card("Korean rows", parts, {**MANIFEST, "settings": {"keep_english": False, "against": []}})
    assert "were not compared with the 252" in other
