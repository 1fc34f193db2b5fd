"""Facts on base models, so that planning and smoke runs need neither network nor weights.

Shapes are those of the models' published configs; parameter counts are computed from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kollm.core.errors import InputError
from kollm.core.files import read_json


class Linear(NamedTuple):
    """A weight matrix of one layer."""

    inputs: int
    outputs: int

    @property
    def size(self) -> int:
        return self.inputs * self.outputs


@dataclass(frozen=True, slots=True)
class BaseFacts:
    """Shape and licence of one base model.

    Attributes:
        hub_id: where it is published.
        architecture: transformers' model type.
        layers: number of transformer layers.
        hidden: width.
        heads: attention heads.
        intermediate: width of the feed-forward part.
        vocabulary: rows of the embedding.
        context: longest input, in tokens.
        licence: SPDX identifier, or the publisher's name for it.
        kv_heads: key and value heads where fewer than `heads`; 0 for all.
        matrices: name, inputs and outputs of a layer's matrices, for an architecture whose layers are not written out here.
        counted: parameters of such a one: all, those in matrices, and those that a token is multiplied with.
    """

    hub_id: str
    architecture: str
    layers: int
    hidden: int
    heads: int
    intermediate: int
    vocabulary: int
    context: int
    licence: str
    kv_heads: int = 0
    matrices: tuple[tuple[str, int, int], ...] = ()
    counted: tuple[int, int, int] = (0, 0, 0)

    @property
    def linears(self) -> dict[str, Linear]:
        """The weight matrices of one layer, by the module's last name."""
        if self.matrices:
            return {name: Linear(inputs, outputs) for name, inputs, outputs in self.matrices}
        h, i = self.hidden, self.intermediate
        if self.architecture == "llama":
            kv = h // self.heads * (self.kv_heads or self.heads)
            return {
                "q_proj": Linear(h, h),
                "k_proj": Linear(h, kv),
                "v_proj": Linear(h, kv),
                "o_proj": Linear(h, h),
                "gate_proj": Linear(h, i),
                "up_proj": Linear(h, i),
                "down_proj": Linear(i, h),
            }
        return {
            "query_key_value": Linear(h, 3 * h),
            "dense": Linear(h, h),
            "dense_h_to_4h": Linear(h, i),
            "dense_4h_to_h": Linear(i, h),
        }

    @property
    def linear_parameters(self) -> int:
        """Weights of all layers' matrices: what int8 and NF4 quantise."""
        return self.counted[1] or self.layers * sum(linear.size for linear in self.linears.values())

    @property
    def head_parameters(self) -> int:
        return self.vocabulary * self.hidden

    @property
    def matmul_parameters(self) -> int:
        """Parameters that every token is multiplied with: the layers' matrices and the head, not the embedding."""
        return self.counted[2] or self.linear_parameters + self.head_parameters

    @property
    def parameters(self) -> int:
        """All parameters, biases, norms and the embedding included."""
        if self.counted[0]:
            return self.counted[0]
        biases = 0
        norms = self.layers * 2 * self.hidden + self.hidden
        embeddings = 2 * self.head_parameters
        if self.architecture != "llama":  # linear layers with bias, LayerNorm with bias
            biases = self.layers * sum(linear.outputs for linear in self.linears.values())
            norms *= 2
        if self.architecture == "bloom":  # head tied to the embedding, which has a LayerNorm of its own
            embeddings = self.head_parameters
            norms += 2 * self.hidden
        return self.linear_parameters + biases + norms + embeddings


def _neox(hub_id: str, layers: int, hidden: int, heads: int, vocabulary: int) -> BaseFacts:
    return BaseFacts(hub_id, "gpt_neox", layers, hidden, heads, 4 * hidden, vocabulary, 2048, "Apache-2.0")


def _bloom(hub_id: str, layers: int, hidden: int, heads: int) -> BaseFacts:
    return BaseFacts(hub_id, "bloom", layers, hidden, heads, 4 * hidden, 250_880, 2048, "bigscience-bloom-rail-1.0")


def _llama(
    hub_id: str, size: tuple[int, int, int, int], context: int, licence: str, words: int = 32_000, kv_heads: int = 0
) -> BaseFacts:
    layers, hidden, heads, intermediate = size
    return BaseFacts(hub_id, "llama", layers, hidden, heads, intermediate, words, context, licence, kv_heads)


_LLAMA_7B, _LLAMA_13B = (32, 4096, 32, 11_008), (40, 5120, 40, 13_824)

BASES: dict[str, BaseFacts] = {
    facts.hub_id: facts
    for facts in (
        _neox("EleutherAI/polyglot-ko-1.3b", 24, 2048, 16, 30_080),
        _neox("EleutherAI/polyglot-ko-3.8b", 32, 3072, 24, 30_080),
        _neox("EleutherAI/polyglot-ko-5.8b", 28, 4096, 16, 30_080),
        _neox("EleutherAI/polyglot-ko-12.8b", 40, 5120, 40, 30_080),
        _neox("beomi/KoAlpaca-Polyglot-5.8B", 28, 4096, 16, 30_080),
        _neox("EleutherAI/pythia-6.9b", 32, 4096, 32, 50_432),
        _neox("EleutherAI/pythia-12b", 36, 5120, 40, 50_688),
        _neox("togethercomputer/RedPajama-INCITE-Base-3B-v1", 32, 2560, 32, 50_432),
        _neox("togethercomputer/RedPajama-INCITE-7B-Base", 32, 4096, 32, 50_432),
        _bloom("bigscience/bloom-560m", 24, 1024, 16),
        _bloom("bigscience/bloom-7b1", 30, 4096, 32),
        _llama("huggyllama/llama-7b", _LLAMA_7B, 2048, "other"),
        _llama("huggyllama/llama-13b", _LLAMA_13B, 2048, "other"),
        _llama("meta-llama/Llama-2-7b-hf", _LLAMA_7B, 4096, "llama2"),
        _llama("meta-llama/Llama-2-7b-chat-hf", _LLAMA_7B, 4096, "llama2"),
        _llama("meta-llama/Llama-2-13b-hf", _LLAMA_13B, 4096, "llama2"),
        _llama("beomi/llama-2-ko-7b", _LLAMA_7B, 4096, "llama2", words=46_336),
        _llama("hyunseoki/ko-en-llama2-13b", _LLAMA_13B, 2048, "llama2"),
        _llama("beomi/OPEN-SOLAR-KO-10.7B", (48, 4096, 32, 14_336), 4096, "Apache-2.0", words=46_592, kv_heads=8),
        # Its config was not at hand: the shape that has its 8 B parameters, with the vocabulary of its 2.1B sibling.
        _llama("kakaocorp/kanana-1.5-8b-base", (32, 4096, 32, 14_336), 32_768, "Apache-2.0", words=128_256, kv_heads=8),
        # Its card gives the layers and 472 M parameters, from which the vocabulary follows.
        _llama("trillionlabs/Tri-0.5B-Base", (24, 896, 14, 2560), 4096, "Apache-2.0", words=128_256),
    )
}
"""Hub id -> facts."""


CURRENT: dict[str, str] = {
    "Qwen/Qwen3-4B-Base": "qwen3",
    "LGAI-EXAONE/EXAONE-4.0-1.2B": "exaone4",
    "skt/A.X-3.1-Light": "llama",
    "K-intelligence/Midm-2.0-Mini-Instruct": "llama",
    "naver-hyperclovax/HyperCLOVAX-SEED-Think-14B": "hyperclovax",
    "kakaocorp/kanana-2-30b-a3b-base-2601": "deepseek_v3",
}
"""Current base with a recipe -> transformers' model type, so that a smoke run needs no network; shapes come from the config."""
DIFFERENT: dict[str, dict[str, object]] = {"kakaocorp/kanana-2-30b-a3b-base-2601": {"q_lora_rank": None}}
"""What the configuration of a current base says otherwise than transformers' default of its type (assumed), where that
decides which matrices there are."""
MIXTURES = ("deepseek_v3", "exaone_moe", "glm4_moe", "gpt_oss", "qwen3_moe", "solar_open")
"""Model types whose experts are one tensor each: no matrices that an adapter could take one by one."""
_WRITTEN_OUT = {"gpt_neox": "gpt_neox", "bloom": "bloom", "llama": "llama", "mistral": "llama"}
"""Model types whose layers are written out here -> whose layers they have."""


def written_out(model_type: str) -> bool:
    """Whether a model type's layers are written out here, so that its facts need no more than its configuration."""
    return model_type in _WRITTEN_OUT


def base_facts(model: str) -> BaseFacts:
    """Facts of a base by its Hub id, or of a folder by its config.json.

    Raises:
        InputError: neither is known; the message lists the Hub ids that are.
    """
    if model in BASES:
        return BASES[model]
    config = Path(model) / "config.json"
    if config.is_file():
        return facts_from_config(model, read_json(config))
    raise InputError(
        f"No shape is known for the base '{model}' - download it and name its folder, or use one of {', '.join(BASES)}."
    )


def facts_from_config(model: str, config: dict[str, object]) -> BaseFacts:
    """Facts of a base from its config's keys.

    Raises:
        InputError: an unknown architecture, or a key that is missing.
    """

    def number(*names: str) -> int:
        for name in names:
            value = config.get(name)
            if isinstance(value, int):
                return value
        raise InputError(f"'{model}/config.json' has no '{names[0]}' - it is no config of a language model.")

    kind = _WRITTEN_OUT.get(str(config.get("model_type")))
    if kind is None:
        raise InputError(
            f"The architecture '{config.get('model_type')}' of '{model}' is unknown - use gpt_neox, llama or bloom."
        )
    hidden = number("hidden_size", "n_embed")
    return BaseFacts(
        model,
        kind,
        number("num_hidden_layers", "n_layer"),
        hidden,
        number("num_attention_heads", "n_head"),
        4 * hidden if kind == "bloom" else number("intermediate_size"),
        number("vocab_size"),
        2048 if kind == "bloom" else number("max_position_embeddings"),
        "unknown",
        number("num_key_value_heads") if "num_key_value_heads" in config else 0,
    )
