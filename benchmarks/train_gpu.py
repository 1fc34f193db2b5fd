"""Tokens a second, MFU and peak memory of LoRA training at Polyglot-Ko's real shapes, on one GPU. Not run yet.

    python benchmarks/train_gpu.py ../shared/data/alpaca_gpt4_en_1000.json --out train_gpu.md

Random weights at the 5.8B and 12.8B shapes are made on the card, so that nothing is downloaded. Row lengths are those of
the given file under a small tokenizer, scaled to a mean of 350 tokens and cut at 2048. Beside the results stands the
ceiling: what a bf16 matrix product of the model's own size reaches on the same card, divided by the work of a token.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig
from transformers.integrations.bitsandbytes import replace_with_bnb_linear

from kollm.bases import BASES
from kollm.files import read_json
from kollm.recipe import load_recipe
from kollm.train.attention import VARLEN, register
from kollm.train.batches import Collator, Layout, StepBatches
from kollm.train.data import Example
from kollm.train.plan import flop_per_token, make_plan

LENGTH, MEAN = 2048, 350
MODELS = ("EleutherAI/polyglot-ko-5.8b", "EleutherAI/polyglot-ko-12.8b")
LORA = {
    "r": 16,
    "lora_alpha": 32,
    "lora_dropout": 0.05,
    "target_modules": ["query_key_value"],
    "task_type": "CAUSAL_LM",
}


class Result(NamedTuple):
    """What one configuration reached."""

    tokens_per_second: float
    padded_per_second: float
    mfu: float
    peak_gib: float
    planned_gib: float


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="JSON in Alpaca form, for the lengths of its rows")
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--micro", type=int, default=12, help="timed microbatches")
    parser.add_argument("--out", type=Path, help="also write the table there")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        raise SystemExit("No GPU here: this benchmark needs one - see benchmarks/train_cpu.py for a processor.")
    register()
    examples = make_examples(read_json(options.rows))
    peak = ceiling()
    name = torch.cuda.get_device_name()
    lines = [f"{name}: a bf16 matrix product reaches {peak / 1e12:.0f} TFLOP/s", "", HEAD, RULE]
    for model in options.models:
        for quantization in ("none", "int8", "nf4"):
            for packed in (True, False):
                lines.append(row(model, quantization, packed, examples, options.micro, peak))
                print(lines[-1], flush=True)
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


HEAD = "| base | weights | rows | tokens/s | padded tokens/s | MFU | peak GiB | planned GiB | ceiling tokens/s |"
RULE = "|---|---|---|---|---|---|---|---|---|"


def row(model: str, quantization: str, packed: bool, examples: Sequence[Example], micro: int, peak: float) -> str:
    """One line of the table; out of memory is a result too."""
    layout = "packed" if packed else "padded"
    weights = "bf16" if quantization == "none" else quantization
    facts = BASES[model]
    adapter = load_recipe("kullm-polyglot-5.8b").adapter
    limit = peak / flop_per_token(facts, adapter, False, LENGTH)
    try:
        result = measure(model, quantization, packed, examples, micro, peak)
    except torch.OutOfMemoryError:
        return f"| {model} | {weights} | {layout} | out of memory | | | | | {limit:,.0f} |"
    finally:
        torch.cuda.empty_cache()
    return (
        f"| {model} | {weights} | {layout} | {result.tokens_per_second:,.0f} | {result.padded_per_second:,.0f} "
        f"| {result.mfu:.1%} | {result.peak_gib:.1f} | {result.planned_gib:.1f} | {limit:,.0f} |"
    )


def measure(name: str, quantization: str, packed: bool, examples: Sequence[Example], micro: int, peak: float) -> Result:
    """Time `micro` forward and backward passes with an optimizer step in each, after three that are not timed."""
    model = random_model(name, quantization)
    batch = 1 if packed else 4
    layout = Layout(256, 1, batch, LENGTH, packed, 0)
    batches = StepBatches([len(example.input_ids) for example in examples], layout, 1)
    collate = Collator(0, packed)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=3e-4, fused=True)
    real = computed = 0
    torch.cuda.reset_peak_memory_stats()
    started = 0.0
    for index, rows in enumerate(part for part in batches if part):
        if index == 3:
            torch.cuda.synchronize()
            started, real, computed = time.perf_counter(), 0, 0
        if index == 3 + micro:
            break
        inputs = {k: v.cuda() if torch.is_tensor(v) else v for k, v in collate([examples[r] for r in rows]).items()}
        with torch.autocast("cuda", dtype=torch.bfloat16):
            model(**inputs, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        real += sum(len(examples[r].input_ids) for r in rows)
        computed += inputs["input_ids"].numel()
    torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    recipe = load_recipe("kullm-polyglot-5.8b", [f"base.model={name}", f"quantization={quantization}"])
    recipe = recipe.model_copy(update={"trainer": {**recipe.trainer, "per_device_train_batch_size": batch}})
    planned = make_plan(recipe, "h100-80gb", 1).memory.total
    work = flop_per_token(BASES[name], recipe.adapter, False, LENGTH)
    peak_memory = torch.cuda.max_memory_allocated()
    return Result(
        real / seconds, computed / seconds, real / seconds * work / peak, peak_memory / 2**30, planned / 2**30
    )


def random_model(name: str, quantization: str) -> Any:
    """GPT-NeoX of the base's shape with random bf16 weights on the card, quantised there where asked, with LoRA."""
    facts = BASES[name]
    config = AutoConfig.for_model(
        "gpt_neox",
        hidden_size=facts.hidden,
        num_hidden_layers=facts.layers,
        num_attention_heads=facts.heads,
        intermediate_size=facts.intermediate,
        vocab_size=facts.vocabulary,
        max_position_embeddings=facts.context,
    )
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation=VARLEN)
    if quantization != "none":
        model = quantise(model, quantization)
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    model = get_peft_model(model, LoraConfig(**LORA))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model.train()


def quantise(model: Any, quantization: str) -> Any:
    """Replace the layers' matrices by bitsandbytes' and fill them with the random weights."""
    weights = {
        name: module.weight.data.cpu() for name, module in model.named_modules() if hasattr(module, "in_features")
    }
    biases = {name: module.bias for name, module in model.named_modules() if hasattr(module, "in_features")}
    settings = (
        BitsAndBytesConfig(load_in_8bit=True)
        if quantization == "int8"
        else BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=torch.bfloat16,
            bnb_4bit_use_double_quant=True,
        )
    )
    model = replace_with_bnb_linear(model, modules_to_not_convert=["lm_head"], quantization_config=settings)
    for name, module in model.named_modules():
        if type(module).__module__.startswith("bitsandbytes"):
            kind = type(module.weight)
            module.weight = kind(weights.pop(name), requires_grad=False).cuda()
            module.bias = biases[name]
    return model


def make_examples(rows: Sequence[dict[str, str]]) -> list[Example]:
    """Random tokens in rows as long as the file's, scaled to the mean; all under the loss but the first third."""
    characters = np.asarray([sum(len(row[key]) for key in ("instruction", "input", "output")) for row in rows])
    lengths = np.clip(characters * MEAN / characters.mean(), 8, LENGTH).astype(int)
    generator = np.random.default_rng(0)
    examples = []
    for index, length in enumerate(lengths):
        ids = generator.integers(3, 30_000, length).astype(np.int32)
        labels = ids.copy()
        labels[: length // 3] = -100
        examples.append(Example(str(index), ids, labels))
    return examples


def ceiling() -> float:
    """FLOP/s of bf16 matrix products of the shapes that the 12.8B model has."""
    left = torch.randn(2048, 5120, device="cuda", dtype=torch.bfloat16)
    right = torch.randn(5120, 20480, device="cuda", dtype=torch.bfloat16)
    for _ in range(10):
        left @ right
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(200):
        left @ right
    torch.cuda.synchronize()
    return 200 * 2 * 2048 * 5120 * 20480 / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
