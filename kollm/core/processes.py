"""Children that end with their parent, however it ends, and a parent that ends with one line.

    python -m kollm.core.processes MODULE ARGUMENTS

runs a Python module as `python -m MODULE` would, as a child of `run_module`'s.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from kollm.core.errors import MissingExtraError
from kollm.core.lock import PARENT
from kollm.core.program import prepare_process

_PR_SET_PDEATHSIG = 1
_INTERVAL = 0.5


def run_module(module: str, arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a Python module in a process of its own and wait for it; gives its exit code.

    Nothing is imported from the current directory. The child and all that it starts end when this process ends, whatever ends it. Ctrl-C reaches this process alone,
    which ends them without a word of theirs; SIGTERM and SIGHUP do the same, Ctrl-Z makes them pause.

    Args:
        module: its name.
        arguments: its arguments.
        environment: its environment.
    """
    command = [sys.executable, "-P", "-m", __name__, module, *arguments]
    # Modules come from where Python is installed: `-m` would look for them in the current directory first, which may hold
    # what somebody published.
    environment = {**environment, PARENT: str(os.getpid()), "PYTHONSAFEPATH": "1"}
    child = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        with _signals_for(child):
            return child.wait()
    finally:
        if child.returncode is None:
            end_tree(child.pid)
            child.wait()


def end_tree(pid: int) -> None:
    """End a process and all that it started, at once: what they write is whole at any moment."""
    for process in _tree(pid):
        _send(process, signal.SIGKILL)


def end_with_parent() -> None:
    """End this process when the process that `run_module` was called in ends, or one between the two.

    Without `run_module` above it does nothing: what was started by hand may outlive its shell.
    """
    top = os.environ.get(PARENT, "")
    if not top.isdecimal():
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # at once, and whatever this process is doing
    parents = _psutil().Process().parents()
    above = [process.pid for process in parents]
    if int(top) not in above:
        _end_now()
    threading.Thread(target=_watch, args=(parents[: above.index(int(top)) + 1],), daemon=True).start()


def _watch(parents: Sequence[Any]) -> None:
    psutil = _psutil()
    while True:
        for process in parents:
            try:
                if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                    _end_now()
            except psutil.NoSuchProcess:
                _end_now()
        time.sleep(_INTERVAL)


def _end_now() -> NoReturn:
    end_tree(os.getpid())
    os._exit(1)


def _tree(pid: int) -> list[Any]:
    """The process and its descendants; none where it is gone.

    It comes first, so that it starts no more of them, and last where it is this one.
    """
    psutil = _psutil()
    try:
        process = psutil.Process(pid)
        descendants = process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [*descendants, process] if pid == os.getpid() else [process, *descendants]


def _send(process: Any, number: int) -> None:
    """Send a signal to a process that may have ended since it was found, with its parent for instance."""
    with contextlib.suppress(_psutil().NoSuchProcess):
        process.send_signal(number)


@contextlib.contextmanager
def _signals_for(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Hand on what this process is told; in its main thread alone, where Python takes signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _frame: Any) -> NoReturn:
        raise SystemExit(128 + number)

    def pause(_number: int, _frame: Any) -> None:
        tree = _tree(child.pid)
        for process in tree:
            _send(process, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)  # until it is continued, here
        for process in tree:
            _send(process, signal.SIGCONT)

    handlers = {signal.SIGTERM: end, signal.SIGHUP: end, signal.SIGTSTP: pause}
    ignored = [number for number in handlers if signal.getsignal(number) == signal.SIG_IGN]  # SIGHUP under nohup
    before = {number: signal.signal(number, handlers[number]) for number in handlers if number not in ignored}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _psutil() -> Any:
    try:
        import psutil
    except ImportError as error:
        raise MissingExtraError("psutil", "train") from error
    return psutil


if __name__ == "__main__":
    end_with_parent()
    prepare_process()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
