"""Shapes of bases of any architecture that transformers has, from their configuration alone: no weight is made or loaded."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from kollm.core.errors import InputError
from kollm.recipe.bases import BASES, BaseFacts, Linear, facts_from_config, written_out
from kollm.recipe.schema import ToyBase
from kollm.services.local_model import LocalModel, find_whole_model, load_config

_NO_TARGETS = (
    "lm_head",
    "embed_out",
    "router",
    "gate",
    "score",
    "shared_expert_gate",
    "vision",
    "visual",
    "audio",
    "projector",
)
"""Parts of a matrix's path that an adapter leaves alone: the head, the choice of experts, and what sees or hears."""
_SMALL: dict[str, int] = {
    "intermediate_size": 128,
    "moe_intermediate_size": 64,
    "shared_expert_intermediate_size": 64,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_topk": 2,
    "n_group": 1,
    "topk_group": 1,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "q_lora_rank": 32,
    "kv_lora_rank": 32,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 16,
    "qk_head_dim": 32,
    "v_head_dim": 32,
    "head_dim": 32,
    "sliding_window": 64,
    "hidden_size_per_layer_input": 32,
    "vocab_size_per_layer_input": 600,
}
"""Key of a configuration -> its value in a tiny model; a key that is absent or null stays so."""


def base_facts_of(model: str, revision: str | None = None) -> BaseFacts:
    """Shape of a base: known by its name, or read from the configuration in its folder or on the Hub.

    Raises:
        InputError: there is no such base, or transformers has no such architecture.
        ServiceError: the Hub cannot be reached.
    """
    if model in BASES:
        return BASES[model]
    found = find_whole_model(model, revision)
    config = load_config(found)
    if written_out(config.model_type):
        return facts_from_config(model, config.to_dict())
    return count(config, model)


def meta_model(config: Any) -> Any:
    """The network of a configuration without any memory for its weights.

    Raises:
        InputError: transformers makes no language model of it.
    """
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(copy.deepcopy(config))
    except (ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"transformers makes no language model of the architecture '{config.model_type}' ({reason}) - use another base."
        ) from error


def linear_targets(network: Any) -> list[str]:
    """Last names of the matrices that LoRA adapts on all layers, in the order of a layer."""
    names: dict[str, None] = {}
    for path, module in network.named_modules():
        if isinstance(module, torch.nn.Linear) and not _is_left_alone(path):
            names[path.rsplit(".", 1)[-1]] = None
    return list(names)


def count(config: Any, name: str) -> BaseFacts:
    """Facts of a configuration whose layers kollm has not written out, counted on the network itself."""
    network = meta_model(config)
    text = config.get_text_config()
    layers = int(text.num_hidden_layers)
    shapes: Counter[tuple[str, int, int]] = Counter()
    matrices = 0
    for path, module in network.named_modules():
        if isinstance(module, torch.nn.Linear) and not _is_left_alone(path):
            shapes[path.rsplit(".", 1)[-1], module.in_features, module.out_features] += 1
            matrices += module.weight.numel()
    chosen: dict[str, Linear] = {}
    for (last, inputs, outputs), _ in shapes.most_common():
        chosen.setdefault(last, Linear(inputs, outputs))
    head = int(text.vocab_size) * int(text.hidden_size)
    experts = sum(
        parameter.numel() for path, parameter in network.named_parameters() if parameter.dim() == 3 and "expert" in path
    )
    share = _active_experts(text)
    return BaseFacts(
        name,
        config.model_type,
        layers,
        int(text.hidden_size),
        int(text.num_attention_heads),
        int(getattr(text, "intermediate_size", 0) or 4 * text.hidden_size),
        int(text.vocab_size),
        int(getattr(text, "max_position_embeddings", 0) or 2048),
        "unknown",
        int(getattr(text, "num_key_value_heads", 0) or 0),
        tuple((last, linear.inputs, linear.outputs) for last, linear in chosen.items()),
        (sum(p.numel() for p in network.parameters()), matrices + experts, int(matrices + experts * share) + head),
    )


def small_config(config: Any, spec: ToyBase, vocabulary: int, special: dict[str, Any]) -> Any:
    """The configuration of a tiny model of the same architecture.

    Raises:
        InputError: no such model can be made.
    """
    small = copy.deepcopy(config)
    text = small.get_text_config()
    changes: dict[str, Any] = {
        **{key: value for key, value in _SMALL.items() if getattr(text, key, None) is not None},
        "vocab_size": vocabulary,
        "hidden_size": spec.hidden_size,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "max_position_embeddings": spec.context,
        **special,
    }
    if getattr(text, "num_key_value_heads", None) is not None:
        changes["num_key_value_heads"] = min(spec.heads, int(text.num_key_value_heads))
    if "qk_rope_head_dim" in changes and "head_dim" in changes:  # latent attention turns that part of a head alone
        changes["head_dim"] = changes["qk_rope_head_dim"]
    for key in ("layer_types", "no_rope_layers", "mlp_layer_types", "moe_layers", "mlp_only_layers"):
        value = getattr(text, key, None)
        if isinstance(value, list) and value:
            kinds = list(dict.fromkeys(value))  # one of each kind, as far as there is room
            changes[key] = [*kinds, *[kinds[-1]] * spec.layers][: spec.layers] if key != "mlp_only_layers" else []
    for key, value in changes.items():
        setattr(text, key, value)
    for key, value in special.items():
        setattr(small, key, value)
    meta_model(small)  # says what is wrong before any memory is taken
    return small


def whole_config(model: str, revision: str | None = None) -> Any:
    """The configuration of a base in a folder or on the Hub."""
    return load_config(find_whole_model(model, revision))


def local_config(folder: Path) -> Any:
    """The configuration of a base in a folder."""
    return load_config(LocalModel(folder, str(folder)))


def _is_left_alone(path: str) -> bool:
    parts = path.split(".")
    return any(part in _NO_TARGETS or any(word in part for word in ("vision", "visual", "audio")) for part in parts)


def _active_experts(text: Any) -> float:
    of = next(
        (
            getattr(text, key)
            for key in ("num_experts", "num_local_experts", "n_routed_experts")
            if getattr(text, key, None)
        ),
        0,
    )
    chosen = next((getattr(text, key) for key in ("num_experts_per_tok", "moe_topk") if getattr(text, key, None)), 0)
    return float(chosen) / float(of) if of and chosen else 1.0
