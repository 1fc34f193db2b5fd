"""The offline engine of vLLM: the prompt's own token ids, LoRA in place, sampling and greedy.

Written to the documented interface of vLLM (0.8 to 0.33: `LLM`, `SamplingParams`, `LoRARequest`) and tested against a stand-in of it;
it has not run on a GPU yet. vLLM decides its own batches, keeps prompts that begin alike once, and shares the GPUs.
"""

from __future__ import annotations

from typing import Any

from accelerate import PartialState

from kollm.answer.engines import Asked, Weights
from kollm.core.errors import InputError
from kollm.core.files import read_json
from kollm.core.hashing import content_id
from kollm.services.local_model import LocalModel

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Sizes of LoRA that vLLM makes room for."""


class VllmEngine:
    """A model in vLLM on all GPUs of this machine."""

    def __init__(self, weights: Weights) -> None:
        try:
            import vllm
            from vllm.lora.request import LoRARequest
        except ImportError as error:
            raise InputError("The package 'vllm' is not installed - install it with: pip install vllm.") from error
        if PartialState().num_processes > 1:
            raise InputError("vLLM shares the GPUs of a machine itself - run kollm generate without accelerate launch.")
        config = read_json(weights.model.folder / "config.json")
        self.context = int(config.get("max_position_embeddings") or 2048)
        adapter = weights.adapter
        lora = {"enable_lora": True, "max_loras": 1, "max_lora_rank": _rank(adapter)} if adapter is not None else {}
        try:
            self._llm = vllm.LLM(
                model=str(weights.model.folder),
                dtype=weights.dtype,
                seed=0,
                tensor_parallel_size=_gpus(int(config.get("num_attention_heads") or 1)),
                max_model_len=self.context,
                skip_tokenizer_init=True,  # it gets token ids, and gives some
                trust_remote_code=False,
                generation_config="vllm",  # the preset alone decides, not what lies beside the weights
                **lora,
            )
        except (ValueError, NotImplementedError) as error:  # an architecture that it has not, or has without LoRA
            raise InputError(
                f"vLLM does not load '{(adapter or weights.model).name}' ({' '.join(str(error).split())}) - merge the adapter "
                "(kollm merge), or take --engine transformers."
            ) from error
        self._sampling = vllm.SamplingParams
        self._lora = LoRARequest(adapter.name, 1, str(adapter.folder)) if adapter is not None else None

    def answer(self, asked: Asked) -> list[list[int]]:
        prompts = [{"prompt_token_ids": list(prompt)} for prompt in asked.prompts]
        how = [self._sampling(**_settings(asked, key)) for key in asked.keys]
        finished = self._llm.generate(prompts, how, use_tqdm=False, lora_request=self._lora)
        return [_tokens(request.outputs[0], asked.ends) for request in finished]


def _settings(asked: Asked, key: Any) -> dict[str, Any]:
    """What vLLM's SamplingParams are for one prompt: its seed is its own, so that it does not depend on its batch."""
    params = asked.params
    drawn = {"temperature": 0.0}
    if params["do_sample"]:
        drawn = {name: params[name] for name in ("temperature", "top_k", "top_p")}
        drawn["seed"] = int(content_id([key])[7:15], 16)
    return {
        **drawn,
        "max_tokens": params["max_new_tokens"],
        "repetition_penalty": float(params["repetition_penalty"]),
        "ignore_eos": True,  # of the model's files; what ends an answer is what ended it in training
        "stop_token_ids": list(asked.ends),
        "detokenize": False,
    }


def _tokens(output: Any, ends: Any) -> list[int]:
    tokens = [int(token) for token in output.token_ids]
    stopped = output.finish_reason == "stop" and not set(tokens) & set(ends)
    return [*tokens, min(ends)] if stopped else tokens  # a version that leaves out the token that ended it


def _rank(adapter: LocalModel) -> int:
    """The room that an adapter needs.

    Raises:
        InputError: vLLM serves no adapter of its kind.
    """
    settings = read_json(adapter.folder / "adapter_config.json")
    more = [name for name in ("modules_to_save", "trainable_token_indices") if settings.get(name)]
    kind = "DORA" if settings.get("use_dora") else str(settings.get("peft_type"))
    if kind != "LORA" or more:
        what = f"trains {', '.join(more)}" if more else f"is of the kind {kind}"
        raise InputError(
            f"The adapter '{adapter.name}' {what}, and vLLM takes plain LoRA - merge it (kollm merge), or take --engine "
            "transformers."
        )
    ranks = [int(settings["r"]), *map(int, (settings.get("rank_pattern") or {}).values())]
    fitting = [rank for rank in RANKS if rank >= max(ranks)]
    if not fitting:
        raise InputError(
            f"The adapter '{adapter.name}' has rank {max(ranks)}, and vLLM takes up to {RANKS[-1]} - merge it."
        )
    return fitting[0]


def _gpus(heads: int) -> int:
    """GPUs that share the model: as many as there are and as divide its heads."""
    import torch

    return next(count for count in range(max(torch.cuda.device_count(), 1), 0, -1) if heads % count == 0)
