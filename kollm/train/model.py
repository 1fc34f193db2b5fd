"""Loads a base model and its tokenizer for training, and makes them agree on EOS, pad and the chat template."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import BitsAndBytesConfig

from kollm.core.errors import InputError
from kollm.core.files import read_text, require_file
from kollm.recipe.schema import Recipe
from kollm.services.local_model import LocalModel, load_config, load_network, load_tokenizer
from kollm.train.attention import implementation, register


class Base(NamedTuple):
    """A base model in memory, and the tokenizer that goes with it."""

    model: Any
    tokenizer: Any


def load_base_tokenizer(base: LocalModel) -> Any:
    """The base's tokenizer, with a pad token.

    Raises:
        InputError: there is none, or it has no EOS token.
    """
    tokenizer = load_tokenizer(base, padding_side="right")
    if tokenizer.eos_token_id is None:
        raise InputError(f"The tokenizer of '{base.name}' has no EOS token - a model trained with it would never stop.")
    if tokenizer.pad_token_id is None:
        # Harmless here: labels are padded apart from the ids, so that EOS is learned even where it is also the pad.
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def add_tokens(tokenizer: Any, file: Path) -> int:
    """Extend the vocabulary by the tokens of a file, one a line; those that are there already are left out.

    Raises:
        InputError: no file, or nothing new in it.
    """
    tokens = [line for line in read_text(require_file(file, "The file of new tokens")).splitlines() if line]
    added: int = tokenizer.add_tokens(tokens)
    if not added:
        raise InputError(
            f"'{file}' holds no token that the tokenizer lacks - name another file, or leave out new_tokens."
        )
    return added


def load_model(recipe: Recipe, base: LocalModel, tokenizer: Any, ends: Sequence[int] = ()) -> Any:
    """The base's weights in the recipe's type or quantisation, on this process's device.

    Args:
        recipe: the recipe.
        base: where the weights are.
        tokenizer: whose EOS and pad the model takes.
        ends: ids at which generation stops, where they are more than EOS.

    Raises:
        InputError: there are none.
    """
    dtype = getattr(torch, recipe.base.dtype)
    register()
    model = load_network(
        base,
        dtype,
        quantization_config=_quantization(recipe, dtype),
        attn_implementation=implementation(recipe, load_config(base).model_type),
    )
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=64)  # new rows start at the others' mean
    align_special_tokens(model, tokenizer, ends)
    return model


def align_special_tokens(model: Any, tokenizer: Any, ends: Sequence[int] = ()) -> None:
    """Make config and generation config take the tokenizer's EOS and pad: published configs of Polyglot-Ko differ."""
    for config in (model.config, model.generation_config):
        config.eos_token_id = tokenizer.eos_token_id
        config.pad_token_id = tokenizer.pad_token_id
    if len(ends) > 1:
        model.generation_config.eos_token_id = list(ends)


def _quantization(recipe: Recipe, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    if recipe.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    if recipe.quantization == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype, bnb_4bit_use_double_quant=True
        )
    return None
