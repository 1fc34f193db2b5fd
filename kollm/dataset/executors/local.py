from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from kollm.dataset.executors import Stage


class LocalExecutor:
    name = "local"

    def __init__(self, workers: int = 0) -> None:
        self._workers = workers

    def run(self, stage: Stage) -> None:
        done = stage.folder / "done" / stage.name
        done.mkdir(parents=True, exist_ok=True)
        todo = [task for task in range(stage.tasks) if not (done / str(task)).exists()]
        if self._workers and len(todo) > 1:
            with ProcessPoolExecutor(self._workers, multiprocessing.get_context("forkserver")) as pool:
                for task, _ in zip(todo, pool.map(stage.work, todo), strict=True):
                    (done / str(task)).touch()
            return
        for task in todo:
            stage.work(task)
            (done / str(task)).touch()
