"""The head on supervised positions gives the loss that transformers gives, whatever a model does to its logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kollm.train.batches import Collator, Layout
from kollm.train.data import IGNORED, Example
from kollm.train.head import add_compact_head
from kollm.train.sft import StepTrainer, TrainingRows
from tests.train.tiny import tiny_model, trainer_arguments, word_tokenizer

MODELS: dict[str, dict[str, Any]] = {
    "gpt_neox": {},
    "llama": {},
    "gpt2": {},
    "bloom": {},
    "granite": {"logits_scaling": 8.0},
    "cohere2": {"logit_scale": 2.0},
    "hyperclovax": {"logits_scaling": 0.125},
    "gemma2": {"final_logit_softcapping": 0.5},
    "mixtral": {"output_router_logits": True, "router_aux_loss_coef": 0.5},
    "qwen3_moe": {"output_router_logits": True, "router_aux_loss_coef": 0.5},
}


def batch() -> dict[str, torch.Tensor]:
    """Two rows, the second with three tokens of padding; the loss is on the ends."""
    generator = torch.Generator().manual_seed(1)
    input_ids = torch.randint(3, 64, (2, 12), generator=generator)
    labels = input_ids.clone()
    labels[:, :5] = IGNORED
    input_ids[1, 9:], labels[1, 9:] = 0, IGNORED
    return {"input_ids": input_ids, "labels": labels, "attention_mask": (input_ids != 0).long()}


@pytest.mark.parametrize("architecture", MODELS)
def test_the_loss_is_the_models_own(architecture: str) -> None:
    attention = "eager" if architecture in ("bloom", "gemma2") else "sdpa"
    model = tiny_model(architecture, attention, **MODELS[architecture])
    expected = model(**batch())
    plain = tiny_model(architecture, attention)
    torch.testing.assert_close(
        plain.get_output_embeddings().weight, model.get_output_embeddings().weight, msg="of the same seed"
    )
    if MODELS[architecture] and "router_aux_loss_coef" not in MODELS[architecture]:
        assert abs(plain(**batch()).loss - expected.loss) > 0.01, "what the model does to its logits changes the loss"
    add_compact_head(model)
    output = model(**batch(), fused_lm_head=True)
    assert output.log_probs.shape == output.label_mask.shape == (2, 11)
    assert int(output.label_mask.sum()) == 7 + 4
    loss = -output.log_probs.sum() / output.label_mask.sum()
    if "router_aux_loss_coef" in MODELS[architecture]:
        assert output.aux_loss > 0
        loss = loss + 0.5 * output.aux_loss
    torch.testing.assert_close(loss, expected.loss)
    gradients = [torch.autograd.grad(one, model.get_input_embeddings().weight)[0] for one in (loss, expected.loss)]
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(model(**batch()).logits, expected.logits, msg="without the argument nothing changes")


def test_a_batch_without_labels_has_no_loss_and_stays_connected() -> None:
    model = tiny_model("granite", logits_scaling=8.0)
    add_compact_head(model)
    masked = {**batch(), "labels": torch.full((2, 12), IGNORED)}
    output = model(**masked, fused_lm_head=True)
    output.log_probs.sum().backward()
    assert not output.log_probs.any()
    assert not model.get_input_embeddings().weight.grad.any()


@pytest.mark.parametrize("packed", [False, True])
def test_training_adds_the_auxiliary_loss_of_experts_and_leaves_padding_out_of_it(packed: bool, tmp_path: Path) -> None:
    rows = [
        Example("a", *[np.arange(3, 19, dtype=np.int32)] * 2),
        Example("b", *[np.arange(20, 27, dtype=np.int32)] * 2),
    ]
    model = tiny_model("mixtral", router_aux_loss_coef=0.5)
    layout = Layout(2, 1, 2, 128, packed, seed=0)
    arguments = trainer_arguments(tmp_path)
    trainer = StepTrainer(model, arguments, TrainingRows(rows, [], word_tokenizer(63)), layout, None)
    inputs = trainer.data_collator(rows)
    supervised = (inputs["labels"][:, 1:] != IGNORED).sum()
    loss = trainer.compute_loss(model.eval(), dict(inputs), num_items_in_batch=supervised)
    reference = tiny_model("mixtral", router_aux_loss_coef=0.5, output_router_logits=True)
    one_by_one = Collator(0, packed=False)
    alone = [reference(**one_by_one([row]), output_router_logits=False).loss * (len(row.input_ids) - 1) for row in rows]
    padded = Collator(0, packed=False)
    padded.masks_padding = True
    aux = reference(**padded(rows)).aux_loss
    torch.testing.assert_close(loss, sum(alone) / supervised + 0.5 * aux)
    share = trainer.compute_loss(model.eval(), dict(inputs), num_items_in_batch=2 * supervised)
    torch.testing.assert_close(share, loss / 2, msg="a microbatch that is half of its step")
