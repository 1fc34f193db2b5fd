"""Which bases keep packed rows apart.

Packed rows share one long row. A model that has anything but attention between tokens (a convolution, a recurrent state),
positions of its own (ALiBi, learned ones that are counted), or an attention that does not pass on where rows end, lets one
row look into another without a word. So packing is for the model types of this list, of which a test shows that each gives
the logits of its rows apart.
"""

from __future__ import annotations

from kollm.core.errors import RecipeError

PACKABLE = frozenset(
    {
        "apertus",
        "arcee",
        "cohere",
        "cohere2",
        "dots1",
        "ernie4_5",
        "ernie4_5_moe",
        "exaone4",
        "exaone_moe",
        "flex_olmo",
        "gemma",
        "gemma3_text",
        "gemma4_text",
        "glm",
        "glm4",
        "glm4_moe",
        "gpt2",
        "gpt_bigcode",
        "gpt_neox",
        "granite",
        "granitemoe",
        "helium",
        "hunyuan_v1_dense",
        "hunyuan_v1_moe",
        "hyperclovax",
        "llama",
        "ministral",
        "ministral3",
        "mistral",
        "mixtral",
        "olmo",
        "olmo2",
        "olmo3",
        "phi",
        "phi3",
        "qwen2",
        "qwen2_moe",
        "qwen3",
        "qwen3_moe",
        "seed_oss",
        "smollm3",
        "solar_open",
        "starcoder2",
    }
)
"""transformers' names of model types, as in a model's `config.json`."""


def check_packing(model_type: str) -> None:
    """Refuse packing for a base whose packed rows may mix.

    Raises:
        RecipeError: its model type is not in the list.
    """
    if model_type not in PACKABLE:
        raise RecipeError(
            f"trainer.packing is true, and packed rows of a '{model_type}' base are not known to stay apart - set it to "
            "false; docs/train.md lists the model types where they do."
        )
