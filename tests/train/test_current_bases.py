"""Recipes for current bases: each loads, says where its facts come from, and trains in small with its own architecture."""

from __future__ import annotations

import pytest
from transformers import AutoConfig

from kollm.core.errors import RecipeError
from kollm.recipe.bases import CURRENT
from kollm.recipe.load import load_recipe, override, recipe_names
from kollm.train.check import check_recipe
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
    config = AutoConfig.for_model(CURRENT[recipe.base.model])
    if config.model_type == "deepseek_v3":
        config.q_lora_rank = None  # Kanana 2 has no rank of queries (assumed)
    assert set(recipe.adapter.targets) <= set(linear_targets(meta_model(config)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["exaone-4.0-1.2b", "hyperclovax-seed-think-14b"])
def test_it_trains_in_small(name: str) -> None:
    recipe = override(load_recipe(name), ["quantization=none", "base.dtype=float32"])
    metrics = smoke(recipe)
    assert metrics["steps"] == 5
    assert metrics["model"]["trainable_parameters"] > 0


def test_adapters_that_mean_nothing_for_a_base_are_refused() -> None:
    kanana = load_recipe("kanana-2-30b-a3b")
    with pytest.raises(RecipeError, match="experts of 'deepseek_v3' are one tensor"):
        check_recipe(override(kanana, ["adapter.method=ia3"]))
    with pytest.raises(RecipeError, match="and the base is 'qwen3' - use lora"):
        check_recipe(override(load_recipe("qwen3-4b"), ["adapter.method=adaption_prompt"]))
    with pytest.raises(RecipeError, match="packing"):
        check_recipe(override(kanana, ["trainer.packing=true"]))
