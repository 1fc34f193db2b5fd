"""Sources from a Hub: streamed at a pinned revision, known by its commit."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi

from kollm.core.errors import InputError
from kollm.core.records import Record
from kollm.sources import read_source
from tests.servers.hub import LoopbackHub

ROW = {"instruction": "Name a colour.", "context": "", "response": "Green, like grass.", "category": "open_qa"}


def _publish(name: str, files: dict[str, bytes]) -> str:
    api = HfApi()
    api.create_repo(name, repo_type="dataset", exist_ok=True)
    commit = ""
    for path, content in files.items():
        commit = api.upload_file(path_or_fileobj=content, path_in_repo=path, repo_id=name, repo_type="dataset").oid
    return str(commit)


def _lines(*rows: dict[str, Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _parquet(*rows: dict[str, Any]) -> bytes:
    buffer = BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), buffer)
    return buffer.getvalue()


def _records(name: str, repository: str, **options: Any) -> list[Record]:
    return [item for item in read_source(name, repository, **options) if isinstance(item, Record)]


def test_lines_are_streamed_and_known_by_their_commit(hub: LoopbackHub) -> None:
    commit = _publish("lab/dolly", {"databricks-dolly-15k.jsonl": _lines(ROW, ROW)})
    records = _records("dolly", "lab/dolly")
    assert [record.id for record in records] == ["dolly-0", "dolly-1"]
    assert {record.provenance.revision for record in records} == {commit}


def test_an_older_revision_stays_readable(hub: LoopbackHub) -> None:
    first = _publish("lab/dolly", {"databricks-dolly-15k.jsonl": _lines(ROW)})
    _publish("lab/dolly", {"databricks-dolly-15k.jsonl": _lines(ROW, ROW, ROW)})
    assert len(_records("dolly", "lab/dolly")) == 3
    assert len(_records("dolly", "lab/dolly", revision=first)) == 1
    assert len(_records("dolly", f"lab/dolly@{first}")) == 1
    HfApi().create_tag("lab/dolly", tag="v1", revision=first, repo_type="dataset")
    assert len(_records("dolly", "lab/dolly@v1")) == len(_records("dolly", "lab/dolly@v1", revision="v1")) == 1
    with pytest.raises(InputError, match="names the revision 'v1', and --revision says 'v2' - give one"):
        _records("dolly", "lab/dolly@v1", revision="v2")
    with pytest.raises(InputError, match="names no revision after '@'"):
        _records("dolly", "lab/dolly@")


def test_shards_are_read_in_the_order_of_their_names(hub: LoopbackHub) -> None:
    rows = [{"instruction": f"Say {number}.", "input": "", "output": "Yes, of course."} for number in range(3)]
    _publish("lab/alpaca", {"data/train-1.parquet": _parquet(rows[2]), "data/train-0.parquet": _parquet(*rows[:2])})
    records = _records("alpaca", "lab/alpaca")
    assert [(r.id, r.instruction) for r in records] == [(f"alpaca-{n}", f"Say {n}.") for n in range(3)]
    assert len(_records("alpaca", "lab/alpaca", limit=1)) == 1


def test_a_json_list_is_streamed(hub: LoopbackHub) -> None:
    talk = {"id": "x", "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}
    _publish("lab/talk", {"ShareGPT_V3_unfiltered_cleaned_split.json": json.dumps([talk]).encode()})
    assert [record.id for record in _records("sharegpt", "lab/talk")] == ["sharegpt-x"]


def test_what_is_not_there_is_one_sentence(hub: LoopbackHub) -> None:
    _publish("lab/dolly", {"other.txt": b"x"})
    with pytest.raises(InputError, match="has no files"):
        _records("dolly", "lab/dolly")
    with pytest.raises(InputError, match="There is no dataset 'lab/nothing'"):
        _records("dolly", "lab/nothing")
    with pytest.raises(InputError, match="no revision 'v9'"):
        _records("dolly", "lab/dolly", revision="v9")


def test_a_malformed_line_on_the_hub_is_named(hub: LoopbackHub) -> None:
    _publish("lab/dolly", {"databricks-dolly-15k.jsonl": _lines(ROW) + b"{"})
    with pytest.raises(InputError, match=r"databricks-dolly-15k\.jsonl, line 2: not valid JSON"):
        _records("dolly", "lab/dolly")
