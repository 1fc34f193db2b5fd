"""A training that was killed goes on as if it had not been, bit for bit."""

import re
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from kollm.core.errors import StateError
from kollm.core.files import read_json
from kollm.train.launch import Machine, launch_command
from tests.processes import finish, start_training

STOPPING = Path(__file__).with_name("stopping.py")
SETTINGS = ("adapter.dropout=0.1", "trainer.num_train_epochs=2", "trainer.save_steps=4", "global_batch_size=6")


def kill(processes):
    """End all of them at once."""
    for process in processes:
        process.send_signal(signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "step"),
    [
        pytest.param(
            *(1, 4),
            marks=pytest.mark.nightly(
                "tests/run/test_run.py::test_killed_in_training_and_in_answering_it_ends_the_same"
            ),
        ),
        (2, 12),
    ],
)
def test_kill_and_resume_is_bitwise_the_same(
    processes, step, dataset, base, tmp_path, overrides, run_training, training_starter, capfd
):
    """Killed two steps after a checkpoint in the first epoch, and with two processes in the second: an epoch has nine steps."""
    overrides = (*overrides, f"trainer.packing={str(processes == 2).lower()}")
    whole, broken = tmp_path / "whole", tmp_path / "broken"

    def start(output, *program, **environment):
        settings = (*overrides, *SETTINGS)
        command = launch_command("demo", dataset, output, Machine("cpu"), base=base, overrides=settings)
        return start_training(training_starter, command, tmp_path, processes, *program, **environment)

    finish(start(whole))  # not in here, where an earlier test may have set torch's threads
    started = start(broken, STOPPING, STOP_AT=str(step + 2))
    while len(list(tmp_path.glob("stopped-*"))) < processes:
        assert all(process.running for process in started), started[0].output
        time.sleep(0.01)
    kill(started)
    assert not (broken / "training.json").exists()

    said = finish(start(broken))
    assert int(re.search(r"resuming from checkpoint-(\d+)", said)[1]) == step
    assert (whole / "adapter_model.safetensors").read_bytes() == (broken / "adapter_model.safetensors").read_bytes()
    first, second = read_json(whole / "metrics.json"), read_json(broken / "metrics.json")
    assert [e["loss"] for e in first["history"]] == [e["loss"] for e in second["history"]]
    assert [e["step"] for e in first["history"]] == list(range(1, first["steps"] + 1))
    assert first["heldout"] == second["heldout"]
    with sqlite3.connect(broken / "trackio" / "kollm.db") as database:
        logged = database.execute("SELECT run_id, step FROM metrics ORDER BY step").fetchall()
    assert [step for _, step in logged] == [e["step"] for e in second["history"]]
    assert len({run for run, _ in logged}) == 1
    run_training(*overrides, *SETTINGS, name="broken")
    assert "trained already" in capfd.readouterr().err


def test_killed_after_the_last_step_it_takes_no_step_more(run_training, monkeypatch):
    whole = run_training("trainer.max_steps=2", name="whole")
    with monkeypatch.context() as patch, pytest.raises(TypeError):
        patch.setattr("kollm.train.job._finish", None)
        run_training("trainer.max_steps=2")
    broken = run_training("trainer.max_steps=2")
    assert (broken.metrics["steps"], broken.metrics["throughput"]["steps"]) == (2, 0)
    assert (broken.losses, broken.metrics["heldout"]) == (whole.losses, whole.metrics["heldout"])
    assert all(weight.equal(broken.weights[name]) for name, weight in whole.weights.items())


def test_another_recipe_is_not_continued(run_training):
    run_training("trainer.max_steps=2")
    with pytest.raises(StateError, match="another adapter - choose another -o"):
        run_training("trainer.max_steps=2", "adapter.r=8")
    run_training("trainer.max_steps=2", "trainer.per_device_train_batch_size=1")  # without effect on the result


def test_a_checkpoint_that_was_cut_off_is_not_resumed_from(tmp_path):
    from kollm.train.sft import last_checkpoint  # type: ignore[attr-defined]

    for step, whole in ((5, True), (10, True), (15, False)):
        folder = tmp_path / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").write_text("{}")
        if whole:
            (folder / "complete.json").write_text("{}")
    assert last_checkpoint(tmp_path).name == "checkpoint-10"
