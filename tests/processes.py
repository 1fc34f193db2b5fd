"""Processes of kollm that start at once: they are forked off one that has made its imports.

    with Starter() as starter:
        process = starter.start(["judge", ...], cwd=folder, environment={"KOLLM_LEDGER": ...})
        assert process.wait() == 0, process.output

To a test they are processes like any other, with a number, a session, signals, open files and an end of their own.
`Starter(TRAINING)` has torch and what trains: it saves each process some seven seconds.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.servers.loopback import free_port
from tests.warm import python, run_to_end

PAYING = (
    *("click", "pyarrow", "pyarrow.parquet", "openai", "httpx", "deepl", "yaml", "jinja2"),
    *("kollm.cli.judge", "kollm.cli.generate", "kollm.cli.data", "kollm.cli.synthesize", "kollm.judge.make"),
    *("kollm.judge.served", "kollm.judge.pairwise", "kollm.services.chat", "kollm.answer.served"),
    *("kollm.dataset.pipeline", "kollm.dataset.plan", "kollm.translate.deepl", "kollm.translate.openai"),
    *("kollm.dataset.translation_check", "kollm.synthesize.self_instruct", "kollm.synthesize.self_chat"),
    *("kollm.synthesize.regenerate", "kollm.services.chat.stream", "kollm.sources.catalogue"),
)
"""Modules of the commands that pay; none of them starts a thread or imports torch."""

TRAINING = (
    *("click", "pyarrow.parquet", "yaml", "jinja2", "openai", "datasets", "kollm.cli.run", "kollm.cli.train"),
    *("kollm.train.job", "kollm.train.sft", "kollm.train.preference", "kollm.train.toy", "kollm.train.tracker"),
    *("kollm.run.stages", "kollm.run.preferences", "kollm.answer.local", "kollm.judge.run", "kollm.judge.make"),
    *("kollm.report", "evaluate"),
)
"""Modules of training and of whole runs. Importing torch starts no thread; the first operation does, in the child."""


_COMMAND = """#!{python} -IS
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
lines = server.makefile("rw", encoding="utf-8")
lines.write(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]) + "\\n")
lines.flush()
printed, said, code = json.loads(lines.readline())
sys.stdout.write(printed)
sys.stderr.write(said)
sys.exit(code)
"""


class Process:
    """One process, as far as a test needs it."""

    def __init__(self, pid: int, output: Path) -> None:
        self.pid, self._output = pid, output

    @property
    def printed(self) -> str:
        """What it has printed so far."""
        return self._output.read_text(encoding="utf-8", errors="replace")

    @property
    def output(self) -> str:
        """What it has printed so far, then what it has said on standard error."""
        return self.printed + self._output.with_suffix(".err").read_text(encoding="utf-8", errors="replace")

    @property
    def running(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def wait(self, seconds: float = 280.0) -> int | None:
        """Its exit code; None for one that was killed."""
        deadline = time.monotonic() + seconds
        while self.running:
            assert time.monotonic() < deadline, f"it runs still; so far: {self.output}"
            time.sleep(0.01)
        code = self._output.with_suffix(".code")
        return int(code.read_text()) if code.exists() else None

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


class Starter:
    """The process that the others are forked off. Use as a context manager: on leaving, none of them lives on.

    Args:
        modules: what every process has imported when it starts.
    """

    def __init__(self, modules: Sequence[str] = PAYING) -> None:
        # Those that pay must not have torch: what a command imports itself is what is tested.
        command = [*(python() if modules == TRAINING else [sys.executable]), "-m", __name__, *modules]
        self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._started: list[Process] = []

    def start(
        self, arguments: Sequence[object], cwd: Path, environment: Mapping[str, str], program: str | Path = "kollm"
    ) -> Process:
        """Start a module, as `python -m` does, or a file.

        Args:
            arguments: its arguments.
            cwd: where it runs, and where what it prints is kept.
            environment: variables on top of those of the test.
            program: the module's name, or a file that ends in `.py`.
        """
        assert self._server.stdin is not None and self._server.stdout is not None
        output = cwd / f"process-{secrets.token_hex(4)}.txt"
        output.touch()
        output.with_suffix(".err").touch()
        # All of them, as they are now; a training in the test's own process has left where trackio writes.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TRACKIO")}
        asked = {
            **{"program": str(program), "arguments": [*map(str, arguments)], "cwd": str(cwd)},
            **{"environment": {**inherited, **environment}, "output": str(output)},
        }
        self._server.stdin.write(json.dumps(asked) + "\n")
        self._server.stdin.flush()
        self._started.append(Process(int(self._server.stdout.readline()), output))
        return self._started[-1]

    @contextlib.contextmanager
    def command(self, folder: Path) -> Iterator[Path]:
        """A `kollm` for shells, in a folder for their PATH. Each call is a process of this starter's; what it says comes when it
        has ended."""
        place = folder / "kollm"
        place.write_text(_COMMAND.format(python=sys.executable, address=str(folder / "socket")), encoding="utf-8")
        place.chmod(0o755)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(folder / "socket"))
            server.listen()
            threading.Thread(target=self._answer, args=(server,), daemon=True).start()
            yield folder
            server.shutdown(socket.SHUT_RDWR)

    def _answer(self, server: socket.socket) -> None:
        while True:
            try:
                caller, _ = server.accept()
            except OSError:  # shut down
                return
            with caller, caller.makefile("rw", encoding="utf-8") as lines:
                arguments, cwd, environment = json.loads(lines.readline())
                process = self.start(arguments, Path(cwd), environment)
                code = process.wait()
                said = process.output.removeprefix(process.printed)
                lines.write(json.dumps([process.printed, said, 1 if code is None else code]) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
        self._server.communicate()


def start_training(
    starter: Starter,
    command: Sequence[str],
    cwd: Path,
    processes: int = 1,
    program: str | Path = "kollm.train",
    **environment: str,
) -> list[Process]:
    """The processes that the command of `kollm.train.launch.launch_command` ends in, with the variables that accelerate 1.15
    and torchrun give to each; the launcher itself, which imports torch once more, is left out. `program`: in their place."""
    arguments = command[command.index("kollm.train") + 1 :]
    shared = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", **environment}
    if processes == 1:
        return [starter.start(arguments, cwd, shared, program)]
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    shared |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
    return [starter.start(arguments, cwd, {**shared, **rank}, program) for rank in ranks]


def finish(processes: Sequence[Process]) -> str:
    """Wait for all of them, which must end well; what the first one printed and said."""
    for process in processes:
        assert process.wait() == 0, process.output
    return processes[0].output


def kill_once_there(process: Process, folder: Path, *patterns: str) -> None:
    """Kill a process, and all that it started, as soon as a file of one of these names has content."""
    while not any(_has_content(path) for pattern in patterns for path in folder.glob(pattern)):
        assert process.running, f"it ended without {patterns[0]}: {process.output}"
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:  # a part that was just joined with the others
        return False


def _serve(modules: Sequence[str]) -> None:
    from kollm.quality.identifier import load_identifier

    for name in modules:
        importlib.import_module(name)
    load_identifier()
    gc.collect()
    gc.freeze()  # what is there is never collected: a child copies no page of it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(asked)
        print(pid, flush=True)


def _become(asked: Mapping[str, Any]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    output = Path(asked["output"])
    for stream, file, mode in (
        (0, os.devnull, os.O_RDONLY),
        (1, output, os.O_WRONLY),
        (2, output.with_suffix(".err"), os.O_WRONLY),
    ):
        os.dup2(os.open(file, mode), stream)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    program = asked["program"]
    sys.argv = [program, *asked["arguments"]]

    def run() -> None:
        if program.endswith(".py"):
            sys.path.insert(0, str(Path(program).parent))  # as for `python FILE`
            runpy.run_path(program, run_name="__main__")
        else:
            runpy.run_module(program, run_name="__main__", alter_sys=True)

    output.with_suffix(".code").write_text(str(run_to_end(run)))
    os._exit(0)


if __name__ == "__main__":
    _serve(sys.argv[1:])
