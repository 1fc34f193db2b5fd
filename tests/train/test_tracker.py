"""One training is one run in trackio's database, whatever killed it in between."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import Starter

SCRIPT = """
import os, signal, sqlite3, sys, time
from pathlib import Path
from types import SimpleNamespace
from transformers import TrainerState
from kollm.train.tracker import Tracker

output, first, last, end = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]


def written():
    try:
        with sqlite3.connect(output / "trackio" / "kollm.db") as database:
            return database.execute("SELECT max(step) FROM metrics").fetchone()[0]
    except sqlite3.OperationalError:  # it is being made
        return None


state = TrainerState(global_step=first, is_world_process_zero=True)
state.log_history = [{"loss": 1 / step, "step": step} for step in range(1, first + 1)]
tracker = Tracker(output)
tracker.on_train_begin(SimpleNamespace(run_name=None), state, None)
for state.global_step in range(first + 1, last + 1):
    tracker.on_log(None, state, None, {"loss": 1 / state.global_step})
    while state.global_step == last - 1 and written() != last - 1:  # the kill may lose the last step, and no other
        time.sleep(0.05)
if end == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
tracker.on_train_end(None, state, None)
"""


Training = Callable[..., None]


@pytest.fixture
def train(training_starter: Starter, tmp_path: Path) -> Training:
    """A function that logs the steps after `first`, as a training resumed from there does, up to `last`."""
    program = tmp_path / "train.py"
    program.write_text(SCRIPT, encoding="utf-8")

    def train(output: Path, first: int, last: int, end: str = "finish") -> None:
        process = training_starter.start([output, first, last, end], tmp_path, {}, program)
        assert process.wait() == (None if end == "kill" else 0), process.output

    return train


def runs(output: Path) -> dict[str, list[int]]:
    """The steps of each run, in the order of logging."""
    found: dict[str, list[int]] = {}
    with sqlite3.connect(output / "trackio" / "kollm.db") as database:
        for run, step in database.execute("SELECT run_id, step FROM metrics ORDER BY id"):
            found.setdefault(run, []).append(step)
    return found


@pytest.mark.slow
def test_a_training_that_was_killed_twice_is_one_run_with_each_step_once(train: Training, tmp_path: Path) -> None:
    train(tmp_path / "adapter", 0, 7, "kill")
    (first,) = runs(tmp_path / "adapter")
    train(tmp_path / "adapter", 4, 9, "kill")  # from a checkpoint before the kill: steps 5 and 6 come again
    train(tmp_path / "adapter", 9, 10)  # from one at the kill, whose last step trackio had not written
    assert {run: sorted(steps) for run, steps in runs(tmp_path / "adapter").items()} == {first: list(range(1, 11))}


@pytest.mark.slow
def test_a_training_without_a_checkpoint_begins_its_run_anew(train: Training, tmp_path: Path) -> None:
    train(tmp_path / "adapter", 0, 3, "kill")
    train(tmp_path / "adapter", 0, 4)
    assert list(runs(tmp_path / "adapter").values()) == [[1, 2, 3, 4]]
