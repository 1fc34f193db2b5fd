"""A key-value cache for beam search that moves only what the beams do not share.

transformers 5.23 copies the whole cache twice a token: once to append (`torch.cat`) and once to follow the beams
(`index_select`). The beams of one prompt share the prompt's keys and values, mostly the longer part, so those can stay
where they are, and room for the new tokens can be set aside once.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer


class BeamLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values, of shape (rows x beams, heads, tokens, head size), in buffers made once.

    Args:
        new_tokens: tokens that will follow the prompt; the first update is the prompt.
    """

    def __init__(self, new_tokens: int) -> None:
        super().__init__()
        self._new_tokens = new_tokens
        self._prompt = self._length = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values; returns all so far, as views of the buffers."""
        tokens = key_states.shape[-2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            shape = (*key_states.shape[:-2], tokens + self._new_tokens, key_states.shape[-1])
            self._keys, self._values = key_states.new_empty(shape), value_states.new_empty(shape)
            self._prompt = tokens
        end = self._length + tokens
        self._keys[:, :, self._length : end] = key_states
        self._values[:, :, self._length : end] = value_states
        self._length = end
        self.keys, self.values = self._keys[:, :, :end], self._values[:, :, :end]
        return self.keys, self.values

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Follow the beams: `beam_idx` names, for each row, the beam of the same prompt that it continues."""
        for buffer in (self._keys, self._values):
            generated = buffer[:, :, self._prompt : self._length]
            generated.copy_(generated.index_select(0, beam_idx.to(generated.device)))


def beam_cache(config: Any, new_tokens: int) -> Cache | None:
    """A cache for a model whose layers all attend to the whole text; None for others, which keep transformers' own."""
    layers = DynamicCache(config=config).layers
    if not layers or any(type(layer) is not DynamicLayer for layer in layers):
        return None
    return Cache(layers=[BeamLayer(new_tokens) for _ in layers])
