"""Two processes never hold one folder, and a lock dies with its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kollm.core.errors import StateError
from kollm.core.lock import folder_lock

HOLD = """
import sys, time
from pathlib import Path
from kollm.core.lock import folder_lock
with folder_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def hold(folder: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(folder), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_the_second_process_is_told_which_one_holds_the_folder(tmp_path: Path) -> None:
    first = hold(tmp_path, 60)
    with (
        pytest.raises(StateError, match=rf"process \({first.pid}\) is at work in '{tmp_path}' - wait for it"),
        folder_lock(tmp_path, patience=0),
    ):
        pass
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    with folder_lock(tmp_path, patience=0):
        assert (tmp_path / ".kollm.lock").read_text() == str(os.getpid()), "what a kill leaves means nothing"
    assert not list(tmp_path.iterdir())


def test_who_waits_gets_the_folder_and_nobody_gets_it_beside(tmp_path: Path) -> None:
    first = hold(tmp_path, 0.4)
    started = time.monotonic()
    with folder_lock(tmp_path, patience=30):
        assert time.monotonic() - started > 0.1
        with pytest.raises(StateError), folder_lock(tmp_path, patience=0.2):
            pass
    first.communicate()


def test_an_error_lets_the_folder_go(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), folder_lock(tmp_path):
        raise ValueError("mine")
    assert not list(tmp_path.iterdir())
