"""The engine of transformers, with kollm's own beam search where that knows the architecture."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from accelerate import PartialState
from transformers import GenerationConfig, LogitsProcessorList, RepetitionPenaltyLogitsProcessor

from kollm.answer.beam_search import BeamSettings, beam_search, supports_beam_search
from kollm.answer.engines import Asked, Weights
from kollm.core.counting import counted
from kollm.core.errors import InputError
from kollm.core.hashing import content_id
from kollm.services.local_model import inference_dtype, load_adapter, load_network
from kollm.train import adaption_prompt  # noqa: F401 - teaches PEFT to load LLaMA-Adapter on GPT-NeoX


class TransformersEngine:
    """A model of transformers on this process's device, its adapter in place."""

    def __init__(self, weights: Weights) -> None:
        device = PartialState().device
        network = load_network(weights.model, inference_dtype(device.type, weights.dtype))
        network.generation_config = GenerationConfig()  # the preset alone decides, not what lies beside the weights
        if weights.adapter is not None:
            if weights.tokens > network.get_input_embeddings().num_embeddings:
                network.resize_token_embeddings(weights.tokens, pad_to_multiple_of=64)  # as training did for new tokens
            network = load_adapter(network, weights.adapter)
        self.network = network.to(device).eval()
        self.context: int = getattr(self.network.config, "max_position_embeddings", None) or 2048

    def answer(self, asked: Asked) -> list[list[int]]:
        try:
            return self._decode(asked)
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"The memory of {self.network.device} does not hold {counted(len(asked.prompts), 'prompt')} of up to "
                f"{counted(max(map(len, asked.prompts)), 'token')} at once - lower --batch-size and run the same command again; what was "
                "answered is kept."
            ) from error

    def _decode(self, asked: Asked) -> list[list[int]]:
        padded = asked.tokenizer.pad({"input_ids": list(asked.prompts)}, padding_side="left", return_tensors="pt")
        padded = padded.to(self.network.device)
        params, ends = asked.params, set(asked.ends)
        searched = params["num_beams"] > 1 and not params["do_sample"] and len(ends) == 1
        with torch.inference_mode():
            if searched and supports_beam_search(self.network):
                answers = beam_search(
                    self.network,
                    padded["input_ids"],
                    padded["attention_mask"],
                    BeamSettings(
                        params["num_beams"], params["max_new_tokens"], params["repetition_penalty"], min(ends)
                    ),
                )
            else:
                answers = self._generate(padded, asked)
        return [[int(token) for token in row] for row in answers.tolist()]

    def _generate(self, padded: Mapping[str, torch.Tensor], asked: Asked) -> torch.Tensor:
        """(rows, tokens) ids that transformers' own `generate` puts after the prompts."""
        params = asked.params
        config = GenerationConfig(
            **{key: params[key] for key in ("num_beams", "do_sample", "max_new_tokens")},
            **({key: params[key] for key in ("temperature", "top_k", "top_p")} if params["do_sample"] else {}),
            eos_token_id=list(asked.ends) or None,
            pad_token_id=asked.tokenizer.pad_token_id,
        )
        if params["do_sample"]:
            # Seeded by content, so that a batch samples the same answers after a resume.
            torch.manual_seed(int(content_id(list(asked.keys))[7:15], 16))
        # transformers 5.23 counts padding as tokens already said, so that with pad = EOS an answer depends on its
        # neighbours in the batch; its own processor can be told to skip the padding, but not through GenerationConfig.
        padding = (padded["attention_mask"] == 0).sum(dim=1).repeat_interleave(params["num_beams"])
        penalty = RepetitionPenaltyLogitsProcessor(float(params["repetition_penalty"]), prompt_ignore_length=padding)
        sequences: torch.Tensor = self.network.generate(
            input_ids=padded["input_ids"],
            attention_mask=padded["attention_mask"],
            generation_config=config,
            logits_processor=LogitsProcessorList([penalty]),
        )
        return sequences[:, padded["input_ids"].shape[1] :]
