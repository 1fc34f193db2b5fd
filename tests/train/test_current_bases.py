"""Recipes for current bases: each loads, says where its facts come from, and trains in small with its own architecture."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import AutoConfig

from kollm.core.errors import RecipeError
from kollm.recipe.bases import CURRENT, DIFFERENT
from kollm.recipe.load import load_recipe, override, recipe_names
from kollm.train.check import check_recipe
from kollm.train.data import IGNORED, Tokenised, tokenise_parts
from kollm.train.shapes import linear_targets, meta_model
from kollm.train.smoke import smoke

NAMES = [name for name in recipe_names() if load_recipe(name).base.model in CURRENT]


def test_there_is_a_recipe_for_each() -> None:
    assert {load_recipe(name).base.model for name in NAMES} == set(CURRENT)
    assert len(NAMES) == 6


@pytest.mark.parametrize("name", NAMES)
def test_its_targets_are_matrices_of_its_architecture(name: str) -> None:
    recipe = load_recipe(name)
    check_recipe(recipe)
    assert recipe.prompt == "chat"
    assert "2026-11" in recipe.origins["base.model"]
    config = AutoConfig.for_model(CURRENT[recipe.base.model], **DIFFERENT.get(recipe.base.model, {}))
    assert set(recipe.adapter.targets) <= set(linear_targets(meta_model(config)))


def chatml_mask(ids: list[int], tokenizer: Any) -> list[bool]:
    """Which tokens of a ChatML text answer: those after `<|im_start|>assistant` and a line break, to the next turn."""
    start = tokenizer.convert_tokens_to_ids("<|im_start|>")
    mask, answering, head = [], False, ""
    for token in ids:
        if token == start:
            head, answering = "", False
        mask.append(answering)
        if not answering and token != start:
            head += tokenizer.decode([token])
            answering = head == "assistant\n"
    return mask


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_trains_in_small_on_the_right_tokens(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Tokenised, Any]] = []

    def tokenise(parts: Any, records: Any, encoder: Any, **options: Any) -> Tokenised:
        seen.append((tokenise_parts(parts, records, encoder, **options), encoder.tokenizer))
        return seen[-1][0]

    monkeypatch.setattr("kollm.train.material.tokenise_parts", tokenise)
    recipe = override(load_recipe(name), ["quantization=none", "base.dtype=float32"])
    metrics = smoke(recipe)["sft"]
    assert metrics["steps"] == 5
    assert metrics["model"]["trainable_parameters"] > 0
    ((rows, tokenizer),) = seen
    assert len(rows.examples) > 50
    for example in rows.examples[:20]:
        ids, learned = example.input_ids.tolist(), [label != IGNORED for label in example.labels.tolist()]
        if len(ids) < 512:  # not cut
            assert learned == chatml_mask(ids, tokenizer)


def test_adapters_that_mean_nothing_for_a_base_are_refused() -> None:
    kanana = load_recipe("kanana-2-30b-a3b")
    with pytest.raises(RecipeError, match="experts of 'deepseek_v3' are one tensor"):
        check_recipe(override(kanana, ["adapter.method=ia3"]))
    with pytest.raises(RecipeError, match="and the base is 'qwen3' - use lora"):
        check_recipe(override(load_recipe("qwen3-4b"), ["adapter.method=adaption_prompt"]))
    with pytest.raises(RecipeError, match="packing"):
        check_recipe(override(kanana, ["trainer.packing=true"]))
