"""Merging keeps what the adapter says, or refuses."""

import pytest
import torch

from kollm.core.errors import InputError, StateError
from kollm.core.files import read_json
from kollm.train.export import merge


@pytest.mark.parametrize("quantization", ["none", "int8"])
def test_the_merged_model_says_what_the_adapter_says(run_training, tmp_path, quantization):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    settings = (f"quantization={quantization}", "base.dtype=bfloat16", "trainer.max_steps=6")
    adapter = run_training(*settings).folder
    parity = merge(adapter, tmp_path / "merged")
    assert parity.mean < 0.05
    files = {path.name for path in (tmp_path / "merged").iterdir()}
    assert "model.safetensors" in files and not any(name.endswith((".bin", ".pt", ".pkl")) for name in files)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert merged.dtype == torch.bfloat16
    assert merged.config.eos_token_id == merged.generation_config.eos_token_id == tokenizer.eos_token_id
    assert "### 지시어" in tokenizer.chat_template
    assert read_json(tmp_path / "merged" / "training.json")["merge"]["tolerance"] == 0.05


def test_a_difference_above_the_tolerance_saves_nothing(run_training, tmp_path):
    adapter = run_training("trainer.max_steps=6", "trainer.learning_rate=3e-2").folder
    with pytest.raises(StateError, match="nothing was saved"):
        merge(adapter, tmp_path / "merged", tolerance=0.0)
    assert not (tmp_path / "merged").exists()


def test_what_cannot_be_merged(run_training, tmp_path):
    with pytest.raises(InputError, match="is no adapter folder"):
        merge(tmp_path, tmp_path / "merged")
    adapter = run_training("adapter.method=adaption_prompt", "trainer.max_steps=1").folder
    with pytest.raises(InputError, match="cannot be merged"):
        merge(adapter, tmp_path / "merged")


def test_an_adapter_for_another_architecture_is_one_sentence(run_training, make_toy, tmp_path):
    adapter = run_training("trainer.max_steps=1").folder
    with pytest.raises(InputError, match="does not fit the model"):
        merge(adapter, tmp_path / "merged", base=str(make_toy("llama")))
