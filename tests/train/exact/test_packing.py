"""Packed training is unpacked training: the same losses and the same weights, and no look across a boundary."""

import pytest
import torch

from kollm.recipe.load import load_recipe
from kollm.train import attention
from kollm.train.batches import Collator
from kollm.train.data import Example

STEPS = 8
TOLERANCE = 1e-5


@pytest.mark.parametrize(
    "heads",
    [
        pytest.param(2, id="head_dim_128"),
        pytest.param(
            1,
            marks=pytest.mark.nightly("tests/train/exact/test_packing.py::test_packed_and_padded_training_agree"),
            id="head_dim_256",
        ),
    ],
)
def test_packed_and_padded_training_agree(run_training, make_toy, heads):
    base = make_toy(hidden_size=256, heads=heads)
    shared = (f"trainer.max_steps={STEPS}", "trainer.weight_decay=0.0", "trainer.adam_epsilon=1e-6")
    padded = run_training(*shared, name="padded", base_folder=base)
    assert len(padded.losses) == STEPS
    assert padded.losses[-1] < padded.losses[0]
    for computed_by in ("auto", "sdpa"):
        packing = ("trainer.packing=true", f"attention={computed_by}")
        packed = run_training(*shared, *packing, name=computed_by, base_folder=base)
        assert padded.losses == pytest.approx(packed.losses, abs=TOLERANCE)
        for name, weight in padded.weights.items():
            assert torch.allclose(weight, packed.weights[name], atol=TOLERANCE, rtol=0), name
        assert packed.metrics["throughput"]["padding"] == 0 < padded.metrics["throughput"]["padding"]


def examples():
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(2, 400, (length,), generator=generator).int().numpy() for length in (5, 17, 9)]
    return [Example(str(index), ids, ids.copy()) for index, ids in enumerate(rows)]


def load(base, implementation):
    from transformers import AutoModelForCausalLM

    attention.register()
    return AutoModelForCausalLM.from_pretrained(base, attn_implementation=implementation, dtype=torch.float32).eval()


def reference_varlen(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale, window_size):
    """torch's varlen_attn, written out: causal attention in each stretch that the boundaries mark."""
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert cu_seq_q[0] == 0 and cu_seq_q[-1] == query.shape[0]
    assert max_q == max_k == int(cu_seq_q.diff().max())
    assert window_size == (-1, 0)
    output = torch.empty_like(query)
    for start, end in zip(cu_seq_q[:-1].tolist(), cu_seq_q[1:].tolist(), strict=True):
        states = [part[start:end].transpose(0, 1) for part in (query, key, value)]
        read = torch.nn.functional.scaled_dot_product_attention(*states, is_causal=True, scale=scale)
        output[start:end] = read.transpose(0, 1)
    return output


@pytest.mark.parametrize(
    ("implementation", "kernel"), [("sdpa", False), (attention.VARLEN, False), (attention.VARLEN, True)]
)
def test_a_packed_row_gives_the_logits_of_its_rows_apart(base, monkeypatch, implementation, kernel):
    """For sdpa by the mask that transformers builds; for the kernel by the boundaries that reach it."""
    calls = []

    def spy(*args, **kwargs):
        calls.append(args[3].tolist())
        return reference_varlen(*args, **kwargs)

    monkeypatch.setattr(attention, "varlen_attn", spy)
    monkeypatch.setattr(attention, "_has_kernel", lambda query: kernel)
    model = load(base, implementation)
    rows = examples()
    batch = Collator(1, packed=True)(rows)
    batch.pop("labels")
    with torch.no_grad():
        packed = model(**batch, use_cache=False).logits[0]
        apart = [model(input_ids=torch.from_numpy(row.input_ids).long()[None]).logits[0] for row in rows]
    assert torch.allclose(packed, torch.cat(apart), atol=1e-5)
    assert calls == ([[0, 5, 22, 31]] * model.config.num_hidden_layers if kernel else [])


def test_padded_batches_go_to_sdpa(base, monkeypatch):
    monkeypatch.setattr(attention, "varlen_attn", None)
    batch = Collator(1, packed=False)(examples())
    batch.pop("labels")
    with torch.no_grad():
        assert torch.allclose(
            load(base, attention.VARLEN)(**batch).logits[0, :5], load(base, "sdpa")(**batch).logits[0, :5], atol=1e-5
        )


def test_the_kernel_is_asked_for_on_a_gpu_alone():
    from kollm.core.errors import RecipeError

    recipe = load_recipe("kullm-polyglot-5.8b-fast")
    assert attention.implementation(recipe, "gpt_neox") == attention.VARLEN
    with pytest.raises(RecipeError, match="runs on a GPU alone"):
        attention.implementation(load_recipe("kullm-polyglot-5.8b-fast", ["attention=varlen"]), "gpt_neox")


@pytest.mark.parametrize(
    ("installed", "overrides", "chosen"),
    [
        (True, [], "flash_attention_2"),
        (True, ["base.dtype=float32"], attention.VARLEN),
        (False, [], attention.VARLEN),
        (False, ["trainer.packing=false"], "sdpa"),
    ],
)
def test_auto_takes_flash_attn_where_it_is_installed(monkeypatch, installed, overrides, chosen):
    monkeypatch.setattr(attention.torch.cuda, "is_available", lambda: True)  # type: ignore[attr-defined]
    monkeypatch.setattr(attention, "is_flash_attn_2_available", lambda: installed)
    recipe = load_recipe("kullm-polyglot-5.8b-fast", overrides)
    assert attention.implementation(recipe, "gpt_neox") == chosen
    padded = load_recipe("kullm-polyglot-5.8b-fast", [*overrides, "trainer.packing=false"])
    assert attention.implementation(padded, "bloom") == "eager"


@pytest.mark.parametrize("kernel", [False, True])
def test_packed_rows_of_mistral_keep_its_sliding_window(make_toy, monkeypatch, kernel):
    """17 tokens of which each sees four: what sdpa's own mask gives, row by row, by the kernel, and for rows apart."""
    from transformers import AutoModelForCausalLM

    def banded(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale, window_size, **_):
        assert window_size == (3, 0)
        states = [part.transpose(0, 1)[None] for part in (query, key, value)]
        return attention._row_by_row(*states, cu_seq_q.tolist(), 0.0, scale, window_size[0] + 1)[0]  # type: ignore[call-arg]

    monkeypatch.setattr(attention, "varlen_attn", banded)
    monkeypatch.setattr(attention, "_has_kernel", lambda query: kernel)
    attention.register()
    sdpa, ours = (
        AutoModelForCausalLM.from_pretrained(
            make_toy("mistral"), attn_implementation=name, dtype=torch.float32, sliding_window=4
        ).eval()
        for name in ("sdpa", attention.VARLEN)
    )
    rows = examples()
    batch = Collator(1, packed=True)(rows)
    batch.pop("labels")
    with torch.no_grad():
        apart = [sdpa(input_ids=torch.from_numpy(row.input_ids).long()[None]).logits[0] for row in rows]
        alone = ours(input_ids=torch.from_numpy(rows[1].input_ids).long()[None]).logits[0]
        packed = ours(**batch, use_cache=False).logits[0]
    assert torch.allclose(alone, apart[1], atol=1e-5)
    assert torch.allclose(packed, torch.cat(apart), atol=1e-5)


def test_under_autocast_the_kernel_gets_one_type_whatever_the_weights_are(base, monkeypatch):
    """Full fine-tuning keeps fp32 weights: rotated queries and keys are fp32 then, values bf16."""
    kinds = []

    def spy(query, key, value, *_, **__):
        kinds.append({query.dtype, key.dtype, value.dtype})
        return query

    monkeypatch.setattr(attention, "varlen_attn", spy)
    monkeypatch.setattr(attention, "_has_kernel", lambda query: query.dtype != torch.float32)
    batch = Collator(1, packed=True)(examples())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        load(base, attention.VARLEN)(**batch, use_cache=False)
    assert kinds == [{torch.bfloat16}] * 2
