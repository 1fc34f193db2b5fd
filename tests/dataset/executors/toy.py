"""Work for the executors' tests, which the workers import; and a small build."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from functools import partial
from pathlib import Path

from kollm.core.errors import InputError
from kollm.core.files import write_atomic
from kollm.dataset.executors import Stage


def write(folder: Path, task: int) -> int:
    """A file whose bytes depend on the task alone; the task is done as often as `runs` has lines of it."""
    with (folder / "runs").open("a") as file:
        file.write(f"{task} {os.getpid()}\n")
    write_atomic(folder / "out" / f"{task}.bin", hashlib.sha256(str(task).encode()).digest() * 100)
    return 10


def fail_some(folder: Path, task: int) -> int:
    if task in (2, 5):
        raise InputError(f"Row {task} is empty - fill it.")
    return write(folder, task)


def crash_some(folder: Path, task: int) -> int:
    if task == 1:
        raise ZeroDivisionError("one over nought")
    return write(folder, task)


def die(folder: Path, task: int) -> int:
    """Task 2 is killed the first time, task 3 each time."""
    first = not (folder / f"died-{task}").exists()
    if task == 3 or (task == 2 and first):
        (folder / f"died-{task}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return write(folder, task)


def slow(folder: Path, task: int) -> int:
    """Begins, and waits for the file `go`."""
    (folder / f"begun-{task}").touch()
    while not (folder / "go").exists():
        time.sleep(0.02)
    return write(folder, task)


def threads(folder: Path, task: int) -> None:
    write_atomic(folder / "out" / f"{task}.bin", os.environ.get("OMP_NUM_THREADS", ""))


def stage(folder: Path, work=write, tasks: int = 6) -> Stage:
    (folder / "out").mkdir(parents=True, exist_ok=True)
    return Stage("toy", tasks, partial(work, folder), folder)


def results(folder: Path) -> dict[int, bytes]:
    return {int(path.stem): path.read_bytes() for path in (folder / "out").glob("*.bin")}


def runs(folder: Path) -> list[int]:
    """The tasks that were done, as often as they were."""
    path = folder / "runs"
    return sorted(int(line.split()[0]) for line in path.read_text().splitlines()) if path.exists() else []


def expected(tasks: int) -> dict[int, bytes]:
    return {task: EXPECTED[task] for task in range(tasks)}


SHARD_ROWS = 40


def build(path: Path, output: Path, executor=None) -> dict[str, bytes]:
    """The files of a build of some rows."""
    from kollm.dataset.pipeline import SourceInput, build_dataset  # no worker of the other work needs it
    from kollm.dataset.work import work_place

    options = {"translator": "none", "filters": "none", "processes": 0}
    build_dataset([SourceInput("gpt4_llm", path)], output=output, executor=executor, **options)
    assert not work_place(output).exists()
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in output.rglob("*") if path.is_file()}


EXPECTED = {task: hashlib.sha256(str(task).encode()).digest() * 100 for task in range(6)}
