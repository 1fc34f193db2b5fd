"""What a recipe needs, from shapes alone: memory by part, tokens a second, hours, and what to change to make it fit.

No torch, no network, no weights. Memory and speed of LoRA on GPT-NeoX are held against one H100 (benchmarks/RESULTS.md);
what is counted or assumed instead says so where it stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from kollm.core.errors import InputError
from kollm.core.files import read_json
from kollm.recipe.bases import BASES, BaseFacts, base_facts, written_out
from kollm.recipe.methods import METHODS
from kollm.recipe.schema import Adapter, Recipe
from kollm.train.gpus import GIB, GPUS, Gpu

Sharding = Literal["ddp", "zero2", "fsdp"]
Basis = Literal["measured", "counted"]
EFFICIENCY = 0.45
"""Share of the dense bf16 peak that packed training reaches: 0.45 to 0.49 measured on an H100 with bf16 bases of 5.8B and
12.8B. Other cards are assumed to be like it."""
RESERVED = 1.5 * GIB
"""CUDA context and the allocator's unusable rest: 0.9 to 1.2 GiB measured with expandable segments, which kollm sets."""
ROWS, TOKENS_PER_ROW = 120_000, 350
"""The paper's three sources: 52 k + 15 k + 53 k rows; their mean length is assumed."""
SLOWER: dict[str, float] = {"none": 1.0, "int8": 1.55, "nf4": 1.06}
"""How much slower a quantised base trains: measured packed on an H100, 1.50 and 1.61 for int8, 1.02 and 1.10 for NF4."""
COMPILED = 1.11
"""How much faster compiled layers train: 21,509 tokens a second for 19,314, 5.8B in bf16, packed, on an H100."""
COMPILING = 1 / 60
"""Hours that compiling takes before the first step."""
PADDED = 1.55
"""How much slower rows train padded than packed: 1.38 to 1.70 measured on quantised bases at device batches of 8 and 4 on
an H100. In bf16 it was 2.1 to 2.4 there, in runs of a few steps (benchmarks/RESULTS.md)."""


class Memory(NamedTuple):
    """Bytes on the fullest card, by part."""

    weights: float
    adapter: float
    gradients: float
    optimizer: float
    activations: float
    head: float
    reserved: float = RESERVED

    @property
    def total(self) -> float:
        return sum(self)


@dataclass(frozen=True, slots=True)
class Setup:
    """The choices that memory and speed depend on; `_fix` varies them.

    `device_batch` counts sequences, of which a pair of a preference method has two: `answers`.
    """

    quantization: str
    checkpointing: bool
    device_batch: int
    sharding: Sharding
    answers: int = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer.

    Attributes:
        fix: the one change that makes it fit; empty where it fits or none does.
        basis: of memory and of speed: whether they were held against a card, or are counted from shapes and data sheets.
        compile_hours: what `trainer.torch_compile=true` would save, the start included; 0 where it is on, or does not pay.
    """

    facts: BaseFacts
    setup: Setup
    gpu: str
    gpus: int
    trainable: int
    memory: Memory
    fits: bool
    fix: str
    flop_per_token: float
    tokens_per_second: float
    hours: float
    basis: tuple[Basis, Basis]
    compile_hours: float


def make_plan(
    recipe: Recipe,
    gpu: str = "a100-80gb",
    gpus: int = 4,
    *,
    sharding: Sharding = "ddp",
    rows: int = ROWS,
    tokens_per_row: int = TOKENS_PER_ROW,
) -> Plan:
    """Plan one recipe on so many cards of a kind.

    Raises:
        InputError: an unknown card or base.
        RecipeError: settings that exclude each other, or a target that the base has not.
    """
    if gpu not in GPUS:
        raise InputError(f"The GPU '{gpu}' is unknown - use one of {', '.join(GPUS)}.")
    facts = _facts(recipe)
    trainer = recipe.trainer
    setup = Setup(
        recipe.quantization,
        checkpointing(recipe),
        int(trainer.get("per_device_train_batch_size", 8)) * answers_of(recipe),
        sharding,
        answers_of(recipe),
    )
    length = int(trainer.get("max_length") or facts.context)
    trainable = trainable_parameters(facts, recipe.adapter)
    memory = memory_of(facts, recipe.adapter, setup, length, gpus)
    fits = memory.total <= GPUS[gpu].memory
    flop = flop_per_token(facts, recipe.adapter, setup.checkpointing, length)
    speed = gpus * speed_of(facts, recipe, setup, length, GPUS[gpu])
    tokens = rows * tokens_per_row * passes_of(recipe, float(trainer.get("num_train_epochs", 3)))
    fix = "" if fits else _fix(facts, recipe.adapter, setup, length, gpu, gpus)
    hours = tokens / speed / 3600
    basis = basis_of(facts, recipe, setup, gpu)
    saved = 0.0 if trainer.get("torch_compile") or basis[1] == "counted" else compiling_saves(hours)
    return Plan(facts, setup, gpu, gpus, trainable, memory, fits, fix, flop, speed, hours, basis, saved)


def answers_of(recipe: Recipe) -> int:
    """Sequences of one row: a pair of a preference method is two, each with its prompt."""
    return 1 if recipe.method == "sft" else 2


def passes_of(recipe: Recipe, epochs: float) -> float:
    """Training passes over one sequence that a row comes to, passes without a gradient counted by their share of the work.

    A preference method trains on both answers; where it has a reference, that reads every pair once before the first step, and KTO
    reads as many mismatched answers as it trains on, and those too once. A pass forward is a half of an adapter's training pass and
    a third of full training's, a layer computed again counted as one pass more.
    """
    method, answers = METHODS[recipe.method], answers_of(recipe)
    forward = 1 / ((3 if recipe.adapter.method == "full" else 2) + checkpointing(recipe))
    sides = 2 if method.diverges else 1
    once = answers * sides * forward if method.reference else 0.0
    return answers * epochs * (1 + (sides - 1) * forward) + once


def speed_of(facts: BaseFacts, recipe: Recipe, setup: Setup, length: int, gpu: Gpu) -> float:
    """Tokens of rows a second on one card."""
    slower = SLOWER[setup.quantization] * (1.0 if recipe.trainer.get("packing") else PADDED)
    faster = COMPILED if recipe.trainer.get("torch_compile") else 1.0
    flop = flop_per_token(facts, recipe.adapter, setup.checkpointing, length)
    return gpu.tflops * 1e12 * EFFICIENCY * faster / flop / slower


def basis_of(facts: BaseFacts, recipe: Recipe, setup: Setup, gpu: str) -> tuple[Basis, Basis]:
    """What memory and speed stand on: `measured` where that very kind of setup ran on a card, see benchmarks/RESULTS.md.

    Memory was measured on GPT-NeoX with LoRA in every quantisation, with checkpointing in bf16, and with DoRA on the attention
    matrix in bf16, without sharding; speed with LoRA on rows that are packed, on an H100. All else is counted by the same
    formulas.
    """
    if recipe.method != "sft":
        return "counted", "counted"
    adapter, plain = recipe.adapter, setup.quantization == "none" and not setup.checkpointing
    neox = facts.architecture == "gpt_neox" and setup.sharding == "ddp"
    lora = adapter.method == "lora" and (not setup.checkpointing or setup.quantization == "none")
    dora = adapter.method == "dora" and plain and set(adapter.targets) == {"query_key_value"}
    packed = bool(recipe.trainer.get("packing")) and gpu == "h100-80gb"
    return (
        "measured" if neox and (lora or dora) else "counted",
        "measured" if neox and lora and packed else "counted",
    )


def compiling_saves(hours: float) -> float:
    """Hours that compiled layers save a run of so many hours: their speed less the minute that they take to compile.

    Returns:
        0 where the run is too short for them.
    """
    return max(hours * (1 - 1 / COMPILED) - COMPILING, 0.0)


def _facts(recipe: Recipe) -> BaseFacts:
    model = recipe.base.model
    if recipe.base.is_toy:
        raise InputError(
            f"The base of '{recipe.name}' is a toy made on the spot, which fits anywhere - plan a recipe of a real base "
            "(kollm recipe list), or --base MODEL."
        )
    config = Path(model) / "config.json"
    if model in BASES or (config.is_file() and written_out(str(read_json(config).get("model_type")))):
        return base_facts(model)
    from kollm.train.shapes import base_facts_of  # here: it needs torch, and what stands above does not

    return base_facts_of(model, recipe.base.revision)


def checkpointing(recipe: Recipe) -> bool:
    """Whether layers are computed again on the way back: transformers' newer name for it goes before the older."""
    newer = recipe.trainer.get("activation_checkpointing")
    return bool(recipe.trainer.get("gradient_checkpointing") if newer is None else newer)


def trainable_parameters(facts: BaseFacts, adapter: Adapter) -> int:
    """Parameters that the adapter trains.

    Raises:
        InputError: a target that the architecture has not.
    """
    if adapter.method == "full":
        return facts.parameters
    if adapter.method == "adaption_prompt":
        layers = min(adapter.adapter_layers or facts.layers, facts.layers)
        return layers * (adapter.adapter_len * facts.hidden + 1)  # the vectors and a gate
    total = 0
    for target in dict.fromkeys((*adapter.targets, *adapter.feedforward)):
        linear = facts.linears.get(target.rsplit(".", 1)[-1])
        if linear is None:
            raise InputError(
                f"The adapter's target '{target}' is no module of {facts.hub_id} - it has {', '.join(facts.linears)}."
            )
        if adapter.method == "ia3":
            fused_queries = facts.hidden if target.endswith("query_key_value") else 0
            total += linear.inputs if target in adapter.feedforward else linear.outputs - fused_queries
        else:
            total += adapter.r * (linear.inputs + linear.outputs) + (linear.outputs if adapter.method == "dora" else 0)
    return facts.layers * total


def memory_of(facts: BaseFacts, adapter: Adapter, setup: Setup, length: int, gpus: int) -> Memory:
    """Bytes by part on one card.

    Weights: 2 bytes in bf16; layers' matrices 1 byte in int8, 4.127 bits in NF4 with double quantisation. Trainable
    tensors are fp32, with an fp32 gradient and AdamW's two moments. Activations: see `layer_bytes`; with checkpointing
    a layer keeps its input alone, in bf16, and one layer at a time is whole.
    """
    trainable = trainable_parameters(facts, adapter)
    full = adapter.method == "full"
    rest = facts.parameters - facts.linear_parameters
    per_weight = {"none": 2.0, "int8": 1.0, "nf4": 4.127 / 8}[setup.quantization]
    weights = 4.0 * trainable if full else per_weight * facts.linear_parameters + 2.0 * rest
    states = 4.0 * trainable
    tokens = length * setup.device_batch
    layer = tokens * layer_bytes(facts, adapter, setup.quantization, length)
    activations = layer + 2 * tokens * facts.hidden * facts.layers if setup.checkpointing else layer * facts.layers
    if setup.sharding == "fsdp":
        weights /= gpus
    if setup.sharding in ("fsdp", "zero2"):
        states /= gpus
    head = 2.0 * 4 * min(tokens, 1024) * facts.vocabulary  # scored in chunks: logits and their gradient, in fp32
    return Memory(weights, 0.0 if full else 4.0 * trainable, states, 2 * states, activations, head)


def layer_bytes(facts: BaseFacts, adapter: Adapter, quantization: str, length: int) -> float:
    """Bytes that a layer keeps of one token for the way back.

    Measured on GPT-NeoX: 22.4 a unit of width for the layer itself, and with LoRA 3 for each value that an adapted matrix
    takes in (bf16 after dropout, and the dropout's mask); int8 keeps fp16 copies of what every matrix takes in; autocast,
    in which the other methods compute, adds 6, and DoRA on the attention matrix 7.7 for each value that it gives out.
    Counted in transformers' code, not measured: 46 for a LLaMA layer, whose norms compute in fp32 and whose feed-forward
    part keeps three tensors, and BLOOM's eager attention scores, 6 bytes for each head and token looked at. The other
    methods are taken for DoRA's.
    """
    matrices = facts.linears
    targets = {*adapter.targets, *adapter.feedforward} if adapter.method in ("lora", "dora", "ia3") else set()
    adapted = [matrices[name.rsplit(".", 1)[-1]] for name in targets]
    size = (22.4 if facts.architecture in ("gpt_neox", "bloom") else 46.0) * facts.hidden
    if facts.architecture == "bloom":
        size += 6.0 * facts.heads * length
    if quantization == "int8":
        size += 2.0 * sum(matrix.inputs for matrix in matrices.values())
    if adapter.method == "lora":
        return size + 3.0 * sum(matrix.inputs for matrix in adapted)
    trained = list(matrices.values()) if adapter.method == "full" else adapted
    return size + 6.0 * facts.hidden + 7.7 * sum(matrix.outputs for matrix in trained)


def flop_per_token(facts: BaseFacts, adapter: Adapter, checkpointing: bool, length: int) -> float:
    """Work of one training token.

    Frozen weights have no weight gradient: 2N forward and 2N back, N the matmul parameters; 2N more for trained weights,
    and 2N more with checkpointing, which repeats the forward pass. Causal attention: 2 * layers * width * length
    forward, 2.5 times that back.
    """
    matmul = 2.0 * facts.matmul_parameters
    attention = 2.0 * facts.layers * facts.hidden * length
    passes = 2 + (adapter.method == "full") + checkpointing
    return matmul * passes + attention * (3.5 + checkpointing)


def _fix(facts: BaseFacts, adapter: Adapter, setup: Setup, length: int, gpu: str, gpus: int) -> str:
    """The first single change, in order of what it costs, that makes the setup fit."""
    for change, words in _changes(setup, gpus):
        if memory_of(facts, adapter, change, length, gpus).total <= GPUS[gpu].memory:
            return words
    return ""


def _changes(setup: Setup, gpus: int) -> Iterator[tuple[Setup, str]]:
    batch = setup.device_batch // 2
    while batch >= setup.answers:
        yield (
            replace(setup, device_batch=batch),
            f"trainer.per_device_train_batch_size={batch // setup.answers} (same global batch, same result)",
        )
        batch //= 2
    for size in dict.fromkeys((setup.device_batch, setup.answers)):
        if not setup.checkpointing:
            one = " with trainer.per_device_train_batch_size=1" if size != setup.device_batch else ""
            yield (
                replace(setup, checkpointing=True, device_batch=size),
                f"trainer.gradient_checkpointing=true{one} (about half more work)",
            )
    for quantization in ("int8", "nf4"):
        if setup.quantization == "none":
            yield (
                Setup(quantization, True, setup.answers, "ddp", setup.answers),
                f"quantization={quantization} with trainer.gradient_checkpointing=true and a device batch of 1 (slower)",
            )
    if setup.quantization == "int8":
        yield (
            Setup("nf4", True, setup.answers, "ddp", setup.answers),
            "quantization=nf4 with trainer.gradient_checkpointing=true, device batch 1",
        )
    if gpus > 1 and setup.sharding != "fsdp":
        yield (
            Setup("none", True, 1, "fsdp"),
            "an fsdp2 config with quantization=none and trainer.gradient_checkpointing=true",
        )
