from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kollm.core.errors import InputError
from kollm.core.files import JsonlAppender, ensure_folder, read_json, read_jsonl, write_atomic, write_json


def test_a_malformed_line_is_named_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n\n{"a": \n')
    rows = read_jsonl(path)
    assert next(rows) == {"a": 1}
    with pytest.raises(InputError, match=r"rows\.jsonl, line 3: not valid JSON"):
        next(rows)


@pytest.mark.parametrize(("content", "message"), [(b"[1]\n", "a list, not an object"), (b"\xff\n", "not UTF-8")])
def test_a_line_that_is_no_object_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"line 1: .*{message}"):
        list(read_jsonl(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        list(read_jsonl(tmp_path / "none.jsonl"))


@pytest.mark.parametrize("torn", [b'{"a": 2', b'{"a": "\xed\x95', b"x" * 200_000])
def test_appending_drops_a_torn_line(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n' + torn)
    with JsonlAppender(path) as appender:
        appender.append({"a": "한국어"})
    assert [row["a"] for row in read_jsonl(path)] == [1, "한국어"]


def test_appending_drops_a_torn_first_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a"')
    JsonlAppender(path).close()
    assert path.read_bytes() == b""


def test_appending_nothing_leaves_no_file(tmp_path: Path) -> None:
    JsonlAppender(tmp_path / "rows.jsonl").close()
    assert not list(tmp_path.iterdir())


def test_a_lone_surrogate_survives_a_jsonl_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with JsonlAppender(path) as appender:
        appender.append({"a": "\ud800 한국어"})
    assert next(read_jsonl(path)) == {"a": "\ud800 한국어"}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_json(path, {"a": 1})
    with pytest.raises(InputError, match="NaN or infinity"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_a_lone_surrogate_is_written_as_far_as_it_can_be(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"가": "\ud800"})
    assert read_json(tmp_path / "a.json") == {"가": "\ud800"}
    write_atomic(tmp_path / "a.txt", "가\ud800")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "가\ufffd"


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        ensure_folder(tmp_path / "file" / "below")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_file_has_the_mode_that_the_umask_gives(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_atomic(tmp_path / "a.txt", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode
