"""Raw rows of files: streamed, and malformed input named by file and line."""

from __future__ import annotations

import io
import json
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kollm.core.errors import InputError
from kollm.sources import rows as rows_module
from kollm.sources.rows import file_batches, first_rows, list_items, local_rows, row_batches

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def _rows(content: bytes, name: str = "rows.json") -> list[Any]:
    return [row for batch in file_batches(io.BytesIO(content), name) for row in batch.rows()]


@given(st.lists(JSON, max_size=6), st.sampled_from([None, 2]), st.sampled_from([1, 7, 64]))
def test_a_list_is_read_item_by_item_whatever_the_pieces(rows: list[Any], indent: int | None, piece: int) -> None:
    content = json.dumps(rows, indent=indent, ensure_ascii=False).encode("utf-8", "surrogatepass")
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return
    chunk = rows_module._CHUNK
    try:
        rows_module._CHUNK = piece
        assert _rows(content) == rows
    finally:
        rows_module._CHUNK = chunk


@given(st.lists(JSON, max_size=6), st.lists(JSON, max_size=3), st.sampled_from([None, 2]), st.sampled_from([1, 7, 64]))
def test_the_list_of_an_object_is_read_item_by_item_whatever_the_pieces(
    rows: list[Any], others: list[Any], indent: int | None, piece: int
) -> None:
    around = {f"other {number}": value for number, value in enumerate(others)}
    chunk = rows_module._CHUNK
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        for value in ({**around, "data": rows}, {"documents": rows, **around, "data": [1]}, rows):
            Path(file.name).write_text(json.dumps(value, indent=indent), encoding="utf-8")
            try:
                rows_module._CHUNK = piece
                assert list(list_items(Path(file.name), "data", "documents")) == rows
            finally:
                rows_module._CHUNK = chunk


def test_the_list_of_an_object_is_never_held_whole(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    item = json.dumps({"text": "한강이 도시를 가로지릅니다. " * 50}, ensure_ascii=False)
    path.write_text('{"version": 1, "data": [' + ", ".join([item] * 12_000) + "]}", encoding="utf-8")
    tracemalloc.start()
    assert sum(1 for _ in list_items(path, "data")) == 12_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < path.stat().st_size / 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"rows": []}', "has no list of rows, 'data' or 'documents' - name a file that has one"),
        ('{"data": {"a": 1}}', "has no list of rows"),
        ("3", "no list of rows"),
        ('{"data": [1, 2]', "the file ends inside of the object"),
        ('{"data": [1, 2', "the file ends inside of a row|the file ends inside of the list"),
        ('{"data"\n [1]}', "line 2: not valid JSON \\(no ':' after 'data'\\)"),
        ('{"data": [1],}', "a comma after the last"),
        ('{"data": [1] "a": 2}', "where ',' or '}' should be"),
    ],
)
def test_an_object_without_its_list_is_one_sentence(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        list(list_items(tmp_path / "x.json", "data", "documents"))


def test_a_byte_order_mark_is_no_content() -> None:
    assert _rows(b'\xef\xbb\xbf[{"a": 1}]') == [{"a": 1}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"a": 1},\n{"b": 2', r"rows\.json, line 2: not valid JSON \(the file ends inside of a row\)"),
        (b'[{"a": 1},\n{"b": "x', r"line 2: not valid JSON \(the file ends inside of a row\)"),
        (b'[{"a": 1}\n', r"line 2: not valid JSON \(the file ends inside of the list\)"),
        (b'[{"a": 1}\n{"b": 2}]', r"line 2: not valid JSON \('\{' where ',' or '\]' should be\)"),
        (
            b'[{"a": 1},\n\n{"b" 2, "c": "and so on and so forth"}]',
            r"line 3: not valid JSON \(Expecting ':' delimiter\)",
        ),
        (b'[{"a": 1},]', "a comma after the last row"),
        (b'{"data": []}', "no list of rows"),
        (b"", "no list of rows"),
        (b'[{"a": "\xff"}]', "not UTF-8"),
        (b"[" + b"[" * 200_000, "nested too deep"),
    ],
)
def test_malformed_json_is_one_sentence_with_its_line(content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _rows(content)


def test_malformed_lines_are_named_and_blank_ones_are_none() -> None:
    assert _rows(b'{"a": 1}\n\n  \n{"a": 2}\n', "rows.jsonl") == [{"a": 1}, {"a": 2}]
    with pytest.raises(InputError, match=r"rows\.jsonl, line 4: not valid JSON"):
        _rows(b'{"a": 1}\n\n{"a": 2}\n{"a": \n', "rows.jsonl")
    with pytest.raises(InputError, match=r"line 1: not UTF-8 at byte"):
        _rows(b'{"a": "\xff"}\n', "rows.jsonl")


def test_positions_go_on_over_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "BATCH_ROWS", 2)
    content = b"".join(b'{"a": %d}\n' % number + b"\n" * (number % 2) for number in range(5))
    batches = list(file_batches(io.BytesIO(content), "rows.jsonl"))
    numbered = [(batch.first + place, row["a"]) for batch in batches for place, row in enumerate(batch.rows())]
    assert numbered == [(number, number) for number in range(5)]
    assert [row["a"] for batch in first_rows(batches, 3) for row in batch.rows()] == [0, 1, 2]
    assert [len(batch) for batch in row_batches(range(5))] == [2, 2, 1]


def test_parquet_is_read_and_what_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"instruction": ["a", "b"], "number": [1, None]}), path)
    assert list(local_rows(path)) == [{"instruction": "a", "number": 1}, {"instruction": "b", "number": None}]
    path.write_bytes(b"PAR1 this is no parquet")
    with pytest.raises(InputError, match="cannot be read"):
        list(local_rows(path))


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        list(local_rows(tmp_path / "missing.jsonl"))
    (tmp_path / "rows.csv").write_text("a,b", encoding="utf-8")
    with pytest.raises(InputError, match=r"\.json, \.jsonl, \.parquet"):
        list(local_rows(tmp_path / "rows.csv"))
