"""What SECURITY.md promises of publishing: no key leaves, wherever it stands, and nothing from outside the folder."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kollm.core.errors import InputError
from kollm.hub.key_forms import EXAMPLES
from kollm.hub.publication import KINDS, gather
from kollm.hub.secrets import OVERLAP, PIECE, Finding, Search, environment_secrets, find_secrets
from tests.security.key_strings import KEYS, LETTERS, Labelled, labelled

TOKEN = "hf_" + "".join(random.Random(5).choices(LETTERS, k=34))
KIND = "Hugging Face token"


@pytest.mark.parametrize("seed", [0, 1])
def test_the_labelled_set(seed: int) -> None:
    rows = labelled(seed)
    kinds = Search({}).kinds_of([row.text for row in rows])
    missed: list[Labelled] = [row for row, found in zip(rows, kinds, strict=True) if row.is_key and not found]
    alarms = [(row, found) for row, found in zip(rows, kinds, strict=True) if found and not row.is_key]
    assert len(rows) == 400 and sum(row.is_key for row in rows) == 200
    assert len(missed) <= 1, missed  # a secret of ten characters may look like a word
    assert not alarms


def test_every_kind_is_found_between_hangul() -> None:
    lot = random.Random(9)
    texts = [f"토큰은{make(lot)}입니다" for make in KEYS.values()]
    found = Search({}).kinds_of(texts)
    missed = [kind for kind, kinds in zip(KEYS, found, strict=True) if not kinds and kind != "Naver, client secret"]
    assert not missed


def test_examples_are_exact_ones_only() -> None:
    for example in EXAMPLES:
        assert not Search({}).kinds(f"aws_secret_access_key = {example}"), example
    assert Search({}).kinds("AKIAIOSFODNN7EXAMPLF")
    assert Search({}).kinds("AKIA" + "YOUR" + "7QXZKEYT2M9D")


def test_a_key_with_a_stand_in_glued_to_it_is_a_key() -> None:
    lot = random.Random(4)
    drawn = {kind: make for kind, make in KEYS.items() if kind != "Naver, client secret" and " " not in make(lot)}
    for glue in ("x" * 40, "X" * 40, "0" * 24):
        for kind, make in drawn.items():
            key = make(lot)
            if key[-1] not in "\"'\n-}" and "=" not in key:
                assert Search({}).kinds(f"{key}{glue}"), (kind, glue)
        assert Search({}).kinds(f"{glue}{TOKEN}") == Search({}).kinds(f"{glue}{TOKEN}{glue}") == {KIND}
        assert not Search({}).kinds(f"hf_{glue}") and not Search({}).kinds(f"hf_your_token{glue}")


def as_table(column: pa.Array, kind: str = "text") -> pa.Table:
    return pa.table({"id": ["a", "b", "c"], kind: column})


STRUCT = pa.struct([("turns", pa.list_(pa.struct([("user", pa.string()), ("raw", pa.large_binary())])))])
COLUMNS: dict[str, pa.Array] = {
    "string": pa.array(["", f"값\n{TOKEN}입니다", None]),
    "large string": pa.array(["", TOKEN, None], pa.large_string()),
    "list": pa.array([["x"], ["y", f"z\t{TOKEN}"], None]),
    "large list": pa.array([["x"], ["y", TOKEN], None], pa.large_list(pa.string())),
    "fixed list": pa.array([["x", "y"], ["y", TOKEN], None], pa.list_(pa.string(), 2)),
    "list of lists": pa.array([[["x"]], [[], ["y"], [TOKEN]], None]),
    "map, value": pa.array([[("k", "v")], [("k", "v"), ("l", TOKEN)], None], pa.map_(pa.string(), pa.string())),
    "map, key": pa.array([[("k", "v")], [(TOKEN, "v")], None], pa.map_(pa.string(), pa.string())),
    "struct": pa.array(
        [None, {"turns": [{"user": "x", "raw": None}, {"user": "y", "raw": TOKEN.encode()}]}, None], STRUCT
    ),
    "binary": pa.array([b"", b"\xff\xfe" + TOKEN.encode(), None]),
    "UTF-16": pa.array([b"", f"토큰은{TOKEN}이고".encode("utf-16"), None]),
    "UTF-16, other order": pa.array([b"", f"토큰은{TOKEN}이고".encode("utf-16-be"), None]),
    "CP949": pa.array([b"", f"토큰은{TOKEN}이고".encode("cp949"), None]),
    "fixed binary": pa.array([b"x" * 40, TOKEN.encode().ljust(40), None], pa.binary(40)),
    "dictionary": pa.array(["x", TOKEN, "x"]).dictionary_encode(),
    "JSON in a cell": pa.array(["", json.dumps({"a": f"\n{TOKEN}"}), None]),
    "JSON in JSON": pa.array(["", json.dumps({"a": json.dumps(f"가\t{TOKEN}나")}), None]),
    "escaped letters": pa.array(["", TOKEN.replace("h", "\\u0068", 1), None]),
    "in an address": pa.array(["", f"https://host/?t%3D{TOKEN}", None]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_every_column_is_searched_and_the_row_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    table = as_table(COLUMNS[name])
    pq.write_table(pa.concat_tables([table.slice(0, 1)] * 3 + [table]), path)
    assert list(find_secrets({"d/x.parquet": path}, {})) == [Finding("d/x.parquet, row b", KIND)]
    assert list(find_secrets({"d/x.parquet": path.read_bytes()}, {})) == [Finding("d/x.parquet, row b", KIND)]


def test_what_stands_beside_the_rows_is_searched(tmp_path: Path) -> None:
    tables = {
        "metadata": as_table(pa.array(["a", "b", "c"])).replace_schema_metadata({"note": f"키는 {TOKEN}"}),
        "field": pa.table([pa.array(["a"])], pa.schema([pa.field("x", pa.string(), metadata={TOKEN: "1"})])),
        "column": as_table(pa.array(["a", "b", "c"]), TOKEN),
    }
    for name, table in tables.items():
        pq.write_table(table, tmp_path / f"{name}.parquet")
        found = list(find_secrets({"x.parquet": tmp_path / f"{name}.parquet"}, {}))
        assert found == [Finding("x.parquet, metadata", KIND)], name
    pq.write_table(as_table(pa.array(["a", "b", "c"])), tmp_path / "plain.parquet")
    assert len(list(find_secrets({f"{TOKEN}.parquet": tmp_path / "plain.parquet"}, {}))) == 1


def test_files_of_each_encoding_are_searched_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    for before in (0, PIECE - 20, PIECE + OVERLAP - 3):
        for encoding in ("utf-8", "utf-16", "cp949"):
            text = ("가나 " * before)[:before] + f"토큰은{TOKEN}이고"
            path.write_bytes(text.encode(encoding))
            assert list(find_secrets({"x.txt": path}, {})) == [Finding("x.txt", KIND)], (before, encoding)
    files = {"a.txt": b"x" * PIECE, f"{TOKEN}.txt": b"", "b.txt": b"", "c.txt": TOKEN.encode(), "d.txt": b"y"}
    assert list(find_secrets(files, {})) == [Finding(f"{TOKEN}.txt", KIND), Finding("c.txt", KIND)]


def test_what_is_no_parquet_is_said(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    for content in (b"", b"PAR1", b"PAR1" + b"\xff" * 40 + b"PAR1"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as parquet"):
            list(find_secrets({"x.parquet": path}, {}))


def test_this_environments_own_secrets_are_found_in_every_form() -> None:
    hidden = environment_secrets(
        {
            "MY_PASSWD": 'a"b\\c-of-mine',
            "PROXY": "http://me:hunter2hunter2@proxy",
            "HOME": "/home/me",
            "API_KEY_ID": "0123456789ab",
        }
    )
    assert hidden == {
        "value of MY_PASSWD": 'a"b\\c-of-mine',
        "value of API_KEY_ID": "0123456789ab",
        "password in PROXY": "hunter2hunter2",
    }
    text = json.dumps({"x": 'a"b\\c-of-mine'})
    assert [finding.kind for finding in find_secrets({"r.json": text.encode()}, hidden)] == ["value of MY_PASSWD"]


def test_a_link_is_never_published(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    secret = tmp_path / "outside.json"
    secret.write_text("{}")
    for target in (secret, tmp_path, folder / "adapter_config.json", tmp_path / "nothing"):
        link = folder / "link.json"
        link.symlink_to(target)
        with pytest.raises(InputError, match="is a link, and nothing outside the folder is published"):
            gather(KINDS["adapter"], folder, "maker/x")
        link.unlink()
    assert list(gather(KINDS["adapter"], folder, "maker/x").files) == ["adapter_config.json"]


@pytest.mark.parametrize("name", ["a\nb.json", "\x1b[2J.json", "\u202egnp.json"])
def test_a_name_that_would_write_on_the_terminal_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match="a name that cannot be shown") as error:
        gather(KINDS["adapter"], tmp_path, "maker/x")
    assert str(error.value).isprintable()
