"""Processes of kollm that start at once: they are forked off one that has made its imports.

    with Starter() as starter:
        process = starter.start(["judge", ...], cwd=folder, environment={"KOLLM_LEDGER": ...})
        assert process.wait() == 0, process.output

To a test they are processes like any other, with a number, signals, open files and an end of their own.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PRELOADED = (
    *("click", "pyarrow", "pyarrow.parquet", "openai", "httpx", "deepl", "yaml", "jinja2"),
    *("kollm.cli.judge", "kollm.cli.generate", "kollm.cli.data", "kollm.cli.synthesize", "kollm.judge.make"),
    *("kollm.judge.served", "kollm.judge.pairwise", "kollm.services.chat", "kollm.answer.served"),
    *("kollm.dataset.pipeline", "kollm.dataset.plan", "kollm.translate.deepl", "kollm.translate.openai"),
    *("kollm.dataset.translation_check", "kollm.synthesize.self_instruct", "kollm.synthesize.self_chat"),
    *("kollm.synthesize.regenerate", "kollm.services.chat.stream", "kollm.sources.catalogue"),
)
"""Modules that are there in every process; none of them starts a thread or imports torch."""


class Process:
    """One process, as far as a test needs it."""

    def __init__(self, pid: int, output: Path) -> None:
        self.pid, self._output = pid, output

    @property
    def output(self) -> str:
        """What it has printed so far, errors included."""
        return self._output.read_text(encoding="utf-8", errors="replace")

    @property
    def running(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def wait(self, seconds: float = 120.0) -> int | None:
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
    """The process that the others are forked off. Use as a context manager: on leaving, none of them lives on."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", __name__]
        self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._started: list[Process] = []

    def start(self, arguments: Sequence[object], cwd: Path, environment: Mapping[str, str]) -> Process:
        assert self._server.stdin is not None and self._server.stdout is not None
        output = cwd / f"process-{secrets.token_hex(4)}.txt"
        output.touch()
        asked = {"arguments": [*map(str, arguments)], "cwd": str(cwd), "environment": {**environment}, "output": str(output)}  # fmt: skip
        self._server.stdin.write(json.dumps(asked) + "\n")
        self._server.stdin.flush()
        self._started.append(Process(int(self._server.stdout.readline()), output))
        return self._started[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
        self._server.communicate()


def _serve() -> None:
    from kollm.quality import filters

    for name in PRELOADED:
        importlib.import_module(name)
    filters._langid()("a")  # unpacks its model, which takes seconds
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(asked)
        print(pid, flush=True)


def _become(asked: Mapping[str, Any]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    output, nothing = os.open(asked["output"], os.O_WRONLY | os.O_APPEND), os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, nothing), (1, output), (2, output)):
        os.dup2(source, target)
    os.chdir(asked["cwd"])
    os.environ.update(asked["environment"])
    sys.argv = ["kollm", *asked["arguments"]]
    code: object = 1
    try:
        from kollm.cli import main

        main(asked["arguments"])
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    Path(asked["output"]).with_suffix(".code").write_text(str(code))
    os._exit(0)


if __name__ == "__main__":
    _serve()
