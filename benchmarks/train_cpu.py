"""Completion tokens a second of kollm, of TRL's defaults, and of a loop as the 2023 KULLM code trains.

    python benchmarks/train_cpu.py ../shared/data/alpaca_gpt4_en_1000.json

The same small GPT-NeoX with the same LoRA in fp32, the same rows, 64 rows a step and at most 8 on the device. All count
the completion tokens of the rows that they trained on, whatever else they computed. The ways take turns, and the median
of the rounds is shown, by the clock and by processor time, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, DataCollatorForSeq2Seq, Trainer, TrainingArguments
from transformers.utils import logging as transformers_logging
from trl import SFTConfig, SFTTrainer

from kollm.core.files import read_json
from kollm.core.records import Record
from kollm.recipe.load import load_recipe
from kollm.recipe.prompt import PromptTemplate
from kollm.recipe.schema import ToyBase
from kollm.recipe.tokens import TextEncoder
from kollm.services.local_model import LocalModel
from kollm.train.data import tokenise
from kollm.train.job import make_trainer
from kollm.train.model import load_model
from kollm.train.sft import TrainingRows, trainer_config
from kollm.train.toy import make_base

STEP, DEVICE, LENGTH = 64, 8, 1024
LORA = {
    "r": 16,
    "lora_alpha": 32,
    "lora_dropout": 0.05,
    "target_modules": ["query_key_value"],
    "task_type": "CAUSAL_LM",
}
SHAPE = ToyBase(hidden_size=256, layers=4, heads=4, vocab_size=8000, pretrain_steps=0)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="JSON in Alpaca form")
    parser.add_argument("--count", type=int, default=999, help="rows to train on")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args(arguments)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    values = read_json(options.rows)[: options.count]
    records = [
        Record(f"r-{n}", "alpaca", row["instruction"], row["input"], row["output"]) for n, row in enumerate(values)
    ]
    with tempfile.TemporaryDirectory() as work:
        base = Path(work) / "base"
        make_base("gpt_neox", SHAPE, [f"{r.instruction} {r.input} {r.output}" for r in records], base)
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(base)
        template = PromptTemplate.load("kullm-2023")
        examples = tokenise(records, TextEncoder(template, tokenizer), max_length=LENGTH)
        ways: dict[str, Callable[[], Any]] = {
            "kollm, packed": lambda: kollm(base, tokenizer, examples.examples, Path(work), True),
            "kollm, padded": lambda: kollm(base, tokenizer, examples.examples, Path(work), False),
            "TRL's defaults": lambda: trl_defaults(base, tokenizer, records, template, Path(work)),
            "KULLM's loop": lambda: kullm_loop(base, tokenizer, records, template, Path(work)),
        }
        timings: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, make in ways.items():
                trainer = make()
                clock, processor = time.perf_counter(), time.process_time()
                trainer.train()
                timings[name].append((time.perf_counter() - clock, time.process_time() - processor))
                print(f"{name}: {timings[name][-1][0]:.1f} s", flush=True)
        table(timings, examples.supervised, examples.tokens)


def table(timings: dict[str, list[tuple[float, float]]], supervised: int, tokens: int) -> None:
    """Print what was measured; ratios by processor time."""
    print(f"\n{tokens:,} tokens, {supervised:,} of them in completions\n")
    print("| way | seconds | completion tokens/s | processor seconds | times TRL's defaults | times KULLM's loop |")
    print("|---|---|---|---|---|---|")
    middle = {name: [statistics.median(part) for part in zip(*rounds, strict=True)] for name, rounds in timings.items()}
    for name, (clock, processor) in middle.items():
        trl, kullm = middle["TRL's defaults"][1] / processor, middle["KULLM's loop"][1] / processor
        print(f"| {name} | {clock:.1f} | {supervised / clock:,.0f} | {processor:.1f} | {trl:.2f} | {kullm:.2f} |")


def load(base: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)


def kollm(base: Path, tokenizer: Any, examples: Sequence[Any], work: Path, packed: bool) -> Trainer:
    """One epoch of StepTrainer."""
    recipe = load_recipe(
        "demo",
        [
            "trainer.num_train_epochs=1",
            f"trainer.max_length={LENGTH}",
            f"trainer.per_device_train_batch_size={2 if packed else DEVICE}",
            f"trainer.packing={str(packed).lower()}",
            "trainer.save_strategy='no'",
            "trainer.learning_rate=1e-4",
            f"global_batch_size={STEP}",
        ],
    )
    config = trainer_config(recipe, work / "kollm")
    model = load_model(recipe, LocalModel(base, str(base)), tokenizer)
    return make_trainer(recipe, config, model, TrainingRows(examples, [], tokenizer), 1)


def trl_defaults(
    base: Path, tokenizer: Any, records: Sequence[Record], template: PromptTemplate, work: Path
) -> Trainer:
    """SFTTrainer as it comes: padded, in random order, with gradient checkpointing; fp32 as the others."""
    rows = [{"prompt": template.prompt(r.instruction, r.input), "completion": r.output} for r in records]
    config = SFTConfig(
        str(work / "trl"),
        num_train_epochs=1,
        per_device_train_batch_size=DEVICE,
        gradient_accumulation_steps=STEP // DEVICE,
        max_length=LENGTH,
        learning_rate=1e-4,
        bf16=False,
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
    )
    return SFTTrainer(
        load(base),
        config,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(**LORA),
    )


def kullm_loop(base: Path, tokenizer: Any, records: Sequence[Record], template: PromptTemplate, work: Path) -> Trainer:
    """transformers' Trainer, rows of like length together, padded on the left to a multiple of 8, loss on everything."""
    tokenizer.padding_side = "left"

    def tokens(record: Record) -> dict[str, list[int]]:
        ids = tokenizer(template.text(record, ""), truncation=True, max_length=LENGTH - 1)["input_ids"]
        ids = [*ids, tokenizer.eos_token_id]
        return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": list(ids)}

    arguments = TrainingArguments(
        str(work / "kullm"),
        num_train_epochs=1,
        per_device_train_batch_size=DEVICE,
        gradient_accumulation_steps=STEP // DEVICE,
        learning_rate=1e-4,
        train_sampling_strategy="group_by_length",
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    collator = DataCollatorForSeq2Seq(tokenizer, pad_to_multiple_of=8, return_tensors="pt", padding=True)
    rows = Dataset.from_list([tokens(record) for record in records])
    model = get_peft_model(load(base), LoraConfig(**LORA))
    return Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collator)


if __name__ == "__main__":
    main()
