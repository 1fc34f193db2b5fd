"""The trainable part of a model: PEFT's configuration for each method, and what PEFT does not do by itself."""

from __future__ import annotations

import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import AdaptionPromptConfig, IA3Config, LoraConfig, PeftConfig, TaskType
from peft.tuners.lora import LoraLayer

from kollm.core.errors import InputError, RecipeError
from kollm.core.results import read_training_file
from kollm.recipe.schema import Adapter, Recipe
from kollm.recipe.tokens import PromptEncoder
from kollm.services.adapter_base import find_adapter_base
from kollm.services.local_model import LocalModel, adapter_config, find_model
from kollm.train import adaption_prompt

FUSED = "query_key_value"
"""GPT-NeoX's and BLOOM's attention matrix: for each head in turn, its query, key and value rows."""
_ATTENTION = {"gpt_neox": adaption_prompt.TARGET, "llama": "self_attn", "mistral": "self_attn", "gpt2": "attn"}


def peft_config(recipe: Recipe, model: Any) -> PeftConfig | None:
    """PEFT's configuration of a recipe's adapter for a model; None for full fine-tuning.

    Raises:
        RecipeError: a target that matches no module, more layers than there are, or an architecture that the method does
            not know.
    """
    adapter = recipe.adapter
    if adapter.method == "full":
        return None
    common = {"task_type": TaskType.CAUSAL_LM, "revision": recipe.base.revision}
    if adapter.method == "adaption_prompt":
        if (adapter.adapter_layers or 0) > model.config.num_hidden_layers:
            raise RecipeError(
                f"adapter.adapter_layers is {adapter.adapter_layers}, and the base has {model.config.num_hidden_layers} layers."
            )
        return AdaptionPromptConfig(
            target_modules=_attention(model.config.model_type),
            adapter_len=adapter.adapter_len,
            adapter_layers=adapter.adapter_layers or model.config.num_hidden_layers,
            **common,
        )
    check_targets(model, (*adapter.targets, *adapter.feedforward))
    common["modules_to_save"] = _embeddings(model) if recipe.base.new_tokens else None
    if adapter.method == "ia3":
        return IA3Config(
            target_modules=sorted({*adapter.targets, *adapter.feedforward}),
            feedforward_modules=sorted(adapter.feedforward),
            **common,
        )
    return LoraConfig(
        r=adapter.r,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=sorted(adapter.targets),
        use_dora=adapter.method == "dora",
        bias="none",
        **common,
    )


def check_targets(model: Any, names: tuple[str, ...]) -> None:
    """Every target must name a module: PEFT accepts a list of which only some match.

    Raises:
        RecipeError: a name that matches nothing; the message lists the names that there are.
    """
    leaves = {name for name, module in model.named_modules() if not any(True for _ in module.children())}
    for target in names:
        if not any(name == target or name.endswith(f".{target}") for name in leaves):
            there = sorted({name.rsplit(".", 1)[-1] for name in leaves if not name.rsplit(".", 1)[-1].isdigit()})
            raise RecipeError(f"The adapter's target '{target}' matches no module - the model has {', '.join(there)}.")


def finish_adapter(model: Any, recipe: Recipe) -> None:
    """Put the trainable tensors into fp32, and keep IA3 from scaling queries.

    TRL casts the adapter of a quantised base to bf16. There a step smaller than half a unit in the last place is lost:
    IA3's scales start at 1.0, where that is 0.004, and never move at the paper's learning rates.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if computes_in_base_type(recipe):
        _compute_in_input_type(model)
    if recipe.adapter.method == "ia3":
        _keep_queries(model)
        if recipe.quantization != "none":
            _keep_output_type(model, [module for module in model.modules() if hasattr(module, "ia3_l")])
    if recipe.base.new_tokens:
        _keep_output_type(model, [model.get_input_embeddings()])
    if recipe.adapter.method == "dora" and recipe.quantization == "int8":
        for module in model.modules():
            if type(module).__module__.startswith("bitsandbytes"):
                module.register_forward_pre_hook(_restore_scales)
    if recipe.adapter.method == "adaption_prompt":
        # PEFT's tuner took a reference to the base's forward before TRL put its head there.
        model.base_model.forward = model.get_base_model().forward


def computes_in_base_type(recipe: Recipe) -> bool:
    """Whether the base's bf16 is all that the model computes in, without autocast.

    Autocast puts every norm into fp32 and copies its input and output there and back: on an H100, 5.8B in microbatches of
    four packed bins, 15% more memory and 7% less speed (benchmarks/RESULTS.md). It is needed where fp32 tensors meet the base's in PEFT's or transformers' code; a LoRA's matrices
    are cast by kollm.
    """
    return recipe.adapter.method == "lora" and not recipe.base.new_tokens


def _compute_in_input_type(model: Any) -> None:
    """Make LoRA's fp32 matrices compute in the type of what they are given; their gradients stay fp32."""
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.cast_input_dtype_enabled = False
            for part in (*module.lora_A.values(), *module.lora_B.values()):
                part.forward = types.MethodType(_linear_in_input_type, part)


def _linear_in_input_type(self: torch.nn.Linear, states: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.linear(states, self.weight.to(states.dtype))


def _keep_queries(model: Any) -> None:
    """Zero the gradient of IA3's scales of queries on the fused matrix: the paper scales keys and values alone.

    They stay at 1.0, in PEFT's own format.
    """
    heads = model.config.num_attention_heads
    for name, module in model.named_modules():
        if name.endswith(FUSED) and hasattr(module, "ia3_l"):
            for scale in module.ia3_l.values():
                mask = torch.ones_like(scale).view(heads, 3, -1)
                mask[:, 0] = 0
                scale.register_hook(_masked(mask.view_as(scale)))


def _restore_scales(module: Any, _inputs: Any) -> None:
    """Give an int8 weight its scales back: on a processor, PEFT's DoRA moves it in every pass, which loses them."""
    if module.weight.CB is not None and module.weight.SCB is None:
        module.weight.SCB = module.state.SCB


def _keep_output_type(model: Any, modules: Sequence[Any]) -> None:
    """Give trained fp32 modules the output type of the base, or the next norm meets two types and refuses."""
    dtype = model.config.dtype
    for module in modules:
        module.register_forward_hook(lambda _module, _inputs, output: output.to(dtype))


def _masked(mask: torch.Tensor) -> Any:
    return lambda gradient: gradient * mask.to(gradient.device, gradient.dtype)


def _attention(architecture: str) -> str:
    if architecture not in _ATTENTION:
        raise RecipeError(
            f"adapter.method adaption_prompt does not know '{architecture}' - it knows {', '.join(sorted(_ATTENTION))}."
        )
    return _ATTENTION[architecture]


def _embeddings(model: Any) -> list[str]:
    """Last names of the input embedding and the head, which new tokens need trained."""
    wanted = {id(model.get_input_embeddings()), id(model.get_output_embeddings())}
    return sorted(name.rsplit(".", 1)[-1] for name, module in model.named_modules() if id(module) in wanted)


def find_start(start: str | Path, base: LocalModel, encoder: PromptEncoder) -> LocalModel:
    """The adapter that training starts from, found to be one of this base and this prompt.

    Raises:
        InputError: it is no adapter, or of a kind that cannot be trained on, of another base, or trained with another prompt.
    """
    found = find_model(start)
    if not found.is_adapter:
        raise InputError(
            f"'{found.name}' is no adapter (no adapter_config.json) - --start takes one; a base is --base."
        )
    config = adapter_config(found.folder)
    if config.get("peft_type") != "LORA":
        raise InputError(
            f"The adapter '{found.name}' is of the kind {config.get('peft_type')} - training starts from a LoRA or DoRA alone."
        )
    under = find_adapter_base(found)
    if under.content() != base.content():
        raise InputError(
            f"The adapter '{found.name}' belongs to the base '{under.name}', and the recipe's base is '{base.name}' - start from "
            "an adapter of the same base."
        )
    marker = found.folder / "training.json"
    trained = read_training_file(marker) if marker.is_file() else {}
    if trained.get("prompt_sha256") not in (None, encoder.sha256):
        raise InputError(
            f"The adapter '{found.name}' was trained with the prompt '{trained.get('prompt')}', and the recipe's is "
            f"'{encoder.name}' - set prompt to the adapter's."
        )
    return found.complete()


def adapter_of(start: LocalModel, wanted: Adapter) -> Adapter:
    """The settings of an adapter that training starts from; they take the place of the recipe's, as its weights do."""
    config = adapter_config(start.folder)
    targets = config.get("target_modules")
    return wanted.model_copy(
        update={
            "method": "dora" if config.get("use_dora") else "lora",
            "r": config["r"],
            "alpha": config["lora_alpha"],
            "dropout": config.get("lora_dropout", 0.0),
            "targets": tuple(sorted(targets)) if isinstance(targets, list) else (str(targets),),
        }
    )
