"""One, two and four processes: the same token-weighted losses, and the wrapper that really ran."""

import re
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from safetensors.torch import load_file

from kollm.core.files import read_json
from kollm.train import __main__ as entry
from kollm.train.launch import Machine, launch_command
from tests.processes import finish, start_training

SETTINGS = ("global_batch_size=12", "trainer.num_train_epochs=2")


def train(starter, dataset, base, output, processes, overrides):
    settings = (*overrides, *SETTINGS)
    command = launch_command("demo", dataset, output, Machine("cpu_2proc"), base=base, overrides=settings)
    finish(start_training(starter, command, output.parent, processes))
    metrics = read_json(output / "metrics.json")
    weights = load_file(output / "adapter_model.safetensors")
    return metrics, read_json(output / "training.json")["hardware"], weights


@pytest.mark.slow
def test_one_two_and_four_processes_agree(dataset, base, tmp_path, overrides, run_training, training_starter):
    trained = run_training(*SETTINGS)  # one, in this process
    one, weights = trained.metrics, trained.weights
    alone = read_json(trained.folder / "training.json")["hardware"]
    assert (alone["processes"], alone["wrapper"]) == (1, "PeftModelForCausalLM")
    assert one["steps"] % 2 == 0 and one["rows"]["train"] % 12 != 0, "the last step of an epoch must be a partial one"
    for processes in (2, 4):
        many, hardware, theirs = train(training_starter, dataset, base, tmp_path / str(processes), processes, overrides)
        assert (hardware["processes"], hardware["wrapper"]) == (processes, "DistributedDataParallel")
        assert [e["loss"] for e in many["history"]] == pytest.approx([e["loss"] for e in one["history"]], abs=1e-5)
        assert many["heldout"]["after"] == pytest.approx(one["heldout"]["after"], abs=1e-5)
        assert many["heldout"]["tokens"] == one["heldout"]["tokens"]
        for name, weight in weights.items():
            assert torch.allclose(weight, theirs[name], atol=1e-4, rtol=0), name


def test_an_error_that_all_processes_meet_is_said_once(dataset, base, tmp_path):
    command = launch_command("demo", dataset, tmp_path / "o", Machine("cpu_2proc"), base=base)
    done = subprocess.run([*command, "--set", "trainer.nonsense=1"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("trainer.nonsense is no key of SFTConfig") == 1, done.stderr


@pytest.mark.nightly("tests/core/test_processes.py::test_a_signal_to_the_parent_alone_ends_all_without_a_word")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "last", "processes"),
    [(signal.SIGKILL, "", 1), (signal.SIGINT, "Stopped. The same command resumes from its last checkpoint.", 2)],
)
def test_the_trainer_ends_with_its_command_and_one_trains_in_a_folder(
    number, last, processes, dataset, base, tmp_path, overrides
):
    long = ("trainer.save_steps=1", "trainer.num_train_epochs=500")
    sets = [part for value in (*overrides, *long) for part in ("--set", value)]
    command = [sys.executable, "-m", "kollm", "train", "demo", "--dataset", str(dataset), "--base", str(base)]
    command += ["-o", str(tmp_path / "adapter"), "--config", "cpu_2proc", "--processes", str(processes), *sets]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("adapter/checkpoints/checkpoint-*/complete.json")):
        assert first.poll() is None, first.stderr.read()
        time.sleep(0.005)
    below = psutil.Process(first.pid).children(recursive=True)
    assert len(below) >= 1 + processes, "the launcher and its trainers"
    if number == signal.SIGKILL:
        for process in below:
            process.suspend()  # so that it is at work for as long as the second one looks
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        assert second.returncode == 1
        assert re.search(
            r"Error: Another kollm process \(.*process \d+, since .*\) is at work in '.*adapter' - wait for it",
            second.stderr,
        )
        for process in below:
            process.resume()
    first.send_signal(number)
    _, said = first.communicate(timeout=120)
    assert not psutil.wait_procs(below, timeout=120)[1]
    assert [line for line in said.splitlines() if line and not line.startswith("train: ")] == ([last] if last else [])


@pytest.mark.parametrize(("rank", "waited"), [("0", []), ("1", [10.0])])
def test_an_error_of_one_process_alone_is_said_after_a_while(rank, waited, monkeypatch, capsys):
    slept = []
    monkeypatch.setenv("LOCAL_RANK", rank)
    monkeypatch.setattr(entry.time, "sleep", slept.append)  # type: ignore[attr-defined]
    assert entry.main(["--recipe", "nobody", "--dataset", "D", "-o", "O"]) == 1
    assert capsys.readouterr().err.startswith("Error: ")
    assert slept == waited


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU it starts")
def test_an_fsdp_config_does_not_fall_back_to_ddp_without_a_gpu(dataset, base, tmp_path, overrides, training_starter):
    command = launch_command("demo", dataset, tmp_path / "o", Machine("fsdp2_4gpu"), base=base, overrides=overrides)
    started = start_training(training_starter, command, tmp_path, 2, ACCELERATE_USE_FSDP="true")
    assert started[0].wait() == 1
    assert "Error: The accelerate config shares the weights (FSDP), and there is no GPU" in started[0].output
    assert not (tmp_path / "o").exists()
