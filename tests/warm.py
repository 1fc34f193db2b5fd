"""Python processes that start with torch and the tests imported: they are forked off one that has them.

pytest's workers, and the processes that the trainings of tests are forked off, would each import the same for ten seconds.
This file is the program that stands for Python in their commands. It hands its arguments, folder, environment and open
files to the server, and lives as long as the process that the server forks. It imports little, since it is started often.
"""

import json
import os
import select
import signal
import socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Sequence

ADDRESS = "KOLLM_TESTS_WARM"
"""Variable with the name of the server's socket, which has no file: Linux's abstract ones go with their process."""


def python() -> list[str]:
    """Begins the command of a Python process: of one that is forked off, where a server runs."""
    return [sys.executable, *(["-IS", os.path.abspath(__file__)] if ADDRESS in os.environ else [])]


def start(arguments: "Sequence[str]", folder: "os.PathLike[str]") -> "subprocess.Popen[bytes]":
    """Start the server. It ends with its standard input, and so with this process.

    Args:
        arguments: of pytest; the files and folders whose tests the server imports.
        folder: in which pytest was called.
    """
    import secrets
    import subprocess

    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    os.environ[ADDRESS] = f"kollm-tests-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{os.environ[ADDRESS]}")
        server.listen()
        code = f"import sys; sys.path[0] = {root!r}; from tests.warm import serve; serve({server.fileno()}, {list(arguments)})"
        return subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[server.fileno()],
        )


def ask(arguments: list[str]) -> None:
    """Have a process forked off, and wait for its end."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(f"\0{os.environ[ADDRESS]}")
        asked = json.dumps([arguments, os.getcwd(), dict(os.environ)]).encode()
        socket.send_fds(server, [len(asked).to_bytes(8, "little")], [0, 1, 2])
        server.sendall(asked)
        _, [process], _, _ = socket.recv_fds(server, 1, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches that process too, which says what there is to say
    select.select([process], [], [])  # readable once it has ended


def serve(file: int, arguments: list[str]) -> None:
    """Import what pytest collects, then fork processes for those that ask, until standard input ends and those are killed."""
    import contextlib
    import gc

    import pytest

    with socket.socket(fileno=file) as server:
        pytest.main(["--collect-only", "--quiet", "-p", "no:cacheprovider", *arguments])
        gc.collect()
        gc.freeze()  # what is there is never collected: a child copies no page of it
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        started: list[int] = []
        while server in select.select([server, sys.stdin], [], [])[0]:
            caller, _ = server.accept()
            with caller:
                size, files, _, _ = socket.recv_fds(caller, 8, 3)
                asked = json.loads(caller.recv(int.from_bytes(size, "little"), socket.MSG_WAITALL))
                number = os.fork()
                if number == 0:
                    server.close()
                    caller.close()
                    become(files, *asked)
                for file in files:
                    os.close(file)
                started.append(os.pidfd_open(number))
                socket.send_fds(caller, [b"1"], started[-1:])
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, signal.SIGKILL)


def become(files: list[int], arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """Run, in a child, what Python was asked to run: `-c CODE` or `-m MODULE`, with what follows."""
    import runpy
    import types

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream, file in enumerate(files):
        os.dup2(file, stream)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    while arguments[0] not in ("-c", "-m"):
        arguments = arguments[1:]  # -u: what a child writes is flushed at its end
    kind, what, *rest = arguments

    def program() -> None:
        if kind == "-m":
            sys.argv = [what, *rest]
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            sys.argv = ["-c", *rest]
            # A module of its own, without a file: multiprocessing imports the main module's anew in its processes.
            sys.modules["__main__"] = main = types.ModuleType("__main__")
            exec(what, main.__dict__)  # noqa: S102 - what `python -c` does

    os._exit(run_to_end(program))


def run_to_end(program: "Callable[[], object]") -> int:
    """Run what a forked process is for, as Python would, and gives the exit code; nothing is left to do but to leave."""
    import atexit
    import traceback

    code = 1
    try:
        program()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    ask(sys.argv[1:])
