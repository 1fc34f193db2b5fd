"""Weights that are shared over processes (FSDP2, really, over gloo): saved whole, set aside to be pushed, resumed bitwise."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from kollm.core.errors import RecipeError, StateError
from kollm.core.files import read_json
from kollm.recipe.load import load_recipe
from kollm.train.check import check_recipe
from kollm.train.job import _check_saved
from kollm.train.outbox import waiting
from tests.processes import finish
from tests.servers.loopback import free_port

PROGRAM = Path(__file__).with_name("fsdp_on_a_processor.py")
SETTINGS = ("trainer.max_steps=3", "trainer.save_steps=1")


def start(starter, dataset, base, output, overrides, kind, **environment):
    """Two processes with what accelerate's launcher gives them for a config with `fsdp_version: 2`."""
    fsdp = {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_STATE_DICT_TYPE": kind,
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_RESHARD_AFTER_FORWARD": "true",
        "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
        "FSDP_OFFLOAD_PARAMS": "false",
    }
    shared = {
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    shared |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", **fsdp, **environment}
    arguments = ["--recipe", "demo", "--dataset", dataset, "--base", base, "-o", output, "--outbox"]
    arguments += [part for value in (*overrides, *SETTINGS) for part in ("--set", value)]
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    return [starter.start(arguments, output.parent, {**shared, **rank}, PROGRAM) for rank in ranks]


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        "SHARDED_STATE_DICT",
        pytest.param(
            "FULL_STATE_DICT",
            marks=pytest.mark.nightly(
                "tests/train/exact/test_sharded.py::test_a_sharded_training_saves_whole_adapters"
            ),
        ),
    ],
)
def test_a_sharded_training_saves_whole_adapters(
    kind, dataset, base, tmp_path, overrides, run_training, training_starter
):
    alone = run_training(*SETTINGS, name="alone")
    output = tmp_path / "sharded"
    for process in start(training_starter, dataset, base, output, overrides, kind, DIE_AFTER="2"):
        process.wait()
    checkpoint = output / "checkpoints" / "checkpoint-2"
    assert (checkpoint / "pytorch_model_fsdp_0").is_dir() == (kind == "SHARDED_STATE_DICT")
    assert [folder.name for folder in waiting(output)] == ["step-1"], "it died before the second was set aside"

    said = finish(start(training_starter, dataset, base, output, overrides, kind))
    assert "train: resuming from checkpoint-2" in said
    assert read_json(output / "training.json")["hardware"]["wrapper"] == "FSDPPeftModelForCausalLM"
    assert [folder.name for folder in waiting(output)] == ["step-1", "step-2", "step-3"]
    losses = [entry["loss"] for entry in read_json(output / "metrics.json")["history"]]
    assert losses == pytest.approx(alone.losses, abs=1e-5)
    weights = load_file(output / "adapter_model.safetensors")
    assert weights.keys() == alone.weights.keys()
    for name, weight in alone.weights.items():
        assert torch.allclose(weight, weights[name], atol=1e-4, rtol=0), name
    last, first = (load_file(output / "outbox" / f"step-{step}" / "adapter_model.safetensors") for step in (3, 1))
    assert all(torch.equal(last[name], weight) for name, weight in weights.items())
    assert not all(torch.equal(first[name], weight) for name, weight in weights.items())


def test_a_training_that_saved_no_weights_is_not_done(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(StateError, match="was saved without its weights"):
        _check_saved(tmp_path)


def test_zero3_that_gathers_no_weights_is_refused_before_training(tmp_path):
    config = tmp_path / "zero3.yaml"
    config.write_text("distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 3}\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"zero3_save_16bit_model: true"):
        check_recipe(load_recipe("kullm-polyglot-5.8b-fast"), config)
