"""A recipe for a base that has none: defaults that are stated, chosen by the base's architecture, the card and the rows.

recipe = new_recipe("Qwen/Qwen3-4B-Base", records)
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from kollm.core.counting import counted
from kollm.core.files import write_atomic
from kollm.core.records import Record
from kollm.recipe.bases import BaseFacts
from kollm.recipe.load import parse_recipe
from kollm.recipe.methods import METHODS, method_settings
from kollm.recipe.schema import Recipe
from kollm.services.local_model import find_whole_model, load_config
from kollm.train.gpus import gpu_named
from kollm.train.model import load_base_tokenizer
from kollm.train.packing import PACKABLE
from kollm.train.plan import Setup, memory_of
from kollm.train.prompts import make_encoder, prompt_name
from kollm.train.shapes import base_facts_of, count, linear_targets, meta_model

LEARNING_RATE = 2e-4
"""Peak rate of LoRA on all matrices: what QLoRA (arXiv 2305.14314, table 9) and TRL's LoRA guide train 7B models with."""
SAMPLE = 500
"""Rows whose lengths are looked at."""
LONGEST = 4096
"""Tokens of a row at most, unless the user asks for more."""
_BATCHES = (16, 8, 4, 2, 1)


@dataclass(frozen=True, slots=True)
class _Lengths:
    """Tokens of the rows: of nearly all, and how many rows there are."""

    long: int
    rows: int


def new_recipe(
    base: str,
    records: Iterable[Record] = (),
    *,
    name: str = "",
    revision: str | None = None,
    method: str = "sft",
) -> Recipe:
    """Make a recipe.

    Args:
        base: a folder or `ORG/NAME` on the Hub.
        records: the rows that are to be trained on; none to assume their lengths.
        name: of the recipe; by default the base's.
        revision: commit of the base.
        method: how is trained; the records of a preference method are those of both answers.

    Raises:
        InputError: there is no such base, or it is no language model.
        RecipeError: its chat template cannot be masked.
        ServiceError: the Hub cannot be reached.
    """
    under = find_whole_model(base, revision)
    config = load_config(under)
    tokenizer = load_base_tokenizer(under)
    prompt = prompt_name("auto", tokenizer)
    facts = base_facts_of(base, revision) if under.repository else count(config, base)
    context = facts.context or 2048
    lengths = _lengths(list(itertools.islice(records, 100_000)), tokenizer, prompt)
    length = min(context, LONGEST, max(256, 64 * math.ceil(lengths.long / 64)))
    preferring = method != "sft"
    packing = config.model_type in PACKABLE and not preferring
    card, quantization, batch = _fitting(facts, length)
    global_batch = 64 if lengths.rows >= 4_000 else 16
    values: dict[str, Any] = {
        "name": name or _name_of(base),
        "description": f"{base} on rows of one's own; made by kollm.",
        **({"method": method} if preferring else {}),
        "base": {
            "model": under.repository or str(Path(base)),
            "revision": under.commit,
            "dtype": "bfloat16" if torch.cuda.is_available() else "float32",
        },
        "data": {"holdout": 0.05 if lengths.rows >= 200 else 0.0},
        "prompt": prompt,
        "adapter": {
            "method": "lora",
            "r": 16,
            "alpha": 32,
            "dropout": 0.05,
            "targets": linear_targets(meta_model(config)),
        },
        "quantization": quantization,
        "trainer": {
            "learning_rate": METHODS[method].learning_rate if preferring else LEARNING_RATE,
            "lr_scheduler_type": "cosine",
            "warmup_steps": 0.05,
            "num_train_epochs": 1 if preferring or lengths.rows >= 20_000 else 3,
            "max_length": length,
            "packing": packing,
            "per_device_train_batch_size": min(batch, global_batch),
            "gradient_checkpointing": torch.cuda.is_available(),
            "logging_steps": 10,
            **method_settings(method, {}),
        },
        "generation": {"preset": "greedy"},
        "global_batch_size": global_batch,
        "origins": {**_origins(lengths, card, context, packing), **_method_origins(method)},
    }
    return parse_recipe(values, values["name"])


def recipe_text(recipe: Recipe) -> str:
    """A recipe as YAML, its first line the command that trains it."""
    values = recipe.model_dump(mode="json", exclude_defaults=True)
    body = yaml.safe_dump(values, allow_unicode=True, sort_keys=False)
    return f"# kollm train THIS_FILE --dataset ROWS -o OUT\n{body}"


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe where `kollm train` finds it again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, recipe_text(recipe))


def _lengths(records: Sequence[Record], tokenizer: Any, prompt: str) -> _Lengths:
    """The length that all but one in two hundred rows stay under."""
    if not records:
        return _Lengths(1024, 0)
    encoder = make_encoder(prompt, tokenizer)
    step = max(1, len(records) // SAMPLE)
    lengths = sorted(row.length for rows in encoder.rows(records[::step]) for row in rows)
    return _Lengths(lengths[min(len(lengths) - 1, int(len(lengths) * 0.995))], len(records))


def _fitting(facts: BaseFacts, length: int) -> tuple[str, str, int]:
    """This machine's card, and the quantisation and device batch that fit it, bf16 and the largest batch first."""
    if not torch.cuda.is_available():
        return "no GPU", "none", 4
    device = torch.cuda.get_device_name()
    card = gpu_named(device)
    memory = card.memory if card is not None else float(torch.cuda.get_device_properties(0).total_memory) * 0.97
    for quantization in ("none", "nf4"):
        for batch in _BATCHES:
            if _needed(facts, quantization, batch, length) <= memory:
                return device, quantization, batch
    return device, "nf4", 1


def _needed(facts: BaseFacts, quantization: str, batch: int, length: int) -> float:
    adapter = Recipe.model_validate({"base": {"model": facts.hub_id}}).adapter
    adapter = adapter.model_copy(update={"targets": tuple(facts.linears)})
    return memory_of(facts, adapter, Setup(quantization, True, batch, "ddp"), length, 1).total


def _origins(lengths: _Lengths, card: str, context: int, packing: bool) -> dict[str, str]:
    rows = counted(lengths.rows, "row") if lengths.rows else "no rows were given"
    return {
        "data.holdout": f"kollm's default for {rows}",
        "prompt": "what the base's tokenizer has",
        "adapter.method": "kollm's default",
        "adapter.r": "kollm's default",
        "adapter.targets": "all matrices of the layers, found in the base's configuration",
        "quantization": f"what fits here ({card}) by `kollm plan`",
        "trainer.learning_rate": "kollm's default for LoRA on all matrices (QLoRA, arXiv 2305.14314)",
        "trainer.num_train_epochs": f"kollm's default for {rows}",
        "trainer.max_length": f"99.5% of the rows are shorter; the base's context is {context}"
        if lengths.rows
        else "kollm's default",
        "trainer.packing": "rows stay apart in this architecture"
        if packing
        else "not known to keep rows apart in this architecture",
        "trainer.per_device_train_batch_size": f"what fits here ({card}); without effect on the result",
        "global_batch_size": f"kollm's default for {rows}",
    }


def _method_origins(method: str) -> dict[str, str]:
    """Where the settings of a preference method come from."""
    if method == "sft":
        return {}
    known = METHODS[method]
    trl = f"TRL's {known.config}" + (", which it keeps among its experiments" if known.experimental else "")
    return {
        "method": f"{known.title} ({known.paper}); keys of {trl}",
        "trainer.learning_rate": f"kollm's default for {method} with LoRA; papers train all weights at 5e-7 to 8e-6",
        "trainer.num_train_epochs": "kollm's default for preferences",
        "trainer.packing": f"the method {method} compares whole answers",
        **{f"trainer.{name}": key.origin for name, key in known.keys.items()},
    }


def _name_of(base: str) -> str:
    return re.sub(r"[^0-9A-Za-z가-힣.-]+", "-", base.rstrip("/").rpartition("/")[2]).strip("-").lower() or "base"
