"""The launch line, the shipped configs, and what happens when memory is full."""

import re

import pytest
import torch
from click.testing import CliRunner

from kollm.cli import cli
from kollm.core.errors import InputError, RecipeError, StateError
from kollm.core.files import read_json
from kollm.recipe.load import load_recipe
from kollm.train import __main__ as entry
from kollm.train import launch as launching
from kollm.train.check import check_recipe, config_file, config_names
from kollm.train.sft import StepTrainer


def test_accelerate_reads_every_shipped_config():
    from accelerate.commands.config.config_args import load_config_from_file

    expected = {
        "cpu": ("NO", 1),
        "cpu_2proc": ("MULTI_GPU", 2),
        "single_gpu": ("NO", 1),
        "ddp_4gpu": ("MULTI_GPU", 4),
        "fsdp2_4gpu": ("FSDP", 4),
        "fsdp2_2node_8gpu": ("FSDP", 8),
        "zero2_4gpu": ("DEEPSPEED", 4),
        "zero3_4gpu": ("DEEPSPEED", 4),
    }
    assert set(config_names()) == set(expected)
    for name, (kind, processes) in expected.items():
        config = load_config_from_file(str(config_file(name)))
        assert (str(config.distributed_type.value), config.num_processes) == (kind, processes), name
        if kind == "FSDP":
            assert config.fsdp_config["fsdp_version"] == 2
        if kind == "DEEPSPEED":
            assert config.deepspeed_config["zero_stage"] == int(name[4])


@pytest.mark.parametrize("config", config_names())
def test_dry_run_prints_the_line_and_starts_nothing(config, tmp_path):
    arguments = ["train", "kullm-polyglot-5.8b-fast", "--dataset", "D", "-o", str(tmp_path / "o"), "--config", config]
    result = CliRunner().invoke(cli, [*arguments, "--dry-run"])
    assert result.exit_code == 0, result.output
    line = f"accelerate launch --config_file {re.escape(str(config_file(config)))}( --num_cpu_threads_per_process \\d+)?( --quiet)?"
    assert re.match(f"{line} -m kollm.train --recipe", result.stdout)
    assert not (tmp_path / "o").exists()


def test_a_sweep_is_one_command(tmp_path):
    arguments = [
        "train",
        "kullm-polyglot-5.8b",
        "--dataset",
        "D",
        "-o",
        str(tmp_path),
        "--dry-run",
        "--config",
        "ddp_4gpu",
    ]
    lines = CliRunner().invoke(cli, [*arguments, "--sweep", "global_batch_size=128,256,512"]).stdout.splitlines()
    assert [line.rsplit("=", 1)[1] for line in lines] == ["128", "256", "512"]


@pytest.mark.parametrize("config", ["fsdp2_4gpu", "zero3_4gpu"])
def test_int8_does_not_go_with_sharded_weights(config):
    with pytest.raises(RecipeError, match="quantised weights do not survive"):
        check_recipe(load_recipe("kullm-polyglot-5.8b"), config)
    check_recipe(load_recipe("kullm-polyglot-5.8b-fast"), config)
    check_recipe(load_recipe("kullm-polyglot-5.8b"), "zero2_4gpu")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["trainer.max_length=null"], r"trainer\.max_length is null - it must be 2 or more"),
        (["trainer.per_device_train_batch_size=0"], "batch_size is 0 - it must be 1 or more"),
        (["trainer.learning_rate=-1e-4"], r"learning_rate is -0\.0001 - it must be 0 or more"),
        (["trainer.max_steps=0"], "nothing to train in 0 steps"),
        (["trainer.num_train_epochs=0"], "nothing to train in 0 steps and 0"),
        (["adapter.targets=[]"], r"adapter\.targets is empty - name the matrices that lora adapts"),
    ],
)
def test_what_can_train_nothing_is_refused(settings, message):
    with pytest.raises(RecipeError, match=message):
        check_recipe(load_recipe("kullm-polyglot-5.8b", settings))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("trainer.loss_type=dft", r"trainer\.loss_type is set by kollm - use loss instead"),
        ("trainer.deepspeed=ds.json", r"trainer\.deepspeed is set by kollm - use --config instead"),
        ("trainer.label_smoothing_factor=0.1", r"label_smoothing_factor has no effect in kollm - leave it out"),
    ],
)
def test_a_trainer_key_that_would_change_nothing_is_refused(setting, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("kullm-polyglot-5.8b", [setting])


def test_bloom_has_no_packing_and_eager_attention_alone():
    bloom = ["base.model=bigscience/bloom-560m", "base.revision=null"]
    with pytest.raises(RecipeError, match="packed rows of a 'bloom' base"):
        check_recipe(load_recipe("kullm-polyglot-5.8b-fast", bloom))
    with pytest.raises(RecipeError, match="BLOOM has eager attention alone"):
        check_recipe(load_recipe("kullm-polyglot-5.8b", [*bloom, "attention=sdpa"]))


def test_an_unknown_config_lists_the_known():
    with pytest.raises(InputError, match="'nope' - use cpu, cpu_2proc"):
        config_file("nope")


def test_out_of_memory_halves_the_device_batch_and_goes_on(monkeypatch, dataset, base, tmp_path, overrides, capfd):
    """The device batch of 4 fails at step 3, after a checkpoint; the run goes on with 2, at the same global batch."""
    output = tmp_path / "adapter"
    step = StepTrainer.training_step

    def limited(self, *args, **kwargs):
        if self.step_layout.device_batch > 2 and self.state.global_step >= 2:
            raise torch.OutOfMemoryError("injected")
        return step(self, *args, **kwargs)

    def in_this_process(_module, arguments, _environment):
        return entry.main(arguments[arguments.index("kollm.train") + 1 :])

    monkeypatch.setattr(StepTrainer, "training_step", limited)
    monkeypatch.setattr(launching, "run_module", in_this_process)
    settings = (*overrides, "trainer.per_device_train_batch_size=4", "trainer.save_steps=2", "trainer.max_steps=5")
    launching.launch(
        launching.launch_command("demo", dataset, output, launching.Machine("cpu"), base=base, overrides=settings)
    )
    said = capfd.readouterr().err
    assert "out of memory, going on with trainer.per_device_train_batch_size=2" in said
    assert "resuming from checkpoint-2" in said
    halved = read_json(output / "metrics.json")
    assert [entry["step"] for entry in halved["history"]] == [1, 2, 3, 4, 5]

    undisturbed = tmp_path / "undisturbed"
    settings = (*overrides, "trainer.per_device_train_batch_size=2", "trainer.save_steps=2", "trainer.max_steps=5")
    launching.launch(
        launching.launch_command("demo", dataset, undisturbed, launching.Machine("cpu"), base=base, overrides=settings)
    )
    expected = [entry["loss"] for entry in read_json(undisturbed / "metrics.json")["history"]]
    assert [entry["loss"] for entry in halved["history"]] == pytest.approx(expected, abs=1e-5)


def test_memory_that_is_full_at_the_last_heldout_loss_is_out_of_memory_too(monkeypatch, run_training, tmp_path):
    measure = StepTrainer.heldout_loss

    def limited(self):
        if self.state.global_step:
            raise torch.OutOfMemoryError("injected")
        return measure(self)

    monkeypatch.setattr(StepTrainer, "heldout_loss", limited)
    with pytest.raises(StateError, match=r"memory is full at trainer\.per_device_train_batch_size=4"):
        run_training("trainer.max_steps=2")
    assert read_json(tmp_path / "adapter" / "checkpoints" / "out_of_memory.json") == {"device_batch": 4}
    monkeypatch.undo()
    halved = run_training("trainer.max_steps=2", "trainer.per_device_train_batch_size=1")
    assert (halved.metrics["steps"], halved.metrics["throughput"]["steps"]) == (2, 0)  # from its last checkpoint
    assert halved.metrics["heldout"]["after"] > 0


def test_a_failed_training_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(launching, "run_module", lambda *_: 3)
    with pytest.raises(StateError, match=r"exit code 3 - the lines above say why\.$"):
        launching.launch(["python", "-m", "module", "-o", str(tmp_path)])
    (tmp_path / "checkpoints" / "checkpoint-4").mkdir(parents=True)
    (tmp_path / "checkpoints" / "checkpoint-4" / "complete.json").write_text("{}")
    monkeypatch.setattr(launching, "run_module", lambda *_: 137)
    with pytest.raises(StateError, match=r"ended by the signal SIGKILL\. The same command resumes from its last"):
        launching.launch(["python", "-m", "module", "-o", str(tmp_path)])


@pytest.mark.parametrize(
    ("chosen", "ours"),
    [({}, "expandable_segments:True"), ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:128"}, None)],
)
def test_the_allocator_is_told_to_grow_its_blocks_unless_the_user_has_chosen(monkeypatch, chosen, ours):
    monkeypatch.setattr(entry.os, "environ", dict(chosen))  # type: ignore[attr-defined]
    assert entry.main(["--recipe", "nobody", "--dataset", "D", "-o", "O"]) == 1
    assert entry.os.environ.get("PYTORCH_ALLOC_CONF") == ours  # type: ignore[attr-defined]
