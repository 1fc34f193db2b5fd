"""Whatever ends a command ends what it started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from kollm.core import processes

PARENT = """
import os, sys
from kollm.core.processes import run_module
try:
    print("code", run_module("child", [sys.argv[1]], os.environ), flush=True)
except KeyboardInterrupt:
    print("stopped", flush=True)
"""
CHILD = """
import subprocess, sys, time
grandchild = subprocess.Popen([sys.executable, "-c", sys.argv[1]], start_new_session=True)  # as torchrun starts workers
print("grandchild", grandchild.pid, flush=True)
sys.exit(grandchild.wait() + 3)
"""
GRANDCHILD = """
import time
from kollm.core.processes import end_with_parent
end_with_parent()
print("ready", flush=True)
time.sleep(600)
"""
LONG = 100.0
"""Seconds that a busy machine may take for what takes a moment."""


@pytest.fixture
def tree(tmp_path: Path) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    (tmp_path / "child.py").write_text(CHILD)
    process = start(tmp_path, GRANDCHILD)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("grandchild")
    assert process.stdout.readline() == "ready\n"
    return process, psutil.Process(process.pid).children(recursive=True)


def start(folder: Path, code: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", PARENT, code]
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=hear_hang_ups
    )


def hear_hang_ups() -> None:
    """Under nohup it would be ignored, as kollm then does."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGKILL, -signal.SIGKILL, ""),
        (signal.SIGTERM, 128 + signal.SIGTERM, ""),
        (signal.SIGHUP, 128 + signal.SIGHUP, ""),
        (signal.SIGINT, 0, "stopped\n"),
    ],
)
def test_a_signal_to_the_parent_alone_ends_all_without_a_word(
    tree: tuple[subprocess.Popen[str], list[psutil.Process]], number: int, code: int, said: str
) -> None:
    process, below = tree
    assert len(below) == 2
    process.send_signal(number)
    assert process.communicate(timeout=LONG) == (said, "")
    assert process.returncode == code
    assert not psutil.wait_procs(below, timeout=LONG)[1]


def test_a_child_killed_in_the_middle_takes_the_one_below_with_it(
    tree: tuple[subprocess.Popen[str], list[psutil.Process]],
) -> None:
    process, below = tree
    psutil.Process(process.pid).children()[0].kill()
    assert process.communicate(timeout=LONG)[0] == "code -9\n"
    assert not psutil.wait_procs(below, timeout=LONG)[1]


def test_what_ends_between_a_look_and_its_signal_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trainer ends by itself once its launcher is killed."""
    one, other = (subprocess.Popen(["sleep", "600"]) for _ in range(2))
    found = [psutil.Process(process.pid) for process in (one, other)]
    monkeypatch.setattr(processes, "_tree", lambda _: found)
    one.kill()
    one.wait()
    processes.end_tree(one.pid)
    assert other.wait() == -signal.SIGKILL


def test_what_is_paused_goes_on(tree: tuple[subprocess.Popen[str], list[psutil.Process]]) -> None:
    process, below = tree
    process.send_signal(signal.SIGTSTP)
    all_of_it = [psutil.Process(process.pid), *below]
    await_states(all_of_it, stopped=True)
    process.send_signal(signal.SIGCONT)
    await_states(all_of_it, stopped=False)
    process.kill()
    process.communicate()
    assert not psutil.wait_procs(below, timeout=LONG)[1]


def await_states(all_of_it: list[psutil.Process], *, stopped: bool) -> None:
    deadline = time.monotonic() + LONG
    while any((one.status() == psutil.STATUS_STOPPED) != stopped for one in all_of_it):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_exit_code_is_the_modules(tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text(CHILD)
    out, _ = start(tmp_path, "raise SystemExit(4)").communicate(timeout=LONG)
    assert out.splitlines()[-1] == "code 7"


def test_nothing_is_imported_from_the_current_directory(tmp_path: Path) -> None:
    """It may be what somebody published."""
    here, modules = tmp_path / "theirs", tmp_path / "ours"
    for name in ("kollm", "psutil", "runpy", "child", "kollm/core"):
        (here / name).mkdir(parents=True, exist_ok=True)
        (here / name / "__init__.py").write_text("open('ran', 'w').close()")
    modules.mkdir()
    (modules / "child.py").write_text("import psutil, kollm.core.files\nprint('child')")
    path = os.pathsep.join([str(modules), *sys.path])
    command = [sys.executable, "-P", "-c", PARENT, ""]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=here, env={**os.environ, "PYTHONPATH": path}, check=True
    )
    assert done.stdout == "child\ncode 0\n" and not (here / "ran").exists()


def test_a_process_whose_parent_was_not_kollm_outlives_it() -> None:
    code = "from kollm.core.processes import end_with_parent\nend_with_parent()\nprint('ran')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "ran\n"
