"""The line that trains: exactly what it says, configs that accelerate itself reads, and a device that runs full."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from kollm.cli import cli
from kollm.errors import InputError, RecipeError, StateError
from kollm.files import read_json
from kollm.recipe import load_recipe
from kollm.resources import resource_folder
from kollm.train.check import check_recipe, config_names
from kollm.train.launch import launch, launch_command

CONFIGS = resource_folder("accelerate_configs")
PROCESSES = {
    "cpu": 1,
    "cpu_2proc": 2,
    "single_gpu": 1,
    "ddp_4gpu": 4,
    "fsdp2_4gpu": 4,
    "fsdp2_2node_8gpu": 8,
    "zero2_4gpu": 4,
    "zero3_4gpu": 4,
}


def test_the_line_is_exactly_this() -> None:
    command = launch_command(
        "kullm-polyglot-5.8b",
        "ORG/ko-dolly@main",
        Path("out"),
        config="ddp_4gpu",
        processes=2,
        base=Path("base"),
        overrides=["trainer.learning_rate=1e-4", "loss=all"],
    )
    assert command == [
        *(sys.executable, "-m", "accelerate.commands.launch"),
        *("--config_file", str(CONFIGS / "ddp_4gpu.yaml"), "--num_processes", "2"),
        *("-m", "kollm.train", "--recipe", "kullm-polyglot-5.8b", "--dataset", "ORG/ko-dolly@main", "-o", "out"),
        *("--base", "base", "--set", "trainer.learning_rate=1e-4", "--set", "loss=all"),
    ]


def test_what_is_not_asked_for_is_not_on_the_line() -> None:
    command = launch_command("demo", "data", Path("out"), config=CONFIGS / "cpu.yaml")
    assert command[3:] == [
        *("--config_file", str(CONFIGS / "cpu.yaml")),
        *("-m", "kollm.train", "--recipe", "demo", "--dataset", "data", "-o", "out"),
    ]


def test_an_unknown_config_names_those_that_exist() -> None:
    with pytest.raises(
        InputError, match=r"no accelerate config 'ddp_3gpu' - use cpu, cpu_2proc, ddp_4gpu, .*zero3_4gpu"
    ):
        launch_command("demo", "data", Path("out"), config="ddp_3gpu")


def test_every_shipped_config_is_known_here() -> None:
    assert config_names() == sorted(PROCESSES)


@pytest.mark.parametrize("name", sorted(PROCESSES))
def test_accelerate_itself_reads_each_config(name: str) -> None:
    """Its loader refuses unknown keys; its launcher's own checks then see the values that the file holds."""
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    loaded = load_config_from_file(str(CONFIGS / f"{name}.yaml"))
    assert loaded.num_processes == PROCESSES[name]
    assert loaded.mixed_precision == "no"  # the recipe's base.dtype decides
    kind = loaded.distributed_type
    expected = {"cpu": "NO", "single_gpu": "NO", "cpu_2proc": "MULTI_GPU", "ddp_4gpu": "MULTI_GPU"}
    assert getattr(kind, "value", kind) == expected.get(name, "FSDP" if "fsdp" in name else "DEEPSPEED")
    if "fsdp" in name:
        assert loaded.fsdp_config["fsdp_version"] == 2
    if "zero" in name:
        assert loaded.deepspeed_config["zero_stage"] == int(name[4])
    line = launch_command("demo", "data", Path("out"), config=name)[3:]
    options = launch_command_parser().parse_args(line)
    assert (options.module, options.training_script) == (True, "kollm.train")


@pytest.mark.parametrize("name", sorted(PROCESSES))
def test_dry_run_prints_the_line_and_stops(name: str, tmp_path: Path) -> None:
    recipe = "kullm-polyglot-5.8b-fast"
    options = ["--dataset", "data", "-o", str(tmp_path / "out"), "--config", name, "--dry-run"]
    shown = CliRunner().invoke(cli, ["train", recipe, *options], catch_exceptions=False)
    assert shown.exit_code == 0
    assert shown.output == (
        f"accelerate launch --config_file {CONFIGS / name}.yaml -m kollm.train --recipe {recipe} --dataset data "
        f"-o {tmp_path / 'out'}\n"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("config", ["fsdp2_4gpu", "fsdp2_2node_8gpu", "zero3_4gpu"])
def test_quantised_weights_are_not_sharded(config: str) -> None:
    with pytest.raises(RecipeError, match=f"quantization is int8, and the config '{config}' shards the weights"):
        check_recipe(load_recipe("kullm-polyglot-12.8b"), config)
    check_recipe(load_recipe("kullm-polyglot-12.8b"), "zero2_4gpu")


STAND_IN = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index("-o") + 1])
batch = int(sys.argv[-1].rpartition("=")[2]) if "--set" in sys.argv else 8
with (folder / "batches").open("a") as file:
    file.write(f"{batch} ")
if batch > FITS:
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / "out_of_memory.json").write_text(json.dumps({"device_batch": batch}))
    sys.exit(1)
sys.exit(CODE)
"""
"""Stands in for a training whose device has room for FITS rows, and which then ends with CODE."""


@pytest.mark.parametrize(
    ("fits", "code", "batches"), [(8, 0, "8"), (2, 0, "8 4 2"), (0, 0, "8 4 2 1"), (2, 3, "8 4 2"), (8, 1, "8")]
)
def test_a_full_device_halves_the_batch_until_it_fits(fits: int, code: int, batches: str, tmp_path: Path) -> None:
    script = STAND_IN.replace("FITS", str(fits)).replace("CODE", str(code))
    command = [sys.executable, "-c", script, "-o", str(tmp_path)]
    if fits == 0 or code:
        with pytest.raises(
            StateError, match=r"Training ended with exit code [13] - .* resumes from its last checkpoint"
        ):
            launch(command)
    else:
        launch(command)
    assert (tmp_path / "batches").read_text().split() == batches.split()


@pytest.mark.slow
def test_a_training_that_runs_out_of_memory_goes_on_with_half_the_batch(
    recipe_file: Path, dataset: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is injected at the seventh step; the second start resumes at the fourth, with the same global batch."""
    from kollm.train.__main__ import main
    from kollm.train.sft import StepTrainer

    steps = ["trainer.max_steps=8", "adapter.dropout=0.0"]
    line = ["--recipe", str(recipe_file), "--dataset", str(dataset), "--base", str(base)]
    line += [part for value in steps for part in ("--set", value)]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert main([*line, "-o", str(whole)]) == 0

    real = StepTrainer.training_step

    def full(self: StepTrainer, *args: object, **options: object) -> torch.Tensor:
        if self.state.global_step == 6:
            raise torch.OutOfMemoryError("injected")
        loss: torch.Tensor = real(self, *args, **options)
        return loss

    monkeypatch.setattr(StepTrainer, "training_step", full)
    assert main([*line, "-o", str(broken)]) == 1
    assert read_json(broken / "checkpoints" / "out_of_memory.json") == {"device_batch": 4}
    monkeypatch.undo()
    assert main([*line, "-o", str(broken), "--set", "trainer.per_device_train_batch_size=2"]) == 0

    losses = [[entry["loss"] for entry in read_json(place / "metrics.json")["history"]] for place in (whole, broken)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert json.loads((broken / "training.json").read_text())["recipe"] == read_json(whole / "training.json")["recipe"]
