"""The language-model head on the supervised positions alone, where TRL's fused head would score every position.

TRL's fused head (1.16) leaves out masked positions on GPUs that have Triton, and nowhere else. On a processor the head is
a large part of a small model's work, and with the loss on completions half of the positions or more carry none.
"""

from __future__ import annotations

import types
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from kollm.train.data import IGNORED


class HeadOutput(NamedTuple):
    """Log-probabilities of the next token, shape (rows, length - 1), zero where masked; and the mask itself."""

    log_probs: torch.Tensor
    label_mask: torch.Tensor


def add_compact_head(model: Any) -> None:
    """Make `model(..., labels=..., fused_lm_head=True)` return a HeadOutput; without that argument nothing changes."""
    original = model.forward

    def forward(self: Any, *args: Any, fused_lm_head: bool = False, labels: Any = None, **kwargs: Any) -> Any:
        if not fused_lm_head:
            return original(*args, labels=labels, **kwargs)
        kwargs["use_cache"] = False
        hidden = self.base_model(*args, **kwargs).last_hidden_state[:, :-1]
        labels = labels[:, 1:]
        mask = labels != IGNORED
        logits = self.get_output_embeddings()(hidden[mask]).float()
        scored = -functional.cross_entropy(logits, labels[mask], reduction="none")
        # masked_scatter keeps a microbatch without labels connected to the model, with a gradient of zero
        return HeadOutput(torch.zeros(mask.shape, device=scored.device).masked_scatter(mask, scored), mask)

    model.forward = types.MethodType(forward, model)
