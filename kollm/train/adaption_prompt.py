"""LLaMA-Adapter (zero-gated adaption prompts, arXiv 2303.16199) for GPT-NeoX, which PEFT's own lacks.

Importing this module teaches PEFT; the adapter is saved and loaded in PEFT's own format:

    import kollm.train.adaption_prompt
    model = PeftModel.from_pretrained(base, "ORG/ADAPTER")
"""

from __future__ import annotations

import math
from typing import Any

import torch
from peft.tuners.adaption_prompt import config as peft_config
from peft.tuners.adaption_prompt import layer as peft_layer
from peft.tuners.adaption_prompt import model as peft_model
from transformers.models.gpt_neox.modeling_gpt_neox import apply_rotary_pos_emb

TARGET = "attention"
"""Name of GPT-NeoX's attention module, which the adapter wraps."""


class AdaptedNeoXAttention(peft_layer._BaseAdaptedAttention):  # type: ignore[misc]
    """Wraps GPT-NeoX's attention and adds what its queries read from `adapter_len` trained vectors, times a gate.

    The gate starts at zero, so that an untrained adapter changes nothing. The vectors have no position: they are not
    rotated, as in the paper's code.
    """

    def forward(self, hidden_states: torch.Tensor, **kwargs: Any) -> tuple[torch.Tensor, ...]:
        output, *rest = self.model(hidden_states, **kwargs)
        queries, _, _ = self._heads(self.model.query_key_value(hidden_states))
        cos, sin = kwargs["position_embeddings"]
        queries, _ = apply_rotary_pos_emb(queries, queries, cos, sin)
        prompt = self.adaption_prompt.to(hidden_states.dtype)
        _, keys, values = self._heads(self.model.query_key_value(prompt))
        scores = torch.matmul(queries, keys.transpose(2, 3)) / math.sqrt(self.model.head_size)
        weights = self.adaption_gate * scores.softmax(dim=-1, dtype=torch.float32)
        read = torch.matmul(weights.to(values.dtype), values)
        dense = self.model.dense
        added = dense(read.transpose(1, 2).reshape(output.shape))
        if dense.bias is not None:
            added = added - dense.bias  # the wrapped attention has added it once already
        return (output + added.to(output.dtype), *rest)

    def _heads(self, fused: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(rows, tokens, 3 * width) -> queries, keys and values of (rows, heads, tokens, head size)."""
        shape = (*fused.shape[:2], self.num_heads, 3 * self.model.head_size)
        queries, keys, values = fused.view(shape).transpose(1, 2).chunk(3, dim=-1)
        return queries, keys, values


def register() -> None:
    """Teach PEFT's adaption prompts the architecture `gpt_neox`; doing it twice changes nothing."""
    configs = peft_config.TRANSFORMERS_MODEL_CONFIG
    if "gpt_neox" in configs:
        return
    configs["gpt_neox"] = peft_config.ModelTypeConfig(
        compute_query_states=None,
        target_modules=TARGET,
        k_proj_layer="query_key_value",
        v_proj_layer="query_key_value",
        o_proj_layer="dense",
    )
    others = peft_model.AdaptedAttention

    def adapted(model_type: str, adapter_len: int, model: Any) -> Any:
        kind = AdaptedNeoXAttention if model_type == "gpt_neox" else others
        return kind(model_type, adapter_len, model)

    peft_model.AdaptedAttention = adapted


register()
