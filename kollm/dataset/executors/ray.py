"""Tasks on a Ray cluster, through datatrove; without a cluster, on a Ray that is started on this machine."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kollm.core.counting import counted
from kollm.core.errors import MissingExtraError, StateError
from kollm.core.version import __version__
from kollm.dataset.executors import Stage
from kollm.dataset.executors.settings import RaySettings
from kollm.dataset.executors.task import forget_failure, raise_failed, record_lost

try:
    import ray
    from datatrove.executor import ray as datatrove_ray

    from kollm.dataset.executors import step
except ModuleNotFoundError as error:
    raise MissingExtraError(error.name or "ray", "ray") from error

TRIES = 2
"""How often a task is begun whose worker ends without a word."""


class RayExecutor(step.ClusterExecutor):
    """Runs tasks in Ray's workers.

    Args:
        workers: how many at once; None for as many as the cluster has room for.
        settings: what Ray is told.
    """

    name = "ray"

    def __init__(self, workers: int | None, settings: RaySettings) -> None:
        self._wanted, self._settings = workers, settings
        self._ours = False
        step.quiet_datatrove()

    def _run(self, stage: Stage, todo: list[int]) -> None:
        for task in todo:
            forget_failure(stage, task)
        workers = self._connect(stage.folder)
        with step.watched(stage, todo):
            for attempt in range(TRIES):
                if rest := step.lost(stage, todo):
                    self._attempt(stage, step.chunked(rest, workers, single=attempt > 0), workers)
        rest = step.lost(stage, todo)
        for task in rest:
            record_lost(
                stage,
                task,
                "Ray's worker ended each time before its task - it most likely needs more memory (mem_per_cpu_gb in "
                "--executor-settings).",
            )
        step.forget_running(stage, rest)
        raise_failed(stage)

    def close(self) -> None:
        """As Executor."""
        if self._ours:
            ray.shutdown()
            self._ours = False

    def _connect(self, folder: Path) -> int:
        """Join the cluster, or start one here; gives the workers that it has room for.

        Raises:
            StateError: it cannot be reached or has no room, or a machine of it does not see the folder or has another kollm.
        """
        if not ray.is_initialized():
            address = self._settings.address or os.environ.get("RAY_ADDRESS")
            started = {} if address else {"num_cpus": self._wanted and self._wanted * self._settings.cpus_per_task}
            try:
                with _importable():
                    ray.init(
                        address=address or "local",
                        include_dashboard=False,
                        log_to_driver=False,
                        logging_level=logging.ERROR,
                        **started,
                    )
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise StateError(
                    f"The Ray cluster '{address or 'of this machine'}' cannot be reached ({' '.join(str(error).split())[:200]}) - "
                    "check the address in --executor-settings or in RAY_ADDRESS."
                ) from error
            self._ours = True
        _check_machines(folder)
        has, cores = ray.cluster_resources(), self._settings.cpus_per_task
        room = min(has.get("CPU", 0) // cores, has.get("memory", 0) // (self._settings.mem_per_cpu_gb * cores * 2**30))
        if room < 1:
            raise StateError(
                f"The Ray cluster has no room for a worker of {counted(cores, 'core')} with {self._settings.mem_per_cpu_gb} GB each - ask "
                "for less (cpus_per_task, mem_per_cpu_gb in --executor-settings)."
            )
        return int(min(self._wanted or room, room))

    def _attempt(self, stage: Stage, chunks: Sequence[Sequence[int]], workers: int) -> None:
        Tasks(
            [step.TaskStep(stage, chunks)],
            tasks=len(chunks),
            workers=workers,
            cpus_per_task=self._settings.cpus_per_task,
            mem_per_cpu_gb=self._settings.mem_per_cpu_gb,
            logging_dir=str(stage.folder / "engine" / stage.name),
            skip_completed=False,  # the markers say what is done
        ).run()


class Tasks(datatrove_ray.RayPipelineExecutor):  # type: ignore[misc]
    """datatrove's executor, with a task of Ray's for each rank.

    That of datatrove 0.10.1 makes an actor for each: a Python that imports all anew, where the processes of tasks stay for the
    next one. In it a pool is forked, which waits for ever for a process that was killed.
    """

    def run(self) -> None:
        """Run all ranks. What became of one its tasks' notes say: no error is raised."""
        self.save_executor_as_json()
        memory = int(self.mem_per_cpu_gb * self.cpus_per_task * 2**30)
        remote = ray.remote(_run_rank).options(num_cpus=self.cpus_per_task, memory=memory, max_retries=0)
        shared, waiting = ray.put(self), deque(range(self.tasks))
        at_work: list[Any] = []
        try:
            while waiting or at_work:
                while waiting and len(at_work) < self.workers:
                    at_work.append(remote.remote(shared, waiting.popleft()))
                (ended, *_), at_work = ray.wait(at_work)
                with contextlib.suppress(ray.exceptions.RayError):
                    ray.get(ended)
        finally:
            for task in at_work:  # Ctrl-C
                ray.cancel(task, force=True)


def _run_rank(executor: Tasks, rank: int) -> None:
    executor._run_for_rank(rank, 1)


@contextlib.contextmanager
def _importable() -> Iterator[None]:
    """Let the workers of a Ray that is started now import what this process can."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(place or os.getcwd() for place in sys.path)  # noqa: PTH109
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _check_machines(folder: Path) -> None:
    """Ask every machine of the cluster for its kollm, and whether it sees the folder.

    Of one without kollm, tasks would end without a word.
    """

    def look(path: str) -> tuple[str, str, bool]:
        try:
            from kollm.core.version import __version__ as version
        except ModuleNotFoundError:
            version = "none"
        return socket.gethostname(), version, Path(path).is_dir()

    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    remote = ray.remote(look)
    asked = [
        remote.options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
            str(folder)
        )
        for node in nodes
    ]
    for host, version, sees in ray.get(asked):
        if version != __version__:
            raise StateError(
                f"The worker {host} has kollm {version}, and this process has {__version__} - install the same version everywhere."
            )
        if not sees:
            raise StateError(
                f"The worker {host} cannot see '{folder}' - name an output on a disk that all machines of the cluster share."
            )
