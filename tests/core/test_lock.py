"""Two processes never write one output, and a lock dies with its process."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kollm.answer.talk import Exchange, Talk
from kollm.cli import main
from kollm.cli.chat import _obey
from kollm.core import file_lock, lock
from kollm.core.errors import InputError, StateError
from kollm.core.lock import folder_lock, output_lock
from kollm.core.ownership import Replacement, foreign_files, list_files

HOLD = """
import sys
from pathlib import Path
from kollm.core import lock
with getattr(lock, sys.argv[1])(Path(sys.argv[2]), command="kollm train"):
    print("held", flush=True)
    sys.stdin.readline()
"""


WITHOUT_LOCKS = """
import errno, fcntl, os, sys
real, disk = fcntl.flock, sys.argv[-1]
def flock(file, operation):
    if str(file.name).startswith(disk):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return real(file, operation)
fcntl.flock = flock
"""
"""What Lustre says where it is mounted without `flock`: of the files under the last argument."""


class Holder:
    """Another process that holds an output until it is told to let go."""

    def __init__(self, kind: str, path: Path, disk: Path | None = None) -> None:
        command = [sys.executable, "-c", WITHOUT_LOCKS + HOLD if disk else HOLD, kind, str(path), str(disk)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None and self.process.stdout.readline() == "held\n"

    def let_go(self) -> None:
        self.process.communicate("\n")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def hold() -> Iterator[list[Holder]]:
    holders: list[Holder] = []
    yield holders
    for holder in holders:
        holder.kill()


def test_the_second_process_is_told_who_holds_the_folder_and_since_when(tmp_path: Path, hold: list[Holder]) -> None:
    hold.append(Holder("folder_lock", tmp_path))
    pid = hold[0].process.pid
    said = rf"^Another kollm process \(kollm train, process {pid}, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\) is at work in '{tmp_path}'"
    with pytest.raises(StateError, match=said) as error, folder_lock(tmp_path, patience=0):
        pass
    assert str(error.value).endswith(f" - wait for it, end that process (kill {pid}), or use another output.")
    hold[0].kill()
    with folder_lock(tmp_path, patience=0):
        first, *_ = (tmp_path / ".kollm.lock").read_text().splitlines()
        assert first == str(os.getpid()), "what a kill leaves means nothing"
        assert foreign_files(tmp_path, {}) == [] and list_files(tmp_path) == {}, "a lock is nobody's content"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "held", "wanted"),
    [
        ("output_lock", "a.jsonl", "a.jsonl"),
        ("output_lock", "new/deep/a.jsonl", "new/deep/a.jsonl"),
        ("folder_lock", ".", "a.jsonl"),
        ("folder_lock", ".", "dataset"),
        ("folder_lock", ".", "one/two/three.jsonl"),
        ("folder_lock", "run", "run"),
    ],
)
def test_an_output_that_another_process_writes_or_whose_folder_it_holds_is_refused(
    kind: str, held: str, wanted: str, tmp_path: Path, hold: list[Holder]
) -> None:
    (tmp_path / "run").mkdir()
    hold.append(Holder(kind, tmp_path / held))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StateError, match="is at work in"), output_lock(tmp_path / wanted, patience=0):
        pass
    assert sorted(tmp_path.rglob("*")) == before
    hold[0].kill()
    with output_lock(tmp_path / wanted, patience=0):
        pass


def test_a_folder_that_is_being_replaced_is_no_place_for_a_run(tmp_path: Path, hold: list[Holder]) -> None:
    (tmp_path / "merged").mkdir()
    hold.append(Holder("output_lock", tmp_path / "merged"))
    with pytest.raises(StateError, match="merged"), folder_lock(tmp_path / "merged", patience=0):
        pass


def test_two_outputs_of_one_folder_are_written_at_once(tmp_path: Path, hold: list[Holder]) -> None:
    hold.append(Holder("output_lock", tmp_path / "a.jsonl"))
    with output_lock(tmp_path / "b.jsonl", patience=0), output_lock(tmp_path / "b", patience=0):
        pass


def test_a_saved_talk_and_imported_answers_wait_for_who_writes_there(
    tmp_path: Path, hold: list[Holder], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lock, "PATIENCE", 0.1)
    hold += [Holder("output_lock", tmp_path / name) for name in ("talk.jsonl", "answers.jsonl")]
    _obey(f"/save {tmp_path / 'talk.jsonl'}", [Talk("", [Exchange("안녕?", "네.")])])
    assert "Another kollm process" in capsys.readouterr().err and not (tmp_path / "talk.jsonl").exists()
    (tmp_path / "rows.jsonl").write_text(
        json.dumps({"id": "1", "question": "물은?", "answer": "네.", "score": 3}, ensure_ascii=False), encoding="utf-8"
    )
    table = (
        "--form table --axis quality=score:1-5 --map response=answer --map instruction=question --system a --judge b"
    )
    outputs = ["-o", str(tmp_path / "v.jsonl"), "--answers", str(tmp_path / "answers.jsonl")]
    with pytest.raises(SystemExit, match="1"):
        main(["verdicts", "import", str(tmp_path / "rows.jsonl"), *table.split(), *outputs])
    said = capsys.readouterr().err
    assert "Another kollm process" in said and "answers.jsonl'" in said and not (tmp_path / "v.jsonl").exists()


def test_an_import_that_was_cut_off_is_run_again_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, output, answers = tmp_path / "rows.jsonl", tmp_path / "v.jsonl", tmp_path / "answers.jsonl"
    rows.write_text(json.dumps({"id": "1", "question": "물은?", "answer": "네.", "score": 3}), encoding="utf-8")
    table = (
        "--form table --axis quality=score:1-5 --map response=answer --map instruction=question --system a --judge b"
    )
    command = ["verdicts", "import", str(rows), *table.split(), "-o", str(output), "--answers", str(answers)]

    def run() -> object:
        try:
            main(command)
        except SystemExit as ended:
            return ended.code
        return 0

    assert run() == 0
    whole = output.read_bytes(), answers.read_bytes()
    output.unlink()  # as a kill before the last file leaves it
    assert run() == 0 and (output.read_bytes(), answers.read_bytes()) == whole
    assert run() == 1 and "v.jsonl' is there already" in capsys.readouterr().err
    output.unlink()
    answers.write_text("mine", encoding="utf-8")
    assert run() == 1 and answers.read_text(encoding="utf-8") == "mine"


def test_a_link_to_an_output_is_that_output(tmp_path: Path, hold: list[Holder]) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    hold.append(Holder("output_lock", tmp_path / "real" / "a.jsonl"))
    with pytest.raises(StateError), output_lock(tmp_path / "link" / "a.jsonl", patience=0):
        pass


def test_what_a_process_holds_is_no_obstacle_to_itself_or_to_those_that_work_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hold: list[Holder]
) -> None:
    with folder_lock(tmp_path, patience=0), output_lock(tmp_path / "a", patience=0), output_lock(tmp_path / "a"):
        pass
    hold.append(Holder("folder_lock", tmp_path))
    monkeypatch.setenv("KOLLM_PARENT", str(hold[0].process.pid))
    with output_lock(tmp_path / "a", patience=0):
        pass


def test_who_waits_gets_the_folder_and_nobody_gets_it_beside(tmp_path: Path, hold: list[Holder]) -> None:
    hold.append(Holder("folder_lock", tmp_path))
    with pytest.raises(StateError), folder_lock(tmp_path, patience=0.2):
        pass
    started = time.monotonic()
    hold[0].let_go()
    with folder_lock(tmp_path, patience=30):
        assert time.monotonic() - started < 30
        with pytest.raises(StateError), folder_lock(tmp_path, patience=0.1):
            pass


def test_an_error_lets_the_folder_go_and_takes_folders_made_for_it_away(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), folder_lock(tmp_path):
        raise ValueError("mine")
    with pytest.raises(ValueError, match="mine"), output_lock(tmp_path / "new" / "deep" / "a"):
        raise ValueError("mine")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="cannot be written"), output_lock(tmp_path / "file" / "a"):
        pass


def test_a_disk_without_locks_is_held_on_this_machine(
    tmp_path: Path, hold: list[Holder], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    disk, temporary = tmp_path / "lustre", tmp_path / "tmp"
    for folder in (disk, temporary):
        folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(file_lock, "_without", set())
    monkeypatch.setattr(fcntl, "flock", fcntl.flock)  # put back at the end
    monkeypatch.setattr(sys, "argv", ["kollm", str(disk)])
    exec(WITHOUT_LOCKS, {})  # noqa: S102 - the same stand-in as in the other process
    hold.append(Holder("folder_lock", disk / "run", disk))
    for path in (disk / "run", disk / "run" / "a.jsonl"):
        with pytest.raises(StateError, match=rf"kollm train, process {hold[0].process.pid}"), output_lock(path, 0):
            pass
    assert capsys.readouterr().err.count("has no file locks") == 1
    hold[0].kill()
    with output_lock(disk / "run" / "a.jsonl", patience=0), Replacement(disk / "dataset") as place:
        place.publish({})
    assert not list(disk.rglob("*.lock")) and (disk / "dataset").is_dir()
    monkeypatch.setattr(sys, "argv", ["kollm", str(tmp_path)])
    monkeypatch.setattr(file_lock, "_without", set())
    exec(WITHOUT_LOCKS, {})  # noqa: S102
    with pytest.raises(StateError, match="set TMPDIR to one that has"), output_lock(disk / "a", patience=0):
        pass


def test_devices_are_not_held() -> None:
    with output_lock(Path(os.devnull)):
        assert not Path("/dev/.null.kollm.lock").exists()
