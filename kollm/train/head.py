"""The language-model head on the supervised positions alone, where TRL's fused head would score every position.

TRL's fused head (1.16) leaves out masked positions on GPUs that have Triton, and nowhere else. On a processor the head is
a large part of a small model's work, and with the loss on completions half of the positions or more carry none.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from kollm.train.data import IGNORED


class HeadOutput(NamedTuple):
    """What the loss is made of.

    Attributes:
        log_probs: log-probabilities of the next token, shape (rows, length - 1), zero where masked.
        label_mask: which positions carry loss, of the same shape.
        aux_loss: how unevenly a mixture of experts is used, where the config asks for it; None elsewhere.
    """

    log_probs: torch.Tensor
    label_mask: torch.Tensor
    aux_loss: torch.Tensor | None


def add_compact_head(model: Any) -> None:
    """Make `model(..., labels=..., fused_lm_head=True)` return a HeadOutput; without that argument nothing changes.

    The logits are the model's own: what it does to them after its head (scaling in Granite, Cohere and HyperCLOVA X, a
    soft cap in Gemma 2) and what it returns beside them are in its forward, which runs as it is.
    """
    original = model.forward

    def forward(self: Any, *args: Any, fused_lm_head: bool = False, labels: Any = None, **kwargs: Any) -> Any:
        if not fused_lm_head:
            return original(*args, labels=labels, **kwargs)
        labels = labels[:, 1:]
        mask = labels != IGNORED
        with _only_states_at(self.base_model, mask):
            output = original(*args, **{**kwargs, "use_cache": False})
        scored = -functional.cross_entropy(output.logits[0].float(), labels[mask], reduction="none")
        # masked_scatter keeps a microbatch without labels connected to the model, with a gradient of zero
        log_probs = torch.zeros(mask.shape, device=scored.device).masked_scatter(mask, scored)
        return HeadOutput(log_probs, mask, getattr(output, "aux_loss", None))

    model.forward = types.MethodType(forward, model)


@contextmanager
def _only_states_at(backbone: Any, mask: torch.Tensor) -> Iterator[None]:
    """Have a decoder hand on the last states of some positions alone, as one row: shape (1, positions, hidden)."""

    def cut(_module: Any, _inputs: Any, output: Any) -> Any:
        output["last_hidden_state"] = output.last_hidden_state[:, :-1][mask][None]
        return output

    hook = backbone.register_forward_hook(cut)
    try:
        yield
    finally:
        hook.remove()
