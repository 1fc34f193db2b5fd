"""Tasks in processes of this machine, or in this process where there is nothing to share."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import weakref
from collections import Counter
from multiprocessing.connection import Connection, Pipe, wait
from typing import NamedTuple

from kollm.core.errors import InputError, KollmError, StateError
from kollm.core.progress import Progress, say
from kollm.dataset.executors import Stage
from kollm.dataset.executors.task import begin, forget_failure, pack, raise_failed, record_lost, run_task

TRIES = 2
"""How often a task is begun whose process is killed: the second death is hardly an accident."""
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "POLARS_MAX_THREADS")
_CHILD = "from kollm.dataset.executors.local import serve; serve()"


class LocalExecutor:
    """Runs tasks in processes of this machine.

    They are started anew, not forked: a fork of a process whose libraries have threads at work may wait for ever. They
    stay for the next stage, have one thread each for numbers, and end with this process, however it ends.

    Args:
        workers: how many; with 0 or 1, or one task to do, everything runs in this process.
    """

    name = "local"

    def __init__(self, workers: int = 1) -> None:
        self._wanted = workers
        self._workers: list[_Worker] = []
        weakref.finalize(self, _end, self._workers)

    def run(self, stage: Stage) -> None:
        """As Executor."""
        todo = begin(stage, self.name)
        for task in todo:
            forget_failure(stage, task)
        with Progress(stage.name, len(todo), "task") as progress:
            packed = self._packed(stage) if min(self._wanted, len(todo)) > 1 else None
            if packed is not None:
                self._share(stage, packed, todo, progress)
            else:
                for task in todo:
                    run_task(stage, task)
                    progress.advance()
        raise_failed(stage)

    def close(self) -> None:
        """As Executor."""
        _end(self._workers)

    def _packed(self, stage: Stage) -> bytes | None:
        """A stage for the workers; None where they cannot have it, which is said once, and this process does all."""
        try:
            packed = pack(stage)
        except InputError as error:
            why = str(error).partition(" - ")[0]
        else:
            if b"__main__" not in packed:
                return packed
            why = "What this build uses is defined in the running script, which a worker cannot import"
        say(f"{why}: this process does all by itself.")
        self._wanted = 1
        return None

    def _share(self, stage: Stage, packed: bytes, todo: list[int], progress: Progress) -> None:
        waiting, deaths = todo[::-1], Counter[int]()
        at_work: dict[Connection, tuple[_Worker, int]] = {}
        try:
            while waiting or at_work:
                for worker in self._idle(len(waiting), at_work):
                    task = waiting.pop()
                    at_work[worker.connection] = worker, task
                    worker.give(packed, task)
                for connection in wait(list(at_work)):
                    assert isinstance(connection, Connection), "nothing else is waited for"
                    worker, task = at_work.pop(connection)
                    if worker.finished():
                        progress.advance()
                        continue
                    self._workers.remove(worker)
                    worker.connection.close()
                    status = worker.process.wait()
                    deaths[task] += 1
                    if deaths[task] < TRIES:
                        waiting.append(task)
                        continue
                    record_lost(stage, task, _death(status))
                    progress.advance()
        except BaseException:
            _end(self._workers)
            raise

    def _idle(self, tasks: int, at_work: dict[Connection, tuple[_Worker, int]]) -> list[_Worker]:
        idle = [worker for worker in self._workers if worker.connection not in at_work]
        while len(idle) < tasks and len(self._workers) < self._wanted:
            worker = _start()
            self._workers.append(worker)
            idle.append(worker)
        return idle[:tasks]


class _Worker(NamedTuple):
    """A process and our end of the pipe to it."""

    process: subprocess.Popen[bytes]
    connection: Connection

    def give(self, packed: bytes, task: int) -> None:
        try:
            self.connection.send((packed, task))
        except OSError:
            return  # it is dead, which `finished` tells

    def finished(self) -> bool:
        """Whether it ended its task, well or not; if not, it is dead.

        Raises:
            StateError: it could not even note how the task ended.
        """
        try:
            fault = self.connection.recv()
        except (EOFError, OSError):
            return False
        if fault is not None:
            raise StateError(fault)
        return True


def _start() -> _Worker:
    ours, theirs = Pipe()
    with theirs:
        path = os.pathsep.join(place or os.getcwd() for place in sys.path)  # noqa: PTH109
        environment = {**dict.fromkeys(_ONE_THREAD, "1"), **os.environ, "PYTHONPATH": path}
        command = [sys.executable, "-P", "-c", _CHILD, str(theirs.fileno())]
        return _Worker(
            subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]), ours
        )


def serve() -> None:
    """What a worker does: tasks, until the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    jobs: list[tuple[bytes, int]] = []
    ready = threading.Semaphore(0)
    connection = Connection(int(sys.argv[1]))

    def listen() -> None:
        while True:
            try:
                jobs.append(connection.recv())
            except (EOFError, OSError):
                os._exit(1)  # the parent is gone, or done with this worker
            ready.release()

    threading.Thread(target=listen, daemon=True).start()
    packed, stage = b"", None
    while True:
        ready.acquire()
        content, task = jobs.pop()
        if stage is None or content != packed:
            packed, stage = content, pickle.loads(content)  # noqa: S301 - the parent made it
        try:
            run_task(stage, task)
        except KollmError as error:
            connection.send(str(error))
        else:
            connection.send(None)


def _end(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.connection.close()
        worker.process.kill()
    for worker in workers:
        worker.process.wait()
    workers.clear()


def _death(status: int) -> str:
    if status >= 0:
        return f"The process of a task ended by itself (exit code {status}), {TRIES} times - what it said stands above."
    return (
        f"The process of a task was killed (signal {-status}), {TRIES} times - it most likely needs more memory than this "
        "machine has: use fewer workers, or a machine with more."
    )
