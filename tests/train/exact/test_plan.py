"""Planning from shapes: counts that the publishers state, and a fix that fixes."""

import subprocess
import sys

import pytest

from kollm.core.errors import InputError
from kollm.recipe.bases import BASES, base_facts
from kollm.recipe.load import load_recipe
from kollm.train.gpus import GIB, GPUS, gpu_named
from kollm.train.plan import Setup, compiling_saves, flop_per_token, make_plan, memory_of, trainable_parameters

# Parameters as the model cards state them. The card of Polyglot-Ko 12.8B states 12,898,631,680, where a model of the shape
# that it also states has 12,893,603,840: its number is left out.
STATED = {
    "EleutherAI/polyglot-ko-1.3b": 1_331_810_304,
    "EleutherAI/polyglot-ko-3.8b": 3_809_974_272,
    "EleutherAI/polyglot-ko-5.8b": 5_885_059_072,
    "EleutherAI/pythia-6.9b": 6_857_302_016,
    "EleutherAI/pythia-12b": 11_846_072_320,
    "bigscience/bloom-560m": 559_214_592,
    "bigscience/bloom-7b1": 7_069_016_064,
    "meta-llama/Llama-2-7b-hf": 6_738_415_616,
    "meta-llama/Llama-2-13b-hf": 13_015_864_320,
}


@pytest.mark.parametrize("model", STATED)
def test_parameter_counts(model):
    assert BASES[model].parameters == STATED[model]


@pytest.mark.parametrize("architecture", ["gpt_neox", "llama", "bloom"])
def test_facts_and_trainable_counts_agree_with_a_real_model(make_toy, architecture):
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    from kollm.train.adapters import peft_config

    folder = make_toy(architecture)
    model = AutoModelForCausalLM.from_pretrained(folder)
    facts = base_facts(str(folder))
    assert facts.parameters == model.num_parameters()
    targets = "[q_proj,down_proj]" if architecture == "llama" else "[query_key_value,dense_4h_to_h]"
    for method in ("lora", "dora"):
        recipe = load_recipe("demo", [f"adapter.targets={targets}", f"adapter.method={method}"])
        adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), peft_config(recipe, model))
        real = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
        assert trainable_parameters(facts, recipe.adapter) == real


def test_work_of_a_token_is_that_of_the_design():
    adapter = load_recipe("kullm-polyglot-5.8b").adapter
    for name, without, with_ in (("5.8b", 24.6, 36.7), ("12.8b", 53.9, 80.2)):
        facts = BASES[f"EleutherAI/polyglot-ko-{name}"]
        assert flop_per_token(facts, adapter, False, 2048) / 1e9 == pytest.approx(without, rel=0.01)
        assert flop_per_token(facts, adapter, True, 2048) / 1e9 == pytest.approx(with_, rel=0.01)


# GiB of tensors at the peak on one H100, and the tokens of the largest microbatch; benchmarks/RESULTS.md
ALL = "adapter.targets=[query_key_value,dense,dense_h_to_4h,dense_4h_to_h]"
PEAKS = [
    ("5.8b", "quantization=none", 6382, 28.4),
    ("5.8b", "quantization=none", 10384, 39.2),
    ("5.8b", "quantization=int8", 6382, 32.7),
    ("5.8b", "quantization=int8", 10384, 49.4),
    ("5.8b", "quantization=nf4", 6382, 20.7),
    ("5.8b", "quantization=nf4", 10384, 31.4),
    ("5.8b", "trainer.gradient_checkpointing=true", 6382, 13.5),
    ("5.8b", ALL, 3657, 28.5),
    ("5.8b", "adapter.method=dora", 3657, 31.1),
    ("12.8b", "quantization=none", 3657, 41.9),
    ("12.8b", "quantization=none", 6382, 55.0),
    ("12.8b", "quantization=int8", 5192, 51.4),
    ("12.8b", "quantization=nf4", 5192, 32.0),
]


@pytest.mark.parametrize(("size", "setting", "tokens", "measured"), PEAKS)
def test_memory_is_what_a_gpu_was_seen_to_need(size, setting, tokens, measured):
    recipe = load_recipe(f"kullm-polyglot-{size}-fast", [setting])
    setup = Setup(recipe.quantization, bool(recipe.trainer.get("gradient_checkpointing")), 1, "ddp")
    memory = memory_of(BASES[recipe.base.model], recipe.adapter, setup, tokens, 1)
    assert (memory.total - memory.reserved) / GIB == pytest.approx(measured, rel=0.03)


@pytest.mark.parametrize(
    ("settings", "counted"),
    [
        ([], False),
        (["trainer.gradient_checkpointing=true"], True),
        (["trainer.activation_checkpointing=true"], True),
        (["trainer.gradient_checkpointing=true", "trainer.activation_checkpointing=false"], False),
        (["trainer.gradient_checkpointing=true", "trainer.activation_checkpointing=null"], True),
    ],
)
def test_checkpointing_is_counted_under_both_names_as_transformers_reads_them(settings, counted, tmp_path):
    from kollm.train.sft import trainer_config

    recipe = load_recipe("kullm-polyglot-5.8b-fast", ["trainer.gradient_checkpointing=false", *settings])
    assert make_plan(recipe).setup.checkpointing is counted
    config = trainer_config(load_recipe("demo", ["trainer.gradient_checkpointing=false", *settings]), tmp_path)
    assert config.activation_checkpointing is counted


def test_the_fix_makes_it_fit():
    plan = make_plan(load_recipe("kullm-polyglot-12.8b", ["trainer.per_device_train_batch_size=32"]), "a100-80gb", 4)
    assert not plan.fits
    key_value = plan.fix.split(" ")[0]
    assert key_value.startswith("trainer.per_device_train_batch_size=")
    assert make_plan(load_recipe("kullm-polyglot-12.8b", [key_value]), "a100-80gb", 4).fits
    assert make_plan(load_recipe("kullm-polyglot-12.8b"), "a100-80gb", 4).fits


def test_what_no_single_change_can_fit_has_no_fix():
    assert (
        make_plan(load_recipe("kullm-polyglot-12.8b", ["adapter.method=full", "quantization=none"]), "l4", 1).fix == ""
    )


def test_sharding_divides_the_weights():
    whole = make_plan(load_recipe("kullm-polyglot-12.8b-fast"), "h100-80gb", 4)
    shared = make_plan(load_recipe("kullm-polyglot-12.8b-fast"), "h100-80gb", 4, sharding="fsdp")
    assert shared.memory.weights == whole.memory.weights / 4
    assert whole.memory.weights / GIB == pytest.approx(24.0, abs=0.1)


def test_unknown_cards_and_bases_list_the_known():
    with pytest.raises(InputError, match="'abacus' is unknown - use one of b200"):
        make_plan(load_recipe("kullm-polyglot-5.8b"), "abacus", 1)
    with pytest.raises(InputError, match="or use one of EleutherAI/polyglot-ko"):
        base_facts("nobody/nothing")
    assert set(GPUS) >= {"a100-80gb", "h100-80gb", "rtx4090"}


def test_planning_imports_no_torch():
    code = "import sys, kollm.train.plan, kollm.train.check, kollm.recipe.bases; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=280)


@pytest.mark.parametrize(
    ("device", "key"),
    [
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA H100 80GB HBM3", "h100-80gb"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA GeForce RTX 3090", "rtx3090"),
        ("NVIDIA RTX A6000", "rtx-a6000"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA GeForce RTX 5090", "rtx5090"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000"),
        ("Tesla T4", "t4"),
        ("NVIDIA RTX 6000 Ada Generation", None),
    ],
)
def test_a_device_is_measured_by_its_own_peak(device, key):
    named = gpu_named(device)
    assert (named and named.tflops) == (key and GPUS[key].tflops)


def test_the_table_has_the_cards_that_are_rented_each_with_its_source():
    rented = {
        "b200",
        "h200",
        "h100-80gb",
        "a100-80gb",
        "l40s",
        "rtx-pro-6000",
        "rtx5090",
        "rtx4090",
        "rtx3090",
        "l4",
        "t4",
    }
    assert set(GPUS) >= rented
    for gpu in GPUS.values():
        assert (
            gpu.source and 10 * GIB < gpu.memory < 200 * GIB and 60 < gpu.tflops < 2500 and 300 <= gpu.bandwidth <= 8000
        )


@pytest.mark.parametrize(
    ("recipe", "settings", "gpu", "sharding", "basis"),
    [
        ("kullm-polyglot-5.8b-fast", [], "h100-80gb", "ddp", ("measured", "measured")),
        ("kullm-polyglot-5.8b-fast", ["quantization=nf4"], "h100-80gb", "ddp", ("measured", "measured")),
        ("kullm-polyglot-5.8b-fast", ["adapter.method=dora"], "h100-80gb", "ddp", ("measured", "counted")),
        ("kullm-polyglot-5.8b-fast", [], "b200", "ddp", ("measured", "counted")),
        ("kullm-polyglot-5.8b-fast", ["trainer.packing=false"], "h100-80gb", "ddp", ("measured", "counted")),
        ("kullm-polyglot-5.8b-fast", [], "h100-80gb", "fsdp", ("counted", "counted")),
        ("kullm-polyglot-5.8b-fast", ["adapter.method=full"], "h100-80gb", "ddp", ("counted", "counted")),
        ("llama-2-ko-7b", [], "h100-80gb", "ddp", ("counted", "counted")),
    ],
)
def test_a_plan_says_what_was_measured_and_what_is_counted(recipe, settings, gpu, sharding, basis):
    assert make_plan(load_recipe(recipe, settings), gpu, 1, sharding=sharding).basis == basis


def test_compiled_layers_pay_once_a_run_is_longer_than_what_they_cost():
    assert compiling_saves(0.15) == 0 and compiling_saves(0.2) > 0
    assert compiling_saves(10) == pytest.approx(10 * (1 - 19_314 / 21_509), rel=0.05)
    fast = load_recipe("kullm-polyglot-5.8b-fast")
    assert make_plan(fast, "h100-80gb", 1).compile_hours > 0.2
    assert make_plan(fast, "h100-80gb", 1, rows=100).compile_hours == 0
    compiled = make_plan(load_recipe("kullm-polyglot-5.8b-fast", ["trainer.torch_compile=true"]), "h100-80gb", 1)
    assert compiled.compile_hours == 0
    assert compiled.tokens_per_second == pytest.approx(21_509, rel=0.1)


@pytest.mark.parametrize(("method", "passes"), [("dpo", 2 + 1), ("simpo", 2), ("orpo", 2), ("kto", 2 * 1.5 + 2)])
def test_a_pair_is_two_sequences_and_the_reference_a_pass(method, passes):
    """One epoch: both answers; half the work for each pass forward, of the reference once, of KTO's others every epoch and once."""
    steps = ("trainer.num_train_epochs=1", "trainer.per_device_train_batch_size=4", "trainer.packing=false")
    one = make_plan(load_recipe("kullm-polyglot-5.8b", steps))
    other = make_plan(load_recipe("kullm-polyglot-5.8b", (*steps, f"method={method}")))
    assert other.hours == pytest.approx(one.hours * passes)
    assert other.memory.activations == pytest.approx(2 * one.memory.activations) and other.basis == (
        "counted",
        "counted",
    )


def test_a_fix_for_pairs_counts_pairs():
    keys = ("method=dpo", "trainer.packing=false", "trainer.per_device_train_batch_size=16", "quantization=none")
    made = make_plan(load_recipe("kullm-polyglot-5.8b", keys), "rtx4090", 1)
    assert not made.fits and "batch_size=0" not in made.fix
    halved = make_plan(load_recipe("kullm-polyglot-5.8b", keys), "a100-80gb", 1)
    assert halved.fits or halved.fix.startswith(
        ("trainer.per_device_train_batch_size=", "trainer.gradient_checkpointing")
    )
