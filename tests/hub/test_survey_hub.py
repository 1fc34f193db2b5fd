"""A huge set on the Hub: a sample over its files is read, from as many files as needed, and nothing is downloaded whole."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import CommitOperationAdd, HfApi

from tests.hub.conftest import Client
from tests.servers.hub import LoopbackHub

FILES = 8
ROWS = 300
READ = """
import json
from kollm.sources import read_source
rows = list(read_source("flan", "maker/flan", revision="main", limit={limit}, seed={seed}))
print(json.dumps([[row.id, row.instruction, row.provenance.revision, row.licence] for row in rows]))
"""


def shard(number: int) -> bytes:
    table = pa.table(
        {
            "inputs": [f"Question {number}-{row}?" for row in range(ROWS)],
            "targets": [f"Answer {row}" for row in range(ROWS)],
            "_task_name": [f"task{number}"] * ROWS,
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def test_a_sample_is_read_over_the_files_at_one_commit(hub: LoopbackHub, client: Client) -> None:
    api = HfApi()
    api.create_repo("maker/flan", repo_type="dataset")
    operations = [CommitOperationAdd(f"default/train/{number:04}.parquet", shard(number)) for number in range(FILES)]
    operations.append(CommitOperationAdd("other/train/0000.parquet", shard(99)))
    commit = api.create_commit("maker/flan", operations, commit_message="data", repo_type="dataset").oid

    rows = json.loads(client(READ.format(limit=24, seed=3)))
    assert len(rows) == 24 and {row[2] for row in rows} == {commit} and {row[3] for row in rows} == {"CC-BY-4.0"}
    shards = [row[0].removeprefix("flan-").rsplit("-", 1) for row in rows]
    assert {name: [s[0] for s in shards].count(name) for name in {s[0] for s in shards}} == {
        f"default/train/{number:04}": 3 for number in range(FILES)
    }
    for row, (name, number) in zip(rows, shards, strict=True):
        assert row[1] == f"Question {int(name[-4:])}-{number}?"
    assert json.loads(client(READ.format(limit=24, seed=3))) == rows
    assert len(json.loads(client(READ.format(limit=2, seed=3)))) == 2
