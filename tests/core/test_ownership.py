"""Nothing that kollm did not write is ever replaced or removed: one rule, held at each command that does either."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from kollm.cli import cli
from kollm.core.errors import InputError, KollmError
from kollm.core.lock import folder_lock
from kollm.core.ownership import (
    Replacement,
    foreign_files,
    is_sealed,
    list_files,
    own_files,
    remove_own,
    require_own,
    restore,
    write_sealed,
)
from kollm.dataset.folder import DatasetWriter, Part, read_records
from kollm.dataset.tables import to_table
from kollm.quality.review import write_review
from kollm.report import write_report
from kollm.run.clearing import clear, require_clearable
from kollm.train import checkpoints
from tests.report.fabricate import make_work_folder
from tests.train.conftest import row, write_dataset

NOTES = "somebody's\n"


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def kollm(*args: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli, [str(arg) for arg in args])
    error = result.exception
    return result.exit_code, str(error) if isinstance(error, KollmError) else result.output


# --- the rule ---------------------------------------------------------------------------------------------------------


def marked(folder: Path) -> Path:
    (folder / "part").mkdir(parents=True)
    (folder / "part" / "a.txt").write_text("a", encoding="utf-8")
    write_sealed(folder / "training.json", {"files": list_files(folder)})
    return folder


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.txt", NOTES),
        ("part/notes.txt", NOTES),
        ("deep/er/notes.txt", NOTES),
        ("part/a.txt", "changed"),
        ("training.json", '{"files": {}}'),
        (".git/HEAD", "ref"),
    ],
)
def test_one_foreign_file_stops_and_is_named_and_stays(tmp_path: Path, name: str, content: str) -> None:
    folder = marked(tmp_path / "out")
    require_own(folder, own_files(folder), "the model")
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content, encoding="utf-8")
    before = files_of(folder)
    with pytest.raises(InputError, match=name.split("/")[-1]):
        require_own(folder, own_files(folder), "the model")
    assert files_of(folder) == before
    remove_own(folder, {**(own_files(folder) or {})})
    assert (folder / name).read_text(encoding="utf-8") == content


def test_a_link_and_an_empty_folder_are_somebodys_too(tmp_path: Path) -> None:
    folder = marked(tmp_path / "out")
    (folder / "empty").mkdir()
    (folder / "link").symlink_to(tmp_path)
    assert foreign_files(folder, own_files(folder) or {}) == ["empty/", "link"]


def test_a_listing_that_points_outside_lists_nothing(tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text(NOTES, encoding="utf-8")
    listed = {"../other.txt": list_files(tmp_path)["other.txt"], str(tmp_path / "other.txt"): "bytes:11"}
    (tmp_path / "out").mkdir()
    write_sealed(tmp_path / "out" / "training.json", {"files": listed})
    assert list(own_files(tmp_path / "out") or {}) == ["training.json"]


@pytest.mark.parametrize("suffix", [".html", ".md", ".yaml", ".json"])
def test_a_seal_fits_only_what_it_was_made_for(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_sealed(path, {"글": [1, 2.5, {"x": None}], "3": 4} if suffix == ".json" else "글\r\n둘째 줄")
    assert is_sealed(path)
    write_sealed(path, {} if suffix == ".json" else "again\n")
    path.write_bytes(path.read_bytes().replace(b"again", b"other").replace(b"{\n", b'{\n"mine": 1,'))
    assert not is_sealed(path)
    before = path.read_bytes()
    with pytest.raises(InputError, match="was not written by kollm, or was changed since"):
        write_sealed(path, {} if suffix == ".json" else "new")
    assert path.read_bytes() == before


KILLED = """
import os, signal, sys
from collections.abc import Iterator
from pathlib import Path
from kollm.core import ownership
from kollm.dataset.folder import DatasetWriter, Part
from kollm.dataset.tables import to_table
from tests.train.conftest import row

after, renames = int(sys.argv[2]), 0
rename = Path.rename
def counting(self, target):
    global renames
    if renames == after:
        os.kill(os.getpid(), signal.SIGKILL)
    renames += 1
    return rename(self, target)
Path.rename = counting
with DatasetWriter(Path(sys.argv[1])) as writer:
    writer.write(Part("dolly", "train"), to_table([row(1), row(2)]))
    writer.publish({}, "new")
"""


@pytest.mark.parametrize("after", [0, 1])
def test_a_kill_between_the_renames_leaves_a_dataset(tmp_path: Path, after: int) -> None:
    folder = write_dataset(tmp_path / "data [1]", [row(0)])
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(after)], cwd=Path(__file__).parents[2])
    assert done.returncode == -signal.SIGKILL
    assert [record.id for record in read_records(folder)] == ["dolly-0"]
    write_dataset(folder, [row(3)])
    assert [record.id for record in read_records(folder)] == ["dolly-3"]
    assert [path.name for path in tmp_path.iterdir()] == ["data [1]"]


def test_what_was_added_while_a_build_ran_is_kept_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_dataset(tmp_path / "data", [row(0)])
    with DatasetWriter(folder) as writer:
        writer.write(Part("dolly", "train"), to_table([row(1)]))
        (folder / "review.jsonl").write_text(NOTES, encoding="utf-8")
        writer.publish({}, "card")
    assert "review.jsonl" in capsys.readouterr().err
    [kept] = tmp_path.rglob("review.jsonl")
    assert kept.read_text(encoding="utf-8") == NOTES
    assert [record.id for record in read_records(folder)] == ["dolly-1"]


def test_only_what_nobody_makes_any_more_is_taken_away(tmp_path: Path) -> None:
    (tmp_path / ".data.1.partial").mkdir()
    (tmp_path / ".data.1.partial" / "mine").write_text(NOTES, encoding="utf-8")
    with Replacement(tmp_path / "data") as first, Replacement(tmp_path / "data") as second:
        assert first.work.is_dir() and second.work.is_dir()
    restore(tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == [".data.1.partial"]


# --- the commands -----------------------------------------------------------------------------------------------------


def test_build_leaves_a_folder_with_somebodys_manifest(tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "src").mkdir(parents=True)
    (site / "manifest.json").write_text(json.dumps({"name": "site", "files": {"src/a.js": "sha256:0"}}))
    (site / "src" / "a.js").write_text("let a")
    before = files_of(site)
    code, said = kollm("data", "build", "dolly", "--input", "sample", "--memory", "sample", "--limit", 3, "-o", site)
    assert (code, files_of(site)) == (1, before)
    assert "manifest.json" in said and "src/a.js" in said


@pytest.mark.parametrize("name", ["review.jsonl", "run/verdicts.jsonl", "README.md"])
def test_build_leaves_what_was_put_into_a_dataset(tmp_path: Path, name: str) -> None:
    folder = write_dataset(tmp_path / "data", [row(0)])
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(NOTES, encoding="utf-8")
    before = files_of(folder)
    code, said = kollm("data", "build", "dolly", "--input", "sample", "--limit", 3, "-o", folder)
    assert (code, files_of(folder)) == (1, before)
    assert name in said


def entries(folder: Path, *names: str) -> list[dict[str, object]]:
    return [{"status": "done", "writes": [name], "result": own_result(folder / name)} for name in names]


def own_result(path: Path) -> dict[str, str]:
    return {"fingerprint": list_files(path.parent)[path.name]} if path.is_file() else {}


def test_restart_removes_what_the_stages_wrote_alone(tmp_path: Path) -> None:
    write_dataset(tmp_path / "dataset", [row(0)])
    (tmp_path / "generations.jsonl").write_text("{}\n")
    write_sealed(tmp_path / "report.md", "report")
    for name in ("generations.jsonl.adapter-1.part-0", "generations.jsonl.bak", "notes.txt"):
        (tmp_path / name).write_text(NOTES)
    stages = entries(tmp_path, "dataset", "generations.jsonl", "report.md")
    require_clearable(tmp_path, stages)
    clear(tmp_path, stages)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["generations.jsonl.bak", "notes.txt"]


@pytest.mark.parametrize("name", ["dataset/review.jsonl", "generations.jsonl", "report.md"])
def test_restart_stops_at_what_somebody_changed(tmp_path: Path, name: str) -> None:
    write_dataset(tmp_path / "dataset", [row(0)])
    (tmp_path / "generations.jsonl").write_text("{}\n")
    write_sealed(tmp_path / "report.md", "report")
    stages = entries(tmp_path, "dataset", "generations.jsonl", "report.md")
    (tmp_path / name).write_text(NOTES)
    before = files_of(tmp_path)
    with pytest.raises(KollmError, match=Path(name).name):
        require_clearable(tmp_path, stages)
    assert files_of(tmp_path) == before


def test_merge_leaves_a_folder_that_is_in_use(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "notes.txt").write_text(NOTES)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    for name in ("training.json", "metrics.json"):
        (adapter / name).write_text("{}")
    (adapter / "recipe.yaml").write_text("base: {model: 'toy:gpt_neox'}\n")
    code, said = kollm("merge", adapter, "-o", tmp_path / "merged")
    assert code == 1 and "notes.txt" in said
    assert files_of(tmp_path / "merged") == {"notes.txt": NOTES.encode()}


def test_train_leaves_a_folder_that_is_in_use(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data", [row(0)])
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "README.md").write_text(NOTES)
    code, said = kollm("train", "demo", "--dataset", dataset, "-o", tmp_path / "adapter", "--config", "cpu")
    assert code == 1 and "README.md" in said
    assert files_of(tmp_path / "adapter") == {"README.md": NOTES.encode()}


def test_the_end_of_a_training_leaves_what_was_put_among_its_checkpoints(tmp_path: Path) -> None:
    whole, torn = (tmp_path / "checkpoints" / f"checkpoint-{step}" for step in (4, 8))
    for folder in (whole, torn):
        folder.mkdir(parents=True)
        (folder / "optimizer.pt").write_bytes(b"x" * 10)
    (tmp_path / "checkpoints" / "identity.json").write_text("{}")
    (whole / "odd name").write_bytes(b"x")
    checkpoints.complete(whole)
    for place in (tmp_path, tmp_path / "checkpoints", whole, torn):
        (place / "notes.txt").write_text(NOTES)
    checkpoints.keep_newest(tmp_path, 1)
    assert [path.name for path in whole.iterdir()] == ["notes.txt"] and len(list(torn.iterdir())) == 2
    checkpoints.remove_checkpoints(tmp_path)
    assert sorted(files_of(tmp_path)) == [
        "checkpoints/checkpoint-4/notes.txt",
        "checkpoints/checkpoint-8/notes.txt",
        "checkpoints/notes.txt",
        "notes.txt",
    ]


def test_files_that_go_while_a_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite removes its write-ahead log where the last one closes a database, which a tracker does at any moment."""
    database, log = tmp_path / "trackio" / "kollm.db", tmp_path / "trackio" / "kollm.db-wal"
    database.parent.mkdir()
    database.write_bytes(b"x")
    listed = Path.rglob

    def rglob(folder: Path, pattern: str) -> Iterator[Path]:
        log.write_bytes(b"x")
        found = list(listed(folder, pattern))
        log.unlink()
        return iter(found)

    monkeypatch.setattr(Path, "rglob", rglob)
    assert checkpoints.training_files(tmp_path) == {"trackio/kollm.db": "bytes:1"}
    listing = {"trackio/kollm.db": "bytes:1", "trackio/kollm.db-wal": "bytes:1"}
    assert foreign_files(tmp_path, listing) == []


@pytest.mark.parametrize("suffix", [".html", ".json", ".md"])
def test_report_leaves_files_of_that_name(tmp_path: Path, suffix: str) -> None:
    folder = make_work_folder(tmp_path / "run", tasks=3)
    page = tmp_path / "notes.html"
    page.with_suffix(suffix).write_text(NOTES)
    with pytest.raises(InputError, match=f"notes{suffix}"):
        write_report([folder], page)
    assert files_of(tmp_path)[f"notes{suffix}"] == NOTES.encode()
    page.with_suffix(suffix).unlink()
    write_report([folder], page)
    write_report([folder], page)


def test_review_leaves_a_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "review.jsonl"
    path.write_text('{"mine": 1}\n')
    with pytest.raises(InputError, match="no line of a review file"):
        write_review(path, [])
    assert path.read_text() == '{"mine": 1}\n'


def test_export_leaves_a_file_that_is_there(tmp_path: Path) -> None:
    output = tmp_path / "export.jsonl"
    output.write_text(NOTES)
    code, said = kollm("ledger", "export", "--ledger", tmp_path / "ledger.sqlite3", output)
    assert code == 1 and "is there already" in said
    assert output.read_text() == NOTES


def test_synthesize_leaves_a_file_that_is_there(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(NOTES)
    options = ("--task", "classification", "--licence", "MIT", "-o", rows)
    code, said = kollm("data", "synthesize", "templates", tmp_path / "in.jsonl", *options)
    assert code == 1 and "is there already" in said
    assert rows.read_text() == NOTES


def test_a_lock_touches_nobodys_file(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text(NOTES)
    with folder_lock(tmp_path):
        assert foreign_files(tmp_path, {}) == [".lock"]
    assert files_of(tmp_path) == {".lock": NOTES.encode()}


def test_modes_of_files_are_the_users(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        write_sealed(tmp_path / "a.md", "a")
    finally:
        os.umask(mask)
    assert (tmp_path / "a.md").stat().st_mode & 0o777 == 0o640
