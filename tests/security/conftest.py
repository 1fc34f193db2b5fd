from __future__ import annotations

from pathlib import Path

import pytest

from kollm.recipe.schema import ToyBase

TEXT = "서울은 대한민국의 수도입니다. 물은 섭씨 0도에서 업니다. 오늘 날씨가 좋습니다. " * 20


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small whole model."""
    return make(tmp_path_factory.mktemp("models") / "base", seed=0)


@pytest.fixture(scope="session")
def other_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model of the same shape."""
    return make(tmp_path_factory.mktemp("others") / "base", seed=1)


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """An adapter as PEFT saves it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("adapters") / "adapter"
    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=["query_key_value"], task_type="CAUSAL_LM", init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder)
    return folder


def make(folder: Path, seed: int) -> Path:
    from kollm.train.toy import make_base

    spec = ToyBase(hidden_size=32, layers=2, heads=2, vocab_size=400, context=512, pretrain_steps=0, seed=seed)
    make_base("gpt_neox", spec, [TEXT], folder)
    return folder
