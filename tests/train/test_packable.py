"""Packed rows of every base that may be packed give the logits of its rows apart, and no other base is packed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kollm.core.errors import RecipeError
from kollm.recipe.load import load_recipe
from kollm.train import attention
from kollm.train.batches import Collator
from kollm.train.check import check_recipe
from kollm.train.data import Example
from kollm.train.packing import PACKABLE
from tests.train.tiny import tiny_model

WINDOW = {"sliding_window": 4, "use_sliding_window": True, "max_window_layers": 0}
"""Where a base has a sliding window, it is shorter than the rows."""
QUICK = {"gpt_neox", "llama", "cohere2", "gemma3_text", "qwen3", "mixtral"}
PACKING = ["trainer.packing=true"]


@pytest.fixture(scope="module")
def rows() -> list[Example]:
    random = np.random.default_rng(0)
    ids = [random.integers(3, 64, length).astype(np.int32) for length in (7, 19, 12)]
    return [Example(str(number), row, row) for number, row in enumerate(ids)]


@pytest.mark.parametrize("implementation", [attention.VARLEN, "sdpa"])
@pytest.mark.parametrize(
    "model_type",
    [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in sorted(PACKABLE)],
)
def test_packed_rows_give_the_logits_of_their_rows_apart(
    model_type: str, implementation: str, rows: list[Example]
) -> None:
    attention.register()
    model = tiny_model(model_type, implementation, **WINDOW)
    reference = tiny_model(model_type, "eager", **WINDOW)
    batch = Collator(0, packed=True)(rows)
    batch.pop("labels")
    with torch.no_grad():
        packed = model(**batch, use_cache=False).logits[0]
        apart = [reference(torch.from_numpy(row.input_ids).long()[None], use_cache=False).logits[0] for row in rows]
    expected = torch.cat(apart)
    torch.testing.assert_close(packed, expected, atol=2e-5 * float(expected.std()), rtol=0)


@pytest.mark.parametrize("model_type", ["bloom", "lfm2", "falcon_h1", "gpt_oss", "gemma2", "opt", "mamba", "nobody"])
def test_other_bases_are_not_packed_wherever_they_come_from(model_type: str, tmp_path: Path) -> None:
    said = f"packed rows of a '{model_type}' base are not known to stay apart - set it to false"
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}), encoding="utf-8")
    recipe = load_recipe("demo", PACKING)
    with pytest.raises(RecipeError, match=said):
        check_recipe(recipe, base=tmp_path)
    with pytest.raises(RecipeError, match=said):
        check_recipe(load_recipe("demo", [*PACKING, f"base.model={tmp_path}"]))
    with pytest.raises(RecipeError, match=said):
        attention.implementation(recipe, model_type)
    check_recipe(load_recipe("demo", ["trainer.packing=false"]), base=tmp_path)


@pytest.mark.parametrize(("model_type", "argument"), [("gpt_oss", "s_aux"), ("gemma2", "softcap")])
def test_attention_of_packed_rows_refuses_what_it_does_not_compute(
    model_type: str, argument: str, rows: list[Example]
) -> None:
    attention.register()
    batch: dict[str, Any] = Collator(0, packed=True)(rows)
    batch.pop("labels")
    with pytest.raises(RecipeError, match=f"The base's attention wants {argument}, which attention of packed rows"):
        tiny_model(model_type, attention.VARLEN)(**batch, use_cache=False)


@pytest.mark.parametrize(
    ("model_type", "chosen"),
    [("gemma2", "eager"), ("gpt_oss", "eager"), ("bloom", "eager"), ("gpt_neox", "sdpa"), ("nobody", "eager")],
)
def test_auto_takes_what_transformers_has_for_a_base(
    model_type: str, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention.torch.cuda, "is_available", lambda: False)  # type: ignore[attr-defined]
    assert attention.implementation(load_recipe("demo", ["trainer.packing=false"]), model_type) == chosen
    if chosen == "eager":
        with pytest.raises(RecipeError, match=f"attention is sdpa, which '{model_type}' has not - set attention to"):
            attention.implementation(load_recipe("demo", ["trainer.packing=false", "attention=sdpa"]), model_type)


def test_the_manual_lists_the_packable_types() -> None:
    for page in ("docs/train.md", "docs/train.ko.md"):
        text = Path(page).read_text(encoding="utf-8")
        assert ", ".join(f"`{name}`" for name in sorted(PACKABLE)) in " ".join(text.split()), page
