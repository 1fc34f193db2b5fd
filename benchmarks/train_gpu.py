"""Tokens a second, MFU and peak memory of LoRA training at Polyglot-Ko's real shapes, on one GPU.

    python benchmarks/train_gpu.py ../shared/data/alpaca_gpt4_en_1000.json --scratch /dev/shm --out train_gpu.md

A base with random bf16 weights is made on the card and saved under --scratch (26 GB for 12.8B), so that nothing is
downloaded; from there on everything is kollm's own trainer and the paper's recipe, its `-fast` variant where rows are
packed. Row lengths are those of the given file's rows, scaled to a mean of 350 tokens and cut at 2048. Beside the results
stands the ceiling: what a bf16 matrix product reaches on the same card.
"""

from __future__ import annotations

import argparse
import gc
import shutil
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from logging import getLogger
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback
from transformers.utils import logging

from kollm.core.files import read_json
from kollm.core.progress import quiet_libraries
from kollm.recipe.bases import BASES, BaseFacts, base_facts
from kollm.recipe.load import load_recipe
from kollm.recipe.schema import Recipe
from kollm.services.local_model import LocalModel
from kollm.train.data import Example
from kollm.train.gpus import GIB, gpu_named
from kollm.train.job import make_trainer
from kollm.train.model import load_model
from kollm.train.plan import Setup, flop_per_token, memory_of
from kollm.train.sft import TrainingRows, trainer_config

LENGTH, MEAN = 2048, 350
ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
MODELS = {"5.8b": "EleutherAI/polyglot-ko-5.8b", "12.8b": "EleutherAI/polyglot-ko-12.8b"}
HEAD = (
    "| base | weights | rows | also | device batch | largest microbatch, tokens | tokens/s | padded tokens/s | MFU "
    "| of the ceiling | tensors GiB | on the card GiB | planned for it GiB |"
)
RULE = "|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"


class Card(NamedTuple):
    """The device: its name, the FLOP/s that a matrix product reaches on it, and what its data sheet says; 0 for none."""

    name: str
    ceiling: float
    sheet: float

    @classmethod
    def here(cls) -> Card:
        """Look at the GPU, or the processor where there is none."""
        if not ON_GPU:
            return cls("no GPU", matrix_rate(256, 20), 0.0)
        name = torch.cuda.get_device_name()
        known = gpu_named(name)
        return cls(name, matrix_rate(), known.tflops * 1e12 if known else 0.0)

    def sentence(self) -> str:
        reached = (
            f"{self.name}, torch {torch.__version__}: a bf16 matrix product reaches {self.ceiling / 1e12:,.3g} TFLOP/s"
        )
        return f"{reached}; MFU is of the data sheet's {self.sheet / 1e12:.0f}" if self.sheet else reached


class Result(NamedTuple):
    """What one configuration reached.

    Attributes:
        real: tokens of rows a second.
        computed: tokens a second with padding.
        flop: work of a token.
        largest: tokens of the largest microbatch, padding included.
        allocated: bytes of tensors at the peak.
        used: bytes taken on the card, with the allocator's reserve and CUDA's context.
        planned: bytes that `kollm plan`'s formula gives for that microbatch.
    """

    real: float
    computed: float
    flop: float
    largest: int
    allocated: int
    used: int
    planned: float


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="JSON in Alpaca form, for the lengths of its rows")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument(
        "--variant",
        action="append",
        metavar="'KEY=VALUE ...'",
        help="a line of the table: what it overrides of the -fast recipe; by default six lines",
    )
    parser.add_argument("--step-rows", type=int, default=96, help="rows of an optimizer step")
    parser.add_argument("--warm-up", type=int, default=2, help="steps that are not timed")
    parser.add_argument("--steps", type=int, default=3, help="timed steps")
    parser.add_argument("--scratch", type=Path, help="where the bases are saved; a temporary folder by default")
    parser.add_argument("--profile", action="store_true", help="print the kernels of one step")
    parser.add_argument("--out", type=Path, help="also write the table there")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        raise SystemExit("No GPU here: this benchmark needs one - see benchmarks/train_cpu.py for a processor.")
    be_quiet()
    examples = make_examples(read_json(options.rows))
    card = Card.here()
    head = [card.sentence(), "", HEAD, RULE]
    lines = list(head)
    print("\n".join(head), flush=True)
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        for short in options.models:
            base = make_base(BASES[MODELS[short]], Path(scratch) / short)
            for variant in options.variant or default_variants(short):
                recipe = make_recipe(short, variant, options)
                lines.append(line(short, variant, recipe, base, examples, options, card))
                print(lines[-1], flush=True)
                if options.out:
                    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
            shutil.rmtree(base)


def default_variants(short: str) -> list[str]:
    """bf16, int8 and NF4, packed as the -fast recipe has it and padded as the paper's has it."""
    batch = load_recipe(f"kullm-polyglot-{short}").trainer["per_device_train_batch_size"]
    padded = f"trainer.packing=false trainer.per_device_train_batch_size={batch}"
    return [f"quantization={kind} {rows}".strip() for kind in ("none", "int8", "nf4") for rows in ("", padded)]


def make_recipe(short: str, variant: str, options: argparse.Namespace) -> Recipe:
    """The paper's recipe in its fast form, overridden, for some steps; checkpoints and logs left out."""
    settings = [
        f"global_batch_size={options.step_rows}",
        f"trainer.max_steps={options.warm_up + options.steps}",
        'trainer.save_strategy="no"',
        "trainer.logging_steps=1000000",
        *variant.split(),
    ]
    return load_recipe(f"kullm-polyglot-{short}-fast", settings)


def line(
    short: str,
    variant: str,
    recipe: Recipe,
    base: Path,
    examples: Sequence[Example],
    options: argparse.Namespace,
    card: Card,
) -> str:
    """One line of the table; out of memory is a result too."""
    weights = "bf16" if recipe.quantization == "none" else recipe.quantization
    rows = "packed" if recipe.trainer.get("packing") else "padded"
    shown = ("quantization=", "trainer.packing=", "trainer.per_device_train_batch_size=")
    more = " ".join(setting for setting in variant.split() if not setting.startswith(shown))
    start = f"| {short} | {weights} | {rows} | {more} | {recipe.trainer['per_device_train_batch_size']} |"
    try:
        result = measure(recipe, base, examples, options)
    except torch.OutOfMemoryError:
        return f"{start} | out of memory | | | | | | |"
    finally:
        clean()
    work = result.real * result.flop
    return (
        f"{start} {result.largest:,} | {result.real:,.0f} | {result.computed:,.0f} "
        f"| {f'{work / card.sheet:.1%}' if card.sheet else ''} | {work / card.ceiling:.1%} "
        f"| {result.allocated / GIB:.1f} | {result.used / GIB:.1f} | {result.planned / GIB:.1f} |"
    )


def measure(recipe: Recipe, base: Path, examples: Sequence[Example], options: argparse.Namespace) -> Result:
    """Train some steps that are not timed and `--steps` that are, with kollm's trainer."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
    with tempfile.TemporaryDirectory() as folder:
        config = trainer_config(recipe, Path(folder))
        model = load_model(recipe, LocalModel(base, str(base)), tokenizer)
        trainer = make_trainer(recipe, config, model, TrainingRows(examples, [], tokenizer), 1)
        clock = StepClock(options.profile)
        trainer.add_callback(clock)
        if ON_GPU:
            torch.cuda.reset_peak_memory_stats()
        trainer.train()
    allocated, used = peak()
    seconds = clock.ends[-1] - clock.ends[options.warm_up - 1]
    tokens = trainer.batches.tokens(options.warm_up, options.warm_up + options.steps)
    lengths = trainer.batches.lengths
    attended = int((lengths**2).sum() / lengths.sum())  # the row length that a mean token finds itself in
    facts, checkpointing = base_facts(str(base)), bool(config.gradient_checkpointing)
    count = (options.warm_up + options.steps) * trainer.batches.accumulation
    largest = max(_size(lengths[part], trainer.step_layout.packed) for part in islice(trainer.batches, count) if part)
    setup = Setup(recipe.quantization, checkpointing, 1, "ddp")
    return Result(
        tokens.real / seconds,
        tokens.computed / seconds,
        flop_per_token(facts, recipe.adapter, checkpointing, attended),
        largest,
        allocated,
        used,
        memory_of(facts, recipe.adapter, setup, largest, 1).total,
    )


def peak() -> tuple[int, int]:
    """Bytes of tensors at the peak, and bytes taken on the card; zeros without one."""
    if not ON_GPU:
        return 0, 0
    free, total = torch.cuda.mem_get_info()
    context = total - free - torch.cuda.memory_reserved()
    return torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved() + context


def clean() -> None:
    """Give memory back that nobody uses."""
    gc.collect()
    if ON_GPU:
        torch.cuda.empty_cache()


def wait() -> None:
    """Until the device has done what it was told."""
    if ON_GPU:
        torch.cuda.synchronize()


def be_quiet() -> None:
    """Progress bars and warnings of the libraries."""
    quiet_libraries()
    getLogger("bitsandbytes").setLevel("ERROR")  # a line for each matrix and step
    logging.disable_progress_bar()


def _size(lengths: Any, packed: bool) -> int:
    return int(lengths.sum() if packed else len(lengths) * lengths.max())


class StepClock(TrainerCallback):  # type: ignore[misc]
    """When each optimizer step ended, all of its work on the card done; on wish the kernels of the last step."""

    def __init__(self, profile: bool) -> None:
        self.ends: list[float] = []
        self._profiler: Any = torch.profiler.profile() if profile else None

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._profiler is not None and state.global_step == state.max_steps - 1:
            self._profiler.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        wait()
        self.ends.append(time.perf_counter())
        if self._profiler is not None and state.global_step == state.max_steps:
            self._profiler.stop()
            table = self._profiler.key_averages().table(
                sort_by="self_cuda_time_total", row_limit=24, max_name_column_width=60
            )
            print(table, flush=True)


def make_base(facts: BaseFacts, folder: Path) -> Path:
    """A model of a base's shape with random bf16 weights, and a tokenizer that knows one word."""
    # Both Polyglot sizes rotate 64 of a head's values.
    rotary = {"rotary_pct": min(64 * facts.heads / facts.hidden, 1.0)} if facts.architecture == "gpt_neox" else {}
    config = AutoConfig.for_model(
        facts.architecture,
        hidden_size=facts.hidden,
        num_hidden_layers=facts.layers,
        num_attention_heads=facts.heads,
        intermediate_size=facts.intermediate,
        vocab_size=facts.vocabulary,
        max_position_embeddings=facts.context,
        **rotary,
        bos_token_id=0,
        eos_token_id=0,
    )
    started = time.perf_counter()
    with torch.device(DEVICE):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    words = Tokenizer(WordLevel({"<|endoftext|>": 0}, unk_token="<|endoftext|>"))
    PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    ).save_pretrained(folder)
    del model
    clean()
    print(f"{folder.name}: {facts.parameters:,} random parameters in {time.perf_counter() - started:.0f} s", flush=True)
    return folder


def make_examples(rows: Sequence[dict[str, str]], mean: int = MEAN, words: int = 30_000) -> list[Example]:
    """Random tokens in rows as long as the file's, scaled to the mean; all under the loss but the first third."""
    characters = np.asarray([sum(len(row[key]) for key in ("instruction", "input", "output")) for row in rows])
    lengths = np.clip(characters * mean / characters.mean(), 8, LENGTH).astype(int)
    generator = np.random.default_rng(0)
    examples = []
    for index, length in enumerate(lengths):
        ids = generator.integers(3, words, length).astype(np.int32)
        labels = ids.copy()
        labels[: length // 3] = -100
        examples.append(Example(str(index), ids, labels))
    return examples


def matrix_rate(size: int = 8192, times: int = 600) -> float:
    """FLOP/s of a large bf16 matrix product on random data, over about a second on a GPU."""
    left = torch.randn(size, size, device=DEVICE, dtype=torch.bfloat16)
    right = torch.randn(size, size, device=DEVICE, dtype=torch.bfloat16)
    for _ in range(10):
        left @ right
    wait()
    started = time.perf_counter()
    for _ in range(times):
        left @ right
    wait()
    return times * 2 * size**3 / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
