"""Functions on batches, run by worker processes in order; in this process where there is too little to share."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

_AHEAD = 3
"""Batches a worker may have waiting: enough that it never idles, few enough that memory stays flat."""

_worker: Any = None


class Pool:
    """Processes that all hold the same object and run its methods. Use as a context manager.

    The processes are forks of this one, so the object is shared, not copied; without `fork` there are none.

    Args:
        worker: the object.
        processes: how many; 0 runs everything in this process.
    """

    def __init__(self, worker: object, processes: int) -> None:
        self._worker = worker
        self._window = processes * _AHEAD
        self._executor: ProcessPoolExecutor | None = None
        if processes and "fork" in multiprocessing.get_all_start_methods():
            self._executor = ProcessPoolExecutor(
                processes, multiprocessing.get_context("fork"), initializer=_set_worker, initargs=(worker, os.getpid())
            )
            self._executor.submit(os.getpid).result()  # fork now, before this process has threads at work

    def map(self, method: Callable[[Any, Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """`method(worker, job)` for each job, in their order, a few jobs ahead.

        Args:
            method: a function of a module, or of the worker's class.
            jobs: what each call gets; pickled on its way to the process.
        """
        if self._executor is None:
            for job in jobs:
                yield method(self._worker, job)
            return
        waiting: deque[Future[Result]] = deque()
        for job in jobs:
            waiting.append(self._executor.submit(_call, method, job))
            if len(waiting) >= self._window:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)


def _set_worker(worker: object, parent: int) -> None:
    global _worker
    _worker = worker
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: int) -> None:
    """End this process when its parent is gone: killed with -9, it cannot say so, and the queue stays open."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _call(method: Callable[[Any, Job], Result], job: Job) -> Result:
    return method(_worker, job)
