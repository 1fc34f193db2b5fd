"""Shards: cut by the input alone, the same rows whoever reads them, and builds that go on at the shard where they ended."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kollm.core.counting import counted
from kollm.core.errors import InputError, QuotaError
from kollm.dataset import build as build_module
from kollm.dataset import shards as shards_module
from kollm.dataset.executors import Stage
from kollm.dataset.executors.local import LocalExecutor
from kollm.dataset.pipeline import build_dataset
from kollm.dataset.settings import SourceInput
from kollm.dataset.shards import Shard, copy_shards, cut_file, load_shards, read_shard, save_shards
from kollm.dataset.work import work_place
from kollm.services.ledger import Ledger
from kollm.sources.rows import Batch, Lines, local_batches, row_batches
from tests.servers.deepl import KEY, DeepLServer


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of seven rows and buckets of ten: a small input has many of both."""
    monkeypatch.setattr(shards_module, "SHARD_ROWS", 7)
    monkeypatch.setattr(build_module, "BUCKET_ROWS", 10)


def _rows(shards: list[Shard], limit: int | None = None) -> list[tuple[int, Any]]:
    batches = (batch for shard in shards for batch in read_shard(shard, limit))
    return [(batch.first + number, row) for batch in batches for number, row in enumerate(batch.rows())]


def _lines(path: Path, texts: list[str], end: str = "\n") -> Path:
    path.write_bytes(("\n".join(texts) + end).encode())
    return path


@pytest.mark.parametrize("end", ["\n", ""])
@pytest.mark.parametrize("limit", [None, 3, 7, 10])
def test_lines_are_cut_where_they_end(tmp_path: Path, end: str, limit: int | None) -> None:
    path = _lines(tmp_path / "rows.jsonl", [json.dumps({"n": number}) for number in range(20)], end)
    shards = cut_file(0, path, limit)
    assert shards is not None and [shard.first for shard in shards] == [0, 7, 14][: len(shards)]
    assert len(shards) == (3 if limit is None else -(-limit // 7))
    assert _rows(shards, limit) == [(number, {"n": number}) for number in range(limit or 20)]


def test_blank_lines_count_as_they_did_in_one_stream(tmp_path: Path) -> None:
    path = _lines(tmp_path / "rows.jsonl", ['{"n": 0}', "", "  ", *['{"n": 1}'] * 10, "", '{"n": 2}'])
    shards = cut_file(0, path)
    assert shards is not None
    assert [row for _, row in _rows(shards)] == [row for batch in local_batches(path) for row in batch.rows()]
    assert [shard.first for shard in shards] == [0, 7, 14]


def test_a_shard_ends_at_so_many_bytes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, "SHARD_BYTES", 30)
    path = _lines(tmp_path / "rows.jsonl", ['"0123456789"'] * 6)
    shards = cut_file(0, path)
    assert shards is not None and [shard.rows for shard in shards] == [3, 3]


def test_a_malformed_line_keeps_its_number(tmp_path: Path) -> None:
    path = _lines(tmp_path / "rows.jsonl", ["{}"] * 16 + ['{"x'])
    shards = cut_file(0, path)
    assert shards is not None
    with pytest.raises(InputError, match=r"rows\.jsonl, line 17: not valid JSON"):
        _rows(shards)


@pytest.mark.parametrize("group", [3, 7, 50])
def test_row_ranges_of_parquet(tmp_path: Path, group: int) -> None:
    pq.write_table(pa.table({"n": list(range(20))}), tmp_path / "rows.parquet", row_group_size=group)
    shards = cut_file(0, tmp_path / "rows.parquet")
    assert shards is not None and [(shard.start, shard.end) for shard in shards] == [(0, 7), (7, 14), (14, 20)]
    assert _rows(shards) == [(number, {"n": number}) for number in range(20)]


def test_streams_are_copied_as_they_are(tmp_path: Path) -> None:
    odd = [{"text": "\ud800 ㅎ", "number": float("inf"), "whole": 10**30, "list": [None, True]}] * 9
    lines = Batch(9, Lines("hub.jsonl", [1, 2, 4], [b'{"a": 1}', b'{"a": 2}', b'{"a": 4}']))
    broken = Batch(20, Lines("hub.jsonl", [5], [b'{"a']))
    table = pa.table({"b": [b"\xff", None], "t": pa.array([0, 1], pa.timestamp("s"))})
    arrow = Batch(13, table.to_batches()[0])
    stream: list[Batch] = [*row_batches(odd[:5]), *row_batches(odd[5:], 5), lines, arrow, broken]
    shards = list(copy_shards(3, iter(stream), tmp_path / "read"))
    save_shards(shards, tmp_path / "shards.json")
    assert load_shards(tmp_path / "shards.json") == shards
    assert [(shard.source, shard.form, shard.first) for shard in shards] == [
        (3, "values", 0), (3, "values", 5), (3, "lines", 9), (3, "arrow", 13), (3, "lines", 20),
    ]  # fmt: skip
    wanted = [row for batch in stream[:-1] for row in batch.rows()]
    assert [row for _, row in _rows(shards[:-1])] == wanted
    with pytest.raises(InputError, match=r"hub\.jsonl, line 5: not valid JSON"):
        _rows(shards[-1:])


# --- builds of many shards --------------------------------------------------------------------------------------------


def _input(tmp_path: Path, count: int = 40) -> Path:
    """Rows in which texts and ids repeat across shards, and some cannot be used."""
    generator = random.Random(7)
    words = ["".join(generator.choices("abcdefghiklmnoprstuvw", k=6)) for _ in range(500)]
    texts = [" ".join(generator.choices(words, k=40)) for _ in range(count)]
    rows = [
        {
            "id": f"row{number % 25}" if number % 3 else f"row1-r{number}",
            "instruction": f"Read this aloud, please: {texts[number % 30][:40]}" if number % 11 else "",
            "input": "",
            "output": texts[number % 30] + (" indeed" if number % 2 and number >= 30 else ""),
        }
        for number in range(count)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _build(path: Path, output: Path, **more: Any) -> dict[str, bytes]:
    options = {"translator": "none", "filters": "none", "processes": 0, **more}
    build_dataset([SourceInput("gpt4_llm", path)], output=output, **options)
    assert [item.name for item in output.parent.iterdir() if item.name.startswith(".")] == []
    return _files(output)


def _table(folder: Path, part: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(folder / part).to_pylist()
    return sorted(rows, key=lambda row: (row["provenance"]["index"], row["id"]))


def test_where_the_input_is_cut_changes_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _input(tmp_path)
    _build(path, tmp_path / "many")
    monkeypatch.setattr(shards_module, "SHARD_ROWS", 1000)
    monkeypatch.setattr(build_module, "BUCKET_ROWS", 1000)
    _build(path, tmp_path / "one")
    for part in ("gpt4-llm", "rejected"):
        assert _table(tmp_path / "many", part) == _table(tmp_path / "one", part)
    reasons = {row["reason"].partition(":")[0] for row in _table(tmp_path / "one", "rejected")}
    assert reasons == {"duplicate_exact", "duplicate_near", "empty_instruction"}


def test_workers_and_the_order_of_tasks_change_no_byte(tmp_path: Path) -> None:
    path = _input(tmp_path)

    class Backwards(LocalExecutor):
        def run(self, stage: Stage) -> None:
            for task in reversed(range(stage.tasks)):
                stage.work(task)

    alone = _build(path, tmp_path / "alone")
    assert _build(path, tmp_path / "two", processes=2) == alone
    assert _build(path, tmp_path / "backwards", executor=Backwards()) == alone


class Cut(LocalExecutor):
    """Ends a build as Ctrl-C does after so many tasks."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._left = after

    def run(self, stage: Stage) -> None:
        super().run(replace(stage, work=lambda task: self._work(stage, task)))

    def _work(self, stage: Stage, task: int) -> int | None:
        if not self._left:
            raise KeyboardInterrupt
        self._left -= 1
        return stage.work(task)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a build of `_input` that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards_module, "SHARD_ROWS", 7)
        patch.setattr(build_module, "BUCKET_ROWS", 10)
        return _build(_input(folder), folder / "whole")


@pytest.mark.parametrize("after", [0, 1, 5, 9, 13, 17, 22])
def test_a_build_goes_on_where_it_was_cut_off(
    tmp_path: Path, whole: dict[str, bytes], capsys: pytest.CaptureFixture[str], after: int
) -> None:
    path = _input(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        _build(path, tmp_path / "cut", executor=Cut(after))
    capsys.readouterr()
    assert _build(path, tmp_path / "cut") == whole
    said = capsys.readouterr().err
    assert (f"Going on where a build was cut off: {counted(after, 'task is', 'tasks are')} done already." in said) == (
        after > 0
    )


def test_another_order_begins_from_the_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _input(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        _build(path, tmp_path / "out", executor=Cut(8))
    changed = _build(path, tmp_path / "out", near=0.5)
    assert changed == _build(path, tmp_path / "fresh", near=0.5)
    assert "Going on" not in capsys.readouterr().err


def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    path = _input(tmp_path)
    place = work_place(tmp_path / "out")
    place.mkdir()
    (place / "mine.txt").write_text("keep me", encoding="utf-8")
    with pytest.raises(InputError, match=r"\.out\.shards' is in use, it holds mine\.txt"):
        build_dataset([SourceInput("gpt4_llm", path)], translator="none", output=tmp_path / "out")
    assert (place / "mine.txt").read_text(encoding="utf-8") == "keep me"


KILLED = """
import os, signal, sys
from pathlib import Path
from kollm.dataset import build, shards, tasks
from kollm.dataset.pipeline import SourceInput, build_dataset

shards.SHARD_ROWS, build.BUCKET_ROWS = 7, 10
write = tasks.write_summary

def kill_at(build, kind, number, summary):
    write(build, kind, number, summary)
    if [kind, str(number)] == sys.argv[3:]:
        os.kill(os.getpid(), signal.SIGKILL)

tasks.write_summary = kill_at
how = {"translator": "none", "filters": "none"} if "KOLLM_LEDGER" not in os.environ else {"translator": "deepl", "mode": "field", "near": 1.1}
build_dataset([SourceInput("gpt4_llm", sys.argv[1])], output=sys.argv[2], processes=0, **how)
"""


@pytest.mark.parametrize("place", [("prepared", "3"), ("finished", "2")])
def test_a_killed_build_gives_the_same_bytes(tmp_path: Path, whole: dict[str, bytes], place: tuple[str, str]) -> None:
    path = _input(tmp_path)
    _kill(path, tmp_path / "out", place)
    assert _build(path, tmp_path / "out") == whole


def _kill(path: Path, output: Path, place: tuple[str, str], **environment: str) -> None:
    """Begin a build that is killed once that summary is written."""
    command = [sys.executable, "-c", KILLED, str(path), str(output), *place]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, **environment}
    killed = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr


@pytest.fixture
def deepl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[DeepLServer, Ledger]]:
    with DeepLServer() as server, Ledger.open(tmp_path / "ledger.sqlite3") as ledger:
        monkeypatch.setenv("DEEPL_AUTH_KEY", KEY)
        monkeypatch.setenv("DEEPL_SERVER_URL", server.url)
        yield server, ledger


def test_what_was_bought_before_a_cap_is_kept(tmp_path: Path, deepl: tuple[DeepLServer, Ledger]) -> None:
    path, (server, ledger) = _input(tmp_path, 60), deepl
    paid = {"translator": "deepl", "ledger": ledger}
    with pytest.raises(QuotaError, match=r"cap of 1,?500 characters"):
        _build(path, tmp_path / "out", max_characters=1500, **paid)
    before = len(server.state.requests)
    went_on = _build(path, tmp_path / "out", **paid)
    asked = len(server.state.requests)
    assert asked > before > 0
    assert _build(path, tmp_path / "again", **paid) == went_on
    assert len(server.state.requests) == asked


def _shared_texts(folder: Path) -> Path:
    rows = [
        {"instruction": f"Say it in a few words, number {number % 4}.", "input": "", "output": f"It is {number}."}
        for number in range(30)
    ]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_what_was_bought_is_put_in_by_workers(tmp_path: Path, deepl: tuple[DeepLServer, Ledger]) -> None:
    """Whoever translates a shard, and however the input is cut, a text is billed once, to the first row that needs it."""
    server, ledger = deepl
    fields = {"translator": "deepl", "ledger": ledger, "mode": "field", "near": 1.1}
    path = _shared_texts(tmp_path)
    bought = _build(path, tmp_path / "bought", **fields)
    asked = len(server.state.requests)
    with ledger.transaction():
        ledger._connection.execute("DELETE FROM rows")  # the finished rows, so that the purchases alone are left
    assert _build(path, tmp_path / "again", processes=2, **fields) == bought
    assert len(server.state.requests) == asked
    records = pq.read_table(tmp_path / "bought" / "gpt4-llm").to_pylist()
    billed = [row["provenance"]["characters"] for row in records]
    assert sum(billed) == sum(length for (length,) in ledger._connection.execute("SELECT characters FROM purchases"))
    assert billed[0] > billed[4] > 0  # the fifth row shares its instruction with the first


AT_NIGHT = pytest.mark.nightly(
    "tests/dataset/test_shards.py::test_a_killed_rebuild_from_purchases_bills_each_text_once"
)


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(("recalled", "1"), marks=AT_NIGHT),
        ("elsewhere", "2"),
        pytest.param(("finished", "3"), marks=AT_NIGHT),
    ],
)
def test_a_killed_rebuild_from_purchases_bills_each_text_once(
    tmp_path: Path, deepl: tuple[DeepLServer, Ledger], place: tuple[str, str]
) -> None:
    server, ledger = deepl
    fields = {"translator": "deepl", "ledger": ledger, "mode": "field", "near": 1.1}
    path = _shared_texts(tmp_path)
    bought = _build(path, tmp_path / "bought", **fields)
    asked = len(server.state.requests)
    ledger.forget_rows("")
    _kill(path, tmp_path / "out", place, KOLLM_LEDGER=str(ledger.path))
    assert _build(path, tmp_path / "out", **fields) == bought
    assert len(server.state.requests) == asked


def test_a_cap_counts_what_earlier_builds_bought(tmp_path: Path, deepl: tuple[DeepLServer, Ledger]) -> None:
    path, (server, ledger) = _input(tmp_path, 60), deepl
    paid = {"translator": "deepl", "ledger": ledger}
    for _ in range(2):  # the second goes on with shards that are translated
        with pytest.raises(
            QuotaError, match=r"cap of 5,?000 characters: with the next request it would be [5-9],?\d{3}"
        ):
            _build(path, tmp_path / "out", max_characters=5000, **paid)
        asked = len(server.state.requests)
    with pytest.raises(QuotaError):
        _build(path, tmp_path / "out", max_characters=5000, **paid)
    assert len(server.state.requests) == asked
