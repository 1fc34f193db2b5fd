from __future__ import annotations

import contextlib
import json

import pytest
from click.testing import CliRunner

from kollm.cli import cli
from kollm.core.errors import InputError, KollmError
from kollm.dataset.executors import status as status_module
from kollm.dataset.executors.local import LocalExecutor
from kollm.dataset.executors.status import read_status
from tests.dataset.executors import toy


def show(*arguments):
    return CliRunner().invoke(cli, ["data", "status", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path):
    """Of six tasks four are done, one crashed, and one runs."""
    with contextlib.suppress(KollmError):
        LocalExecutor().run(toy.stage(tmp_path, toy.crash_some))
    (tmp_path / "done" / "toy" / "5").unlink()
    (tmp_path / "running" / "toy" / "5").write_text("{}")
    for task, ended in ((0, 11.0), (2, 12.0), (3, 13.0), (4, 14.0)):
        note = {"rows": 10, "seconds": 1.0, "ended": ended}
        (tmp_path / "done" / "toy" / str(task)).write_text(json.dumps(note))
    return tmp_path


def test_a_stage_is_counted(folder):
    (stage,) = read_status(folder)
    assert (stage.name, stage.tasks, stage.done, stage.running, stage.rows) == ("toy", 6, 4, 1, 40)
    assert stage.rate == 10.0
    assert [failure.task for failure in stage.failed] == [1]


def test_a_task_without_a_sign_of_life_does_not_run(folder, monkeypatch):
    monkeypatch.setattr("kollm.dataset.executors.task.STALE", -1.0)
    assert status_module.read_status(folder)[0].running == 0


def test_what_the_command_shows(folder):
    lines = show(folder).output.splitlines()
    assert lines[0].split() == ["stage", "tasks", "done", "running", "failed", "rows", "rows/s", "on"]
    assert lines[1].split() == ["toy", "6", "4", "1", "1", "40", "10", "local"]
    assert lines[2].startswith("toy/1: This is a bug in kollm (ZeroDivisionError")


def test_the_log_of_a_failed_task(folder):
    told = show(folder, "--log", "toy/1").output
    assert "Traceback" in told and "crash_some" in told
    assert "Task toy/2 has not failed - those that did: toy/1." in str(show(folder, "--log", "toy/2").exception)
    assert show(folder, "--log", "toy").exit_code == 2


def test_a_folder_without_a_build(tmp_path):
    assert "No build is under way" in str(show(tmp_path).exception)


def test_a_built_dataset(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    assert show(tmp_path).output == f"{tmp_path} is built; nothing is under way.\n"


def test_another_users_build_is_told_from_none(folder, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(InputError, match=r"The work folder '.*' is closed to you - ask the user who builds there\."):
        read_status(folder)
