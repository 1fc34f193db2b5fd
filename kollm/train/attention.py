"""How attention is computed: on a GPU by flash-attn where it is installed, else packed rows by torch's variable-length
kernel, or by sdpa row by row where that kernel is not; padded rows by sdpa.

Packed rows stand end to end in one long row. The kernel takes their boundaries (`cu_seq_lens`) and never looks across
them. `attention: sdpa` gets the same from a block-diagonal mask that transformers builds of `position_ids`, at the price
of (tokens)^2 work and memory.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import transformers
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import is_flash_attn_2_available

from kollm.core.errors import RecipeError
from kollm.recipe.schema import Recipe
from kollm.train.packing import PACKABLE, check_packing

VARLEN = "kollm_varlen"
"""The name under which transformers finds the kernel."""


_WITHOUT_EFFECT = frozenset(
    {
        "cu_seq_lens_q",
        "cu_seq_lens_k",
        "max_length_q",
        "max_length_k",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "position_ids",
        "use_cache",
    }
)
"""Arguments that transformers' models pass to every attention: the boundaries, and what is none of attention's business."""


def register() -> None:
    """Make `attn_implementation="kollm_varlen"` known to transformers."""
    AttentionInterface.register(VARLEN, varlen_attention)
    AttentionMaskInterface.register(VARLEN, varlen_mask)


def implementation(recipe: Recipe, model_type: str) -> str:
    """transformers' name for the attention that a recipe asks for on this machine.

    Args:
        recipe: the recipe.
        model_type: of the base, as in its `config.json`.

    Raises:
        RecipeError: one that this machine or base has not, or packing for a base whose packed rows may mix.
    """
    if recipe.trainer.get("packing"):
        check_packing(model_type)
    network = _network_class(model_type)
    gpu = torch.cuda.is_available()
    if recipe.attention == "auto":
        if gpu and is_flash_attn_2_available() and recipe.base.dtype != "float32" and model_type in PACKABLE:
            return "flash_attention_2"
        if recipe.trainer.get("packing"):
            return VARLEN
        return "sdpa" if network._supports_sdpa else "eager"
    if recipe.attention == "varlen":
        if not gpu:
            raise RecipeError("attention is varlen, whose kernel runs on a GPU alone - set attention to auto or sdpa.")
        if recipe.base.dtype == "float32":
            raise RecipeError("attention is varlen, whose kernel has no float32 - set attention to auto or sdpa.")
        check_packing(model_type)
        return VARLEN
    if recipe.attention == "flash_attention_2" and not gpu:
        raise RecipeError("attention is flash_attention_2, which runs on a GPU alone - set attention to auto or sdpa.")
    supported = {"sdpa": network._supports_sdpa, "flash_attention_2": network._supports_flash_attn}
    if not supported.get(recipe.attention, True):
        raise RecipeError(f"attention is {recipe.attention}, which '{model_type}' has not - set attention to auto.")
    return recipe.attention


def _network_class(model_type: str) -> Any:
    """transformers' class for language models of a type; the base class, which has eager alone, where there is none."""
    name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(model_type)
    return getattr(transformers, name) if isinstance(name, str) else transformers.PreTrainedModel


def varlen_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each packed row.

    Args:
        module: the attention module.
        query: (1, heads, tokens, head size), as are key and value (which may have fewer heads).
        key: see query.
        value: see query.
        attention_mask: where there is one, or no boundaries are given, sdpa computes.
        scaling: of the scores; by default 1 / sqrt(head size).
        dropout: of the weights; the kernel has none.
        sliding_window: how many tokens a token sees, itself included; by default all before it.
        kwargs: `cu_seq_lens_q`, `cu_seq_lens_k` (int32, rows + 1) and `max_length_q`, `max_length_k`; others are those
            that change nothing here.

    Raises:
        RecipeError: an argument that the kernel has not, such as the sinks of GPT-OSS or the soft cap of Gemma 2.
    """
    strange = sorted(name for name, given in kwargs.items() if given is not None and name not in _WITHOUT_EFFECT)
    if strange:
        raise RecipeError(
            f"The base's attention wants {', '.join(strange)}, which attention of packed rows has not - set trainer.packing "
            "to false and attention to auto."
        )
    boundaries = kwargs.get("cu_seq_lens_q")
    if boundaries is None or attention_mask is not None:
        if attention_mask is None:
            attention_mask = _band(query, sliding_window)
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
        return output, None
    if torch.is_autocast_enabled(query.device.type):
        # Where the embedding is trained, in fp32, rotation gives fp32 queries; autocast knows sdpa and not the kernel.
        kind = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(kind), key.to(kind), value.to(kind)
    if not _has_kernel(query):
        return _row_by_row(query, key, value, boundaries.tolist(), dropout, scaling, sliding_window), None
    if dropout:
        raise RecipeError("The variable-length kernel has no attention dropout - set it to 0 in the base's config.")
    packed = varlen_attn(
        *(states[0].transpose(0, 1) for states in (query, key, value)),
        boundaries,
        kwargs["cu_seq_lens_k"],
        kwargs["max_length_q"],
        kwargs["max_length_k"],
        scale=scaling,
        window_size=(sliding_window - 1 if sliding_window else -1, 0),  # all before, none after: causal
        **({"enable_gqa": True} if query.shape[1] != key.shape[1] else {}),
    )
    return packed[None], None


def _has_kernel(query: torch.Tensor) -> bool:
    return bool(query.is_cuda) and query.dtype != torch.float32


def _row_by_row(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    boundaries: list[int],
    dropout: float,
    scaling: float | None,
    sliding_window: int | None,
) -> torch.Tensor:
    """Each row's causal attention by itself; shapes as in `varlen_attention`, the result (1, tokens, heads, head size)."""
    lengths = [end - start for start, end in pairwise(boundaries)]
    grouped = query.shape[1] != key.shape[1]
    rows = []
    for q, k, v in zip(*(states.split(lengths, dim=2) for states in (query, key, value)), strict=True):
        band = _band(q, sliding_window)
        shape = {"dropout_p": dropout, "scale": scaling, "enable_gqa": grouped}
        rows.append(scaled_dot_product_attention(q, k, v, band, is_causal=band is None, **shape))
    return torch.cat(rows, dim=2).transpose(1, 2)


def _band(query: torch.Tensor, sliding_window: int | None) -> torch.Tensor | None:
    """Which tokens of a row each of its tokens sees, shape (1, 1, tokens, tokens); None where it is all before it."""
    length = query.shape[2]
    if sliding_window is None or length <= sliding_window:
        return None
    return torch.ones(1, 1, length, length, dtype=torch.bool, device=query.device).tril().triu(1 - sliding_window)


def varlen_mask(*args: Any, attention_mask: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor | None:
    """No mask for packed rows, whose boundaries say it all; sdpa's for padded ones."""
    if attention_mask is None:
        return None
    mask: torch.Tensor | None = sdpa_mask(*args, attention_mask=attention_mask, **kwargs)
    return mask
