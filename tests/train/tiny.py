"""Random models of two narrow layers, of any architecture that transformers has, and what a trainer needs beside one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "global_head_dim": 8,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 64,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
}


def tiny_model(architecture: str, attention: str = "sdpa", **changes: Any) -> Any:
    """A model in evaluation mode, the same for the same arguments."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, **{**SHAPE, **EXPERTS, **changes})
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=torch.float32).eval()


def word_tokenizer(words: int) -> Any:
    """A tokenizer of so many words, `w1` and so on; its end of text, which is its padding too, is 0."""
    ids = {"<eos>": 0, **{f"w{number}": number for number in range(1, words + 1)}}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(ids, unk_token="<eos>")), eos_token="<eos>", pad_token="<eos>"
    )


def trainer_arguments(output: Path, **changes: Any) -> SFTConfig:
    """SFTConfig on a processor in fp32 that writes nothing."""
    values = {
        "output_dir": str(output),
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "remove_unused_columns": False,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "gradient_checkpointing": False,
        "max_length": 128,
    }
    return SFTConfig(**{**values, **changes})
